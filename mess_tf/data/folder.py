"""A data set in a folder: ``images/<split>``, ``masks/<split>`` and ``classes.txt``.

Masks are PNG files of 8-bit label ids, named like their images; ``classes.txt`` holds
one class name per line, in the order of the ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mess_tf.data.images import (
    IMAGE_SUFFIXES,
    image_size,
    looks_complete,
    read_image,
    read_labels,
)
from mess_tf.data.sources import IGNORE_LABEL, Sample, default_palette, group_names
from mess_tf.errors import MessError

_MOST_CLASSES = 254


@dataclass(frozen=True, eq=False)
class FolderSummary:
    """What ``FolderSource.validate`` saw.

    Attributes:
        images: how many.
        smallest, largest: (height, width) by area.
        pixels: int64 array of shape (classes,): pixels per class over all masks.
        void_pixels: pixels that count nowhere.
    """

    images: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    pixels: np.ndarray
    void_pixels: int


class FolderSource:
    """One split of a folder data set; a ``Source``.

    Args:
        path: the data set's folder.
        split: name of the subfolder of ``images`` and ``masks``.
        ignore_label: the id that means void *in the files*. None or 255: both 255 and
            the number of classes do. 255 is void in any case.
        group: regular expression, see ``sources.group_names``.

    Raises:
        MessError: something is missing; the message names it. Files are not opened
            here: see ``validate``.
    """

    def __init__(
        self,
        path: Path | str,
        split: str,
        *,
        ignore_label: int | None = None,
        group: str = "",
    ) -> None:
        self.path = Path(path)
        self.split = split
        self.classes = _read_classes(self.path)
        self.ignore_label = IGNORE_LABEL
        self.palette = default_palette(len(self.classes))
        self._table = _label_table(len(self.classes), ignore_label)
        self._labels = self._table.astype(np.uint8)
        self._images, self._masks = _find_pairs(self.path, split)
        self.names = tuple(image.stem for image in self._images)
        self.groups = group_names(self.names, group, split)

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """See ``Source.load``; void ids come back as ``IGNORE_LABEL``."""
        image = read_image(self._images[index])
        mask = read_labels(self._masks[index])
        self._check_size(index, image.shape[:2], mask.shape)
        self._check_ids(index, np.bincount(mask.ravel(), minlength=256))
        return Sample(image, self._labels[mask])

    def validate(self, step: Callable[[], object] | None = None) -> FolderSummary:
        """Checks every file: headers of images, sizes, ids of all masks.

        A JPEG or PNG without its end mark is decoded whole.

        Args:
            step: called after every image, for a progress display.

        Raises:
            MessError: names the first bad file and says how many more there are.
        """
        pixels = np.zeros(256, np.int64)
        sizes: list[tuple[int, int]] = []
        problems: list[str] = []
        for index in range(len(self)):
            try:
                size, counts = self._inspect(index)
                sizes.append(size)
                pixels += counts
            except MessError as error:
                problems.append(str(error))
            if step is not None:
                step()
        if problems:
            more = len(problems) - 1
            also = f" ({more} more files of this split are bad too.)" if more else ""
            raise MessError(problems[0] + also)
        sizes.sort(key=lambda size: size[0] * size[1])
        classes = np.zeros(len(self.classes), np.int64)
        known = self._table < len(self.classes)
        np.add.at(classes, self._table[known], pixels[known])
        return FolderSummary(
            images=len(self),
            smallest=sizes[0],
            largest=sizes[-1],
            pixels=classes,
            void_pixels=int(pixels.sum() - classes.sum()),
        )

    def _inspect(self, index: int) -> tuple[tuple[int, int], np.ndarray]:
        """(height, width) of an image and the counts of its mask's 256 ids."""
        image = self._images[index]
        size = image_size(image)
        if not looks_complete(image):
            read_image(image)
        mask = read_labels(self._masks[index])
        self._check_size(index, size, mask.shape)
        counts = np.bincount(mask.ravel(), minlength=256)
        self._check_ids(index, counts)
        return size, counts

    def _check_size(
        self, index: int, image: tuple[int, ...], mask: tuple[int, ...]
    ) -> None:
        if image != mask:
            raise MessError(
                f"The mask {self._masks[index]} is {mask[1]}x{mask[0]} pixels, its"
                f" image {self._images[index]} is {image[1]}x{image[0]}; they must be"
                " equal."
            )

    def _check_ids(self, index: int, counts: np.ndarray) -> None:
        unknown = np.flatnonzero((counts > 0) & (self._table < 0))
        if unknown.size:
            listed = ", ".join(str(i) for i in unknown[:8])
            listed += ", ..." if unknown.size > 8 else ""
            last = len(self.classes) - 1
            void = ", ".join(
                str(i) for i in np.flatnonzero(self._table == IGNORE_LABEL)
            )
            raise MessError(
                f"The mask {self._masks[index]} has unknown label ids: {listed}."
                f" Accepted: 0..{last} ({self.path / 'classes.txt'}) and void: {void}."
                " Correct the mask, or set data.ignore_label."
            )


