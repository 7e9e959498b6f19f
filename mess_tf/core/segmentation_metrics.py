"""Segmentation accuracy from per-class pixel counts, data-set level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Areas:
    """Pixel counts per class of one or many images; int64 arrays of shape (C,).

    Sums of ``Areas`` are the ``Areas`` of the union of the images: a data set's mIoU
    comes from the sums, never from an average of per-image figures.
    """

    true: np.ndarray
    predicted: np.ndarray
    intersection: np.ndarray

    def __add__(self, other: Areas) -> Areas:
        return Areas(
            self.true + other.true,
            self.predicted + other.predicted,
            self.intersection + other.intersection,
        )


def count_areas(labels: np.ndarray, predicted: np.ndarray, classes: int) -> Areas:
    """Counts pixels per class, leaving out those whose label is no class.

    Args:
        labels: integer array of any shape; values >= ``classes`` are ignored.
        predicted: integer array of the same shape, values in 0..classes-1.
        classes: number of classes C.
    """
    valid = labels < classes
    true, guess = labels[valid].astype(np.int64), predicted[valid].astype(np.int64)
    pairs = np.bincount(true * classes + guess, minlength=classes * classes)
    confusion = pairs.reshape(classes, classes)
    return Areas(confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion))


def iou(areas: Areas) -> np.ndarray:
    """float64 array of shape (C,): IoU per class, NaN where a class never occurs."""
    union = areas.true + areas.predicted - areas.intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, areas.intersection / union, np.nan)


def mean_iou(areas: Areas) -> float:
    """Mean IoU in 0..1 over the classes that occur in labels or predictions."""
    values = iou(areas)
    present = ~np.isnan(values)
    return float(values[present].mean()) if present.any() else float("nan")


def image_quality(areas: Areas) -> float:
    """One image's mean IoU in 0..1 over the classes in its labels; NaN without any.

    Classes that are only predicted are left out: over a few classes, one wrong pixel of
    one more would weigh as much as a whole class.
    """
    there = areas.true > 0
    return float(iou(areas)[there].mean()) if there.any() else float("nan")


def background_class(classes: Sequence[str]) -> int | None:
    """Index of the class named ``background``; None where a data set has none."""
    names = [name.strip().lower() for name in classes]
    return names.index("background") if "background" in names else None


def foreground_accuracy(areas: Areas, background: int | None) -> float:
    """Pixel accuracy in 0..1 without the background's true positives (Table 8's pAcc).

    Background pixels that are right are left out of both counts, those that are taken
    for something else stay mistakes. NaN where nothing is left.

    Args:
        background: class index; None gives the plain pixel accuracy.
    """
    right, valid = int(areas.intersection.sum()), int(areas.true.sum())
    if background is not None:
        right -= int(areas.intersection[background])
        valid -= int(areas.intersection[background])
    return right / valid if valid else float("nan")
