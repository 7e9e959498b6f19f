"""MS COCO as it is distributed, mapped to VOC's 20 classes and background.

Label maps are drawn from ``annotations/instances_<split>.json`` (METHOD of the common
reference training): objects of other categories are background; pixels of two or more
objects are void; a crowd counts as an object of its class. For training, images whose
objects of these classes cover no more than 1,000 pixels in all are left out; for
validation none are.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.coco_masks import Region, paint, read_region
from mess_tf.data.images import read_image
from mess_tf.data.pairs import Summary, checked_size, summarise
from mess_tf.data.sources import BY_IMAGE, IGNORE_LABEL, Sample, group_names
from mess_tf.data.voc import CLASSES, voc_palette

CATEGORIES = {
    "airplane": 5, "bicycle": 2, "bird": 16, "boat": 9, "bottle": 44, "bus": 6,
    "car": 3, "cat": 17, "chair": 62, "cow": 21, "dining table": 67, "dog": 18,
    "horse": 19, "motorcycle": 4, "person": 1, "potted plant": 64, "sheep": 20,
    "couch": 63, "train": 7, "tv": 72,
}  # fmt: skip
"""COCO's names and ids of VOC's classes, in VOC's order."""

SMALLEST_AREA = 1000
"""Square pixels that a training image's objects must exceed together."""

_LABELS = {number: k for k, number in enumerate(CATEGORIES.values(), start=1)}


@dataclass
class _Image:
    """An image of the annotations, with the objects of mapped classes."""

    file: str
    height: int
    width: int
    area: float = 0.0
    regions: list[Region] = field(default_factory=list)


class CocoSource:
    """One split of MS COCO; a ``Source``. Opened by ``open_coco``."""

    classes: ClassVar[tuple[str, ...]] = CLASSES
    ignore_label: ClassVar[int] = IGNORE_LABEL

    def __init__(
        self, folder: Path, annotations: Path, images: list[_Image], group: str
    ) -> None:
        self.palette = voc_palette(len(CLASSES))
        self.names = tuple(Path(image.file).stem for image in images)
        self.groups = group_names(self.names, group or BY_IMAGE, folder.name)
        self._folder = folder
        self._annotations = annotations
        self._images = images

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """See ``Source.load``."""
        pixels = read_image(self._folder / self._images[index].file)
        self._check_size(index, pixels.shape[:2])
        return Sample(pixels, self._paint(index))

    def validate(self, step: Callable[[], object] | None = None) -> Summary:
        """Checks every image's header and size; see ``PairSource.validate``."""
        return summarise(len(self), len(CLASSES), self._inspect, step)

    def _inspect(self, index: int) -> tuple[tuple[int, int], np.ndarray]:
        size = checked_size(self._folder / self._images[index].file)
        self._check_size(index, size)
        return size, np.bincount(self._paint(index).ravel(), minlength=256)

    def _paint(self, index: int) -> np.ndarray:
        image = self._images[index]
        return paint(image.regions, image.height, image.width)

    def _check_size(self, index: int, size: tuple[int, ...]) -> None:
        image = self._images[index]
        if size != (image.height, image.width):
            raise MessError(
                f"The image {self._folder / image.file} is {size[1]}x{size[0]} pixels,"
                f" in {self._annotations} it is {image.width}x{image.height}; they must"
                " be equal. Replace the image."
            )


def open_coco(
    split: str, *, path: Path | str, training: bool = False, group: str = ""
) -> CocoSource:
    """Opens one split of COCO, e.g. ``train2017`` or ``val2017``.

    Args:
        split: of ``annotations/instances_<split>.json``; the images lie in ``<split>``
            or ``images/<split>``.
        path: of COCO's folder.
        training: leaves out images with (nearly) nothing but background.
        group: regular expression, see ``sources.group_names``; empty: every image.

    Raises:
        MessError: annotations or images are missing or broken; the file is named.
    """
    root = Path(path)
    annotations = root / "annotations" / f"instances_{split}.json"
    table = _read_json(annotations)
    images = _read_annotations(annotations, table)
    del table
    chosen = sorted(
        (i for i in images if not training or i.area > SMALLEST_AREA),
        key=lambda image: Path(image.file).stem,
    )
    if not chosen:
        raise MessError(f"{annotations} has no image with an object of VOC's classes.")
    for one, other in itertools.pairwise(chosen):
        if Path(one.file).stem == Path(other.file).stem:
            raise MessError(f"{annotations} lists the image {one.file} twice.")
    folder = _image_folder(root, split)
    there = {file.name for file in folder.iterdir()}
    missing = [image.file for image in chosen if image.file not in there]
    if missing:
        more = f" ({len(missing)} images are missing.)" if len(missing) > 1 else ""
        raise MessError(f"The image {folder / missing[0]} is missing.{more}")
    return CocoSource(folder, annotations, chosen, group)


def _image_folder(root: Path, split: str) -> Path:
    for folder in (root / split, root / "images" / split):
        if folder.is_dir():
            return folder
    raise MessError(
        f"There is no folder {root / split} (nor images/{split}) with COCO's images."
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(file.read_bytes())
    except FileNotFoundError:
        found = ", ".join(
            sorted(f.stem[10:] for f in file.parent.glob("instances_*.json"))
        )
        raise MessError(
            f"There is no {file}; splits found in {file.parent}: {found or 'none'}."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise MessError(
            f"The annotations {file} cannot be read ({reason}); replace the file."
        ) from error
    if not isinstance(table, dict):
        raise MessError(f"The annotations {file} are no JSON object; replace the file.")
    return table


def _read_annotations(file: Path, table: dict[str, Any]) -> list[_Image]:
    """All images of the annotations, each with its objects of VOC's classes."""
    try:
        categories = {row["name"]: row["id"] for row in table["categories"]}
        images = {
            row["id"]: _Image(str(row["file_name"]), int(row["height"]),
                              int(row["width"]))
            for row in table["images"]
        }  # fmt: skip
        annotations = list(table["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise MessError(
            f"{file} is no annotation file of COCO ({type(error).__name__}: {error});"
            " expected images, annotations and categories as in instances_val2017.json."
        ) from error
    for name, number in CATEGORIES.items():
        if categories.get(name) != number:
            raise MessError(
                f"{file} gives the category {name!r} the id {categories.get(name)};"
                f" in MS COCO it is {number}. Only COCO's categories are mapped."
            )
    for row in annotations:
        try:
            _add_object(images, row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            which = row.get("id") if isinstance(row, dict) else row
            reason = f"{error.args[0]!r} is unknown or missing"
            reason = str(error) if isinstance(error, ValueError) else reason
            raise MessError(
                f"The annotation {which} in {file} cannot be used: {reason}. Replace"
                " the file."
            ) from error
    return list(images.values())


def _add_object(images: dict[Any, _Image], row: dict[str, Any]) -> None:
    label = _LABELS.get(row["category_id"])
    if label is None:
        return
    image = images[row["image_id"]]
    region = read_region(label, row["segmentation"], image.height, image.width)
    image.regions.append(region)
    image.area += float(row["area"])