def open_folder(
    split: str,
    *,
    path: Path | str,
    ignore_label: int | None = None,
    group: str = "",
) -> FolderSource:
    """Opens a split of a folder data set; see ``FolderSource``."""
    return FolderSource(path, split, ignore_label=ignore_label, group=group)


def _label_table(classes: int, ignore_label: int | None) -> np.ndarray:
    """int64 array of shape (256,): id in a file -> label in memory, -1 = unknown."""
    table = np.full(256, -1, np.int64)
    table[:classes] = np.arange(classes)
    table[IGNORE_LABEL] = IGNORE_LABEL
    if ignore_label is None or ignore_label == IGNORE_LABEL:
        table[classes] = IGNORE_LABEL
    elif 0 <= ignore_label <= 255:
        table[ignore_label] = IGNORE_LABEL
    else:
        raise MessError(f"The ignore label {ignore_label} is not in 0..255.")
    return table


def _read_classes(path: Path) -> tuple[str, ...]:
    if not path.is_dir():
        raise MessError(f"There is no data set folder {path}; set data.path.")
    file = path / "classes.txt"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MessError(
            f"There is no {file}; write one class name per line, in the order of"
            " the ids."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MessError(
            f"The list of classes {file} cannot be read: {error}."
        ) from error
    classes = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 2 <= len(classes) <= _MOST_CLASSES:
        raise MessError(
            f"{file} names {len(classes)} classes; accepted: 2..{_MOST_CLASSES}, one"
            " per line."
        )
    for name in classes:
        if classes.count(name) > 1:
            raise MessError(f"{file} names the class {name!r} twice.")
    return classes


def _find_pairs(path: Path, split: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Images of a split sorted by name, and their masks (that exist)."""
    folder = path / "images" / split
    if not folder.is_dir():
        splits = sorted(p.name for p in (path / "images").glob("*") if p.is_dir())
        raise MessError(
            f"There is no split {split!r}: {folder} is missing; found under"
            f" {path / 'images'}: {', '.join(splits) or 'nothing'}."
        )
    # Names with a leading dot are other programs' leavings (macOS: ._NAME.jpg).
    images = sorted(
        (
            p
            for p in folder.iterdir()
            if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ),
        key=lambda p: p.stem,
    )
    if not images:
        raise MessError(
            f"The split {split!r} is empty: no image in {folder} (accepted:"
            f" {', '.join(IMAGE_SUFFIXES)})."
        )
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise MessError(
                f"Two images share one name and so one mask: {one} and {other.name};"
                " rename or remove one."
            )
    masks = tuple(path / "masks" / split / f"{image.stem}.png" for image in images)
    missing = [(i, m) for i, m in zip(images, masks, strict=True) if not m.is_file()]
    if missing:
        more = f" ({len(missing)} images have none.)" if len(missing) > 1 else ""
        raise MessError(
            f"The image {missing[0][0]} has no mask: {missing[0][1]} is missing.{more}"
        )
    return tuple(images), masks
