"""Whether reading VOC with two workers keeps up with the training step that it feeds.

    python benchmarks/bench_voc.py --set network.backbone=mobilenet_v2 training.batch=4

Draws images of VOC's usual sizes into VOC's layout (JPEG photographs, palette PNGs,
every second mask a MATLAB file of SBD), and reads them by the recipe ``voc``: nothing
comes from a cache, as with 10,582 images that do not fit into one. Then stage 1 of the
recipe (random weights) is stepped on one ready batch again and again, and fed by the
loader. Rates are wall-clock and mean little while something else runs on the machine;
processor time per image means more then.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from bench_loader import rate
from PIL import Image
from scipy.io import savemat

from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.assemble import BatchMaker
from mess_tf.data.augment import Augmentation
from mess_tf.data.dataset import open_split
from mess_tf.data.drawn import open_drawn
from mess_tf.data.prefetch import Batch, Prefetcher
from mess_tf.data.voc import CLASSES, voc_palette
from mess_tf.recipe.files import load_recipe
from mess_tf.recipe.recipe import Recipe
from mess_tf.terminal.output_capture import capture_output

SIZES = ((375, 500), (500, 375), (333, 500))


def write_voc(folder: Path, count: int) -> None:
    """Draws ``count`` images into ``folder/VOC2012`` and ``folder/dataset``."""
    root, sbd = folder / "VOC2012", folder / "dataset"
    lists = root / "ImageSets/Segmentation"
    for part in (lists, root / "JPEGImages", root / "SegmentationClass", sbd / "cls"):
        part.mkdir(parents=True)
    names = [f"2007_{number:06d}" for number in range(count)]
    palette = voc_palette(256).ravel().tolist()
    for number, name in enumerate(names):
        size = SIZES[number % len(SIZES)]
        sample = open_drawn("voc", count=count, size=size).load(number)
        photo = root / f"JPEGImages/{name}.jpg"
        Image.fromarray(sample.image).save(photo, quality=90)
        if number % 2:
            field = {"Segmentation": sample.labels}
            savemat(sbd / f"cls/{name}.mat", {"GTcls": field}, do_compression=True)
        else:
            mask = Image.fromarray(sample.labels, mode="L").convert("P")
            mask.putpalette(palette)
            mask.putdata(sample.labels.ravel().tolist())
            mask.save(root / f"SegmentationClass/{name}.png")
    (lists / "train.txt").write_text("\n".join(names[::2]))
    (lists / "val.txt").write_text("other")
    (sbd / "train.txt").write_text("\n".join(names[1::2]))
    (sbd / "val.txt").write_text(names[0])


def batches_of(recipe: Recipe) -> BatchMaker:
    """Training batches of a recipe, without a cache."""
    training, network = recipe.training, recipe.network
    source = open_split(recipe.data, recipe.data.train)
    augmentation = Augmentation(
        training.scale_min, training.scale_max, training.crop, network.output_stride
    )
    return BatchMaker(
        source,
        range(len(source)),
        training.batch,
        network.height,
        network.width,
        Preprocessing(),
        augmentation,
        training.loss_stride,
    )


def bench_loader(maker: BatchMaker, workers: int) -> None:
    """Prints the loader's own speed."""
    with Prefetcher(maker, workers) as pool:
        list(islice(pool.epoch(0), 1))  # files into the system's memory
        busy = time.process_time()
        alone = rate(batch for epoch in (1, 2) for batch in pool.epoch(epoch))
        busy = time.process_time() - busy
    each_ms = busy * 1e3 / (2 * len(maker) * maker.batch)
    print(f"loader, {workers} workers: {alone:.1f} img/s, {each_ms:.1f} CPU ms/image")


def bench_step(
    maker: BatchMaker, recipe: Recipe, workers: int, steps: int
) -> tuple[float, float]:
    """Images per second of training steps on a ready batch, and fed by the loader."""
    from mess_tf.models.supernet import build_supernet
    from mess_tf.training.schedule import Optimisation
    from mess_tf.training.stage_one import StageOne, stage_one_spec
    from mess_tf.training.train import design_from_recipe

    spec = design_from_recipe(recipe, CLASSES)
    weights = np.ones(len(CLASSES), np.float32)
    optimisation = Optimisation(total_steps=10 * steps)
    stage = StageOne(build_supernet(stage_one_spec(spec)), optimisation, weights)
    ready = maker.make(0, 0)

    def train(batches: Iterable[Batch]) -> Iterable[Batch]:
        for number, batch in enumerate(batches):
            stage.step(*batch, step=number)
            yield batch

    list(train([ready] * 2))  # traces the graph and warms up
    alone = rate(train([ready] * steps))
    with Prefetcher(maker, workers) as pool:
        fed = rate(train(islice(pool.epoch(1), steps)))
    return alone, fed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_voc(folder, options.images)
        changes = [f"data.sbd={folder}", "data.trainaug_images=0", *options.set]
        recipe = load_recipe("voc", data=folder, changes=changes)
        maker = batches_of(recipe)
        crop = "x".join(map(str, maker.crop_size))
        print(f"{options.images} images, crop {crop}, batch {maker.batch}")
        bench_loader(maker, options.workers)
        with capture_output():
            alone, fed = bench_step(maker, recipe, options.workers, options.steps)
        print(f"training step: {alone:.2f} img/s on a ready batch, {fed:.2f} fed")


if __name__ == "__main__":
    main()
