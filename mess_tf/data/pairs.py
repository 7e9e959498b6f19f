"""Images with one mask file each: what all data sets of files have in common.

The module of a layout finds the pairs and says which id in a mask is which class; here
they are read and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.images import image_size, looks_complete, read_image, read_labels
from mess_tf.data.sbd import read_sbd_labels
from mess_tf.data.sources import IGNORE_LABEL, Sample, Source


@dataclass(frozen=True)
class ImageMaskPair:
    """An image, its mask and the name that both go by."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True, eq=False)
class Summary:
    """What a look through all files of a split saw.

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


Inspect = Callable[[int], tuple[tuple[int, int], np.ndarray]]
"""Index of a sample -> (height, width) and int64 array of shape (256,): its labels'
counts, ``IGNORE_LABEL`` included. MessError where it is broken."""


class PairSource:
    """Samples in pairs of files; a ``Source``.

    Masks are PNG files of ids, or SBD's ``.mat`` files.

    Args:
        pairs: sorted by name.
        classes: names, in label order.
        table: int64 array of shape (256,): id in a file -> label, -1 = unknown.
        palette: uint8 array of shape (classes, 3), RGB.
        groups: per pair.
        advice: what to do about unknown ids, for the message.
    """

    ignore_label: ClassVar[int] = IGNORE_LABEL

    def __init__(
        self,
        pairs: Sequence[ImageMaskPair],
        classes: Sequence[str],
        table: np.ndarray,
        palette: np.ndarray,
        groups: Sequence[str],
        advice: str = "Correct or replace the mask.",
    ) -> None:
        self.names = tuple(pair.name for pair in pairs)
        self.groups = tuple(groups)
        self.classes = tuple(classes)
        self.palette = palette
        self._pairs = tuple(pairs)
        self._table = table
        self._labels = table.astype(np.uint8)
        self._advice = advice

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """See ``Source.load``; void ids come back as ``IGNORE_LABEL``."""
        pair = self._pairs[index]
        image = read_image(pair.image)
        mask = _read_mask(pair.mask)
        _check_size(pair, image.shape[:2], mask.shape)
        self._check_ids(pair, np.bincount(mask.ravel(), minlength=256))
        return Sample(image, self._labels[mask])

    def validate(self, step: Callable[[], object] | None = None) -> Summary:
        """Checks every file: headers of images, sizes, ids of all masks.

        Args:
            step: called after every image, for a progress display.

        Raises:
            MessError: names the first bad file and says how many more there are.
        """
        return summarise(len(self), len(self.classes), self._inspect, step)

    def _inspect(self, index: int) -> tuple[tuple[int, int], np.ndarray]:
        pair = self._pairs[index]
        size = checked_size(pair.image)
        mask = _read_mask(pair.mask)
        _check_size(pair, size, mask.shape)
        ids = np.bincount(mask.ravel(), minlength=256)
        self._check_ids(pair, ids)
        counts = np.zeros(256, np.int64)
        np.add.at(counts, self._labels, ids)
        return size, counts

    def _check_ids(self, pair: ImageMaskPair, counts: np.ndarray) -> None:
        unknown = np.flatnonzero((counts > 0) & (self._table < 0))
        if unknown.size:
            listed = ", ".join(str(i) for i in unknown[:8])
            listed += ", ..." if unknown.size > 8 else ""
            void = self._table == IGNORE_LABEL
            raise MessError(
                f"The mask {pair.mask} has unknown label ids: {listed}. Accepted:"
                f" {_ranges((self._table >= 0) & ~void)} and void: {_ranges(void)}."
                f" {self._advice}"
            )


@runtime_checkable
class CheckedSource(Source, Protocol):
    """A source of files, which can all be looked through beforehand."""

    def validate(self, step: Callable[[], object] | None = None) -> Summary: ...


def summarise(
    images: int, classes: int, inspect: Inspect, step: Callable[[], object] | None
) -> Summary:
    """Looks through all samples; see ``PairSource.validate``."""
    pixels = np.zeros(256, np.int64)
    sizes: list[tuple[int, int]] = []
    problems: list[str] = []
    for index in range(images):
        try:
            size, counts = inspect(index)
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
    return Summary(
        images=images,
        smallest=sizes[0],
        largest=sizes[-1],
        pixels=pixels[:classes],
        void_pixels=int(pixels[IGNORE_LABEL]),
    )


def checked_size(image: Path) -> tuple[int, int]:
    """(height, width) of an image; one without its end mark is decoded whole."""
    size = image_size(image)
    if not looks_complete(image):
        read_image(image)
    return size


def id_table(ids: Sequence[int], void: Sequence[int]) -> np.ndarray:
    """A table for ``PairSource``: ``ids[k]`` in a file is label k, ``void`` none.

    Returns:
        int64 array of shape (256,).
    """
    table = np.full(256, -1, np.int64)
    table[list(void)] = IGNORE_LABEL
    table[list(ids)] = np.arange(len(ids))
    return table


def require_files(pairs: Sequence[ImageMaskPair]) -> None:
    """Refuses pairs of which a file is missing; the first is named.

    Raises:
        MessError: an image or a mask is not there.
    """
    bad = [pair for pair in pairs if not (pair.image.is_file() and pair.mask.is_file())]
    if not bad:
        return
    more = f" ({len(bad)} images lack theirs or are missing.)" if len(bad) > 1 else ""
    if bad[0].image.is_file():
        raise MessError(
            f"The image {bad[0].image} has no mask: {bad[0].mask} is missing.{more}"
        )
    raise MessError(f"The image {bad[0].image} is missing.{more}")


def _read_mask(path: Path) -> np.ndarray:
    return read_sbd_labels(path) if path.suffix == ".mat" else read_labels(path)


def _check_size(
    pair: ImageMaskPair, image: tuple[int, ...], mask: tuple[int, ...]
) -> None:
    if image != mask:
        raise MessError(
            f"The mask {pair.mask} is {mask[1]}x{mask[0]} pixels, its image"
            f" {pair.image} is {image[1]}x{image[0]}; they must be equal."
        )


def _ranges(chosen: np.ndarray) -> str:
    """Numbers of the true entries in words, e.g. ``0..10, 255``."""
    numbers = np.flatnonzero(chosen)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs
    )
