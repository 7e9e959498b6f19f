"""Cityscapes as it is distributed: ``leftImg8bit`` and ``gtFine``, 19 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.pairs import ImageMaskPair, PairSource, id_table, require_files
from mess_tf.data.sources import IGNORE_LABEL, group_names

# Class -> id in *_labelIds.png and official colour; all other ids are void.
_CLASSES = {
    "road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)), "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)), "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)), "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)), "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)), "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)), "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)), "bicycle": (33, (119, 11, 32)),
}  # fmt: skip
_LAST_ID = 33
_IMAGE_END = "_leftImg8bit"
_CITY = r"^([^_]+)_"


def open_cityscapes(split: str, *, path: Path | str, group: str = "") -> PairSource:
    """Opens one split of Cityscapes' fine annotations.

    Args:
        split: ``train`` or ``val`` (the masks of ``test`` hold no labels).
        path: folder with ``leftImg8bit`` and ``gtFine``.
        group: regular expression, see ``sources.group_names``; empty: the city.

    Raises:
        MessError: a folder, an image or a mask is missing; the message names it.
    """
    folder = Path(path) / "leftImg8bit" / split
    images = sorted(folder.glob(f"*/*{_IMAGE_END}.png"), key=lambda file: file.name)
    if not images:
        raise MessError(
            f"There is no image CITY/*{_IMAGE_END}.png in {folder}; set data.path to"
            " the folder with leftImg8bit and gtFine."
        )
    masks = Path(path) / "gtFine" / split
    pairs = []
    for image in images:
        name = image.stem.removesuffix(_IMAGE_END)
        mask = masks / image.parent.name / f"{name}_gtFine_labelIds.png"
        pairs.append(ImageMaskPair(name, image, mask))
    require_files(pairs)
    ids = [number for number, _ in _CLASSES.values()]
    # A licence plate is -1 among the labels' definitions, 255 in an 8-bit file.
    table = id_table(ids, [*range(_LAST_ID + 1), IGNORE_LABEL])
    return PairSource(
        pairs,
        tuple(_CLASSES),
        table,
        np.array([colour for _, colour in _CLASSES.values()], np.uint8),
        group_names([pair.name for pair in pairs], group or _CITY, split),
    )
