"""Label maps from COCO's object outlines: polygons, and run lengths for crowds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.data.sources import IGNORE_LABEL


@dataclass(frozen=True, eq=False)
class Region:
    """Where one object is.

    Attributes:
        label: its class.
        polygons: float64 arrays of shape (2 n,): x, y, x, y, ... in pixels; the object
            is their union.
        runs: int64 array: lengths of runs of 0 and 1 in turn, down the columns; None
            for an object of polygons.
    """

    label: int
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None


def read_region(label: int, segmentation: Any, height: int, width: int) -> Region:
    """Makes a region of an annotation's ``segmentation``.

    Args:
        label: of the object.
        segmentation: a list of polygons, or ``{"counts": ..., "size": [h, w]}`` with
            the run lengths as a list or in COCO's compressed text.
        height, width: of the image, in pixels.

    Raises:
        ValueError: it is neither, or does not fit the image; the message says why.
    """
    if isinstance(segmentation, dict):
        return Region(label, runs=_read_runs(segmentation, height, width))
    if not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    polygons = []
    for points in segmentation:
        polygon = _read_polygon(points, height, width)
        if polygon.size >= 6:  # fewer corners enclose nothing
            polygons.append(polygon)
    return Region(label, tuple(polygons))


def paint(regions: Sequence[Region], height: int, width: int) -> np.ndarray:
    """Draws regions into a label map; what two or more cover is void.

    Returns:
        uint8 array of shape (height, width): labels, 0 where there is no region,
            ``IGNORE_LABEL`` where regions overlap.
    """
    labels = np.zeros((height, width), np.uint8)
    covered = np.zeros((height, width), bool)
    overlaps = np.zeros((height, width), bool)
    for region in regions:
        mask = _mask(region, height, width)
        overlaps |= covered & mask
        covered |= mask
        labels[mask] = region.label
    labels[overlaps] = IGNORE_LABEL
    return labels


def _mask(region: Region, height: int, width: int) -> np.ndarray:
    """bool array of shape (height, width)."""
    if region.runs is not None:
        values = np.arange(len(region.runs)) % 2 == 1
        columns = np.repeat(values, region.runs).reshape(width, height)
        return columns.T
    if not region.polygons:
        return np.zeros((height, width), bool)
    from pycocotools import mask as coco

    outlines = [polygon.tolist() for polygon in region.polygons]
    runs = coco.merge(coco.frPyObjects(outlines, height, width))
    decoded: np.ndarray = coco.decode(runs)
    return decoded.astype(bool)


def _read_polygon(points: Any, height: int, width: int) -> np.ndarray:
    if not isinstance(points, list) or len(points) % 2:
        raise ValueError("a polygon is no list of x, y pairs")
    if not all(isinstance(value, int | float) for value in points):
        raise ValueError("a polygon has entries that are no numbers")
    polygon = np.array(points, np.float64)
    # A little beyond the border is usual; far out pycocotools would take all memory.
    sides = np.tile([width, height], len(points) // 2)
    if not ((polygon >= -sides) & (polygon <= 2 * sides)).all():
        raise ValueError("a polygon lies far outside the image")
    return polygon


def _read_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    # Not left to pycocotools: it reads beyond its memory where the runs are too short.
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(
            f"its run lengths are for an image of {size}, not [{height}, {width}]"
        )
    if isinstance(counts, str):
        counts = _decompress(counts)
    if not isinstance(counts, list) or not all(type(run) is int for run in counts):
        raise ValueError("its run lengths are neither whole numbers nor COCO's text")
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(
            f"its run lengths cover {sum(counts)} pixels, not {height * width}"
        )
    return np.array(counts, np.int64)


def _decompress(text: str) -> list[int]:
    """COCO's compressed run lengths: 5 bits and "more follows" per character.

    From the fourth number on, the difference to the last but one is stored.
    """
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its run lengths contain the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return numbers
