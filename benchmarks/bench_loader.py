"""How many training images per second the loader makes, and how many a model eats.

    python benchmarks/bench_loader.py ../shared/data/camvid --model

The loader runs alone, decoding (first epoch) and from its cache (later epochs), with
different numbers of threads. With ``--model``, stage 1 of a recipe (random weights) is
stepped on one batch again and again, and then fed by the loader: the difference between
the two is what loading costs training. Rates are wall-clock and mean little while
something else runs on the machine; processor time per image means more then.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.assemble import BatchMaker
from mess_tf.data.augment import Augmentation
from mess_tf.data.cache import Cached
from mess_tf.data.folder import open_folder
from mess_tf.data.prefetch import Batch, Prefetcher
from mess_tf.terminal.output_capture import capture_output


def rate(batches: Iterable[Batch]) -> float:
    """Images per second of whatever yields batches."""
    started = time.perf_counter()
    images = sum(len(batch[0]) for batch in batches)
    return images / (time.perf_counter() - started)


def bench_loader(maker: BatchMaker, threads: list[int]) -> None:
    """Prints a line per number of threads."""
    print("threads  decoding img/s  cached img/s  cached CPU ms/image")
    for count in threads:
        cold = dataclasses.replace(maker, source=Cached(maker.source))
        with Prefetcher(cold, count) as pool:
            first = rate(pool.epoch(0))
            busy = time.process_time()
            later = rate(batch for epoch in (1, 2) for batch in pool.epoch(epoch))
            busy = time.process_time() - busy
        each_ms = busy * 1e3 / (2 * len(maker) * maker.batch)
        print(f"{count:7d}  {first:14.0f}  {later:12.0f}  {each_ms:19.2f}")


def bench_model(
    maker: BatchMaker, recipe_file: Path, steps: int
) -> tuple[float, float]:
    """A model's images per second on a ready batch, and fed by one loader thread."""
    from mess_tf.models.supernet import build_supernet
    from mess_tf.recipe.files import load_recipe
    from mess_tf.training.schedule import Optimisation
    from mess_tf.training.stage_one import StageOne, stage_one_spec
    from mess_tf.training.train import design_from_recipe

    recipe = load_recipe(recipe_file)
    spec = design_from_recipe(recipe, maker.source.classes)
    stage = StageOne(
        build_supernet(stage_one_spec(spec)),
        Optimisation(total_steps=10 * steps),
        np.ones(len(spec.classes), np.float32),
    )
    warm = dataclasses.replace(maker, source=Cached(maker.source))
    for number in range(len(warm)):
        warm.make(0, number)
    ready = warm.make(0, 0)

    def train(batches: Iterable[Batch]) -> Iterable[Batch]:
        for number, batch in enumerate(batches):
            stage.step(*batch, step=number)
            yield batch

    for _ in train([ready] * 3):
        pass  # traces the graph and warms up
    alone = rate(train([ready] * steps))
    with Prefetcher(warm, 1) as pool:
        fed = rate(train(islice(pool.epoch(1), steps)))
    return alone, fed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder data set, e.g. camvid")
    parser.add_argument("--split", default="train")
    parser.add_argument("--height", type=int, default=240, help="network input")
    parser.add_argument("--width", type=int, default=320, help="network input")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4, help="of the label grid")
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", action="store_true", help="step a model too")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/camvid.toml"))
    parser.add_argument("--steps", type=int, default=10, help="of the model")
    options = parser.parse_args()
    source = open_folder(options.split, path=options.data)
    maker = BatchMaker(
        source,
        range(len(source)),
        options.batch,
        options.height,
        options.width,
        Preprocessing(),
        Augmentation(jitter=options.jitter),
        options.stride,
    )
    crop = "x".join(map(str, maker.crop_size))
    print(f"{len(source)} images, crop {crop}, batch {options.batch}")
    bench_loader(maker, options.threads)
    if options.model:
        with capture_output():
            alone, fed = bench_model(maker, options.recipe, options.steps)
        print(f"stage 1 of {options.recipe.name}, img/s: {alone:.1f} on a ready batch,")
        print(f"{fed:.1f} fed by one loader thread")


if __name__ == "__main__":
    main()
