"""How good a run is as the teacher of a smaller network, by what it is shown.

    python benchmarks/camvid/teacher.py RUN --data CAMVID

mIoU of its final exit on the images that train and on those that are evaluated: from
the images at its own size, and from the student's smaller ones (``recipe.toml``), as in
training with ``training.teacher``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

from rows import RECIPE

from mess_tf.core.segmentation_metrics import mean_iou
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import open_dataset
from mess_tf.data.sources import Source
from mess_tf.recipe.files import load_recipe
from mess_tf.training.step_model import areas_on_grid, total_areas
from mess_tf.training.teacher import Teacher, load_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="trained run")
    parser.add_argument("--data", type=Path, required=True, help="CamVid's folder")
    args = parser.parse_args()
    recipe = load_recipe(RECIPE, data=args.data)
    own = SupernetSpec.load(args.run / "supernet.json")
    small = dataclasses.replace(
        own, image_height=recipe.network.height, image_width=recipe.network.width
    )
    data = open_dataset(recipe.data)
    for name, source in (("training", data.train), ("evaluation", data.evaluation)):
        for student in (own, small):
            miou = miou_of(load_teacher(args.run, student), source)
            size = f"{student.image_height}x{student.image_width}"
            print(f"{name} images shown at {size}: {miou:.1%}", flush=True)


def miou_of(teacher: Teacher, source: Source) -> float:
    """Data-set mIoU at the labels' own resolution."""
    student, areas = teacher.student, []
    size = (student.image_height, student.image_width)
    for index in range(len(source)):
        sample = source.load(index)
        image = evaluation_image(sample.image, *size, student.preprocessing)
        logits = teacher.answer(image[None], sample.labels.shape)
        areas.append({"final": areas_on_grid(logits, sample.labels[None])})
    return mean_iou(total_areas(areas)["final"])


if __name__ == "__main__":
    main()
