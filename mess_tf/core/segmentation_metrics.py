"""Segmentation accuracy from per-class pixel counts, data-set level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Areas:
    """Pixel counts per class: int64 arrays of shape (..., C), C the classes.

    Sums of ``Areas`` are the ``Areas`` of the union of the images: a data set's mIoU
    comes from the sums, never from an average of per-image figures.

    Attributes:
        true: pixels labelled c.
        predicted: labelled pixels predicted as c.
        intersection: both.
    """

    true: np.ndarray
    predicted: np.ndarray
    intersection: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """Pixels labelled c, predicted as c or both."""
        return self.true + self.predicted - self.intersection

    def __add__(self, other: Areas) -> Areas:
        return Areas(
            self.true + other.true,
            self.predicted + other.predicted,
            self.intersection + other.intersection,
        )

    def __getitem__(self, images: np.ndarray) -> Areas:
        """Areas of some images, of ``Areas`` of shape (I, C)."""
        return Areas(
            self.true[images], self.predicted[images], self.intersection[images]
        )

    def sum(self, images: np.ndarray) -> Areas:
        """Areas summed over some images (repeats count again), shape (C,)."""
        return Areas(
            self.true[images].sum(axis=0),
            self.predicted[images].sum(axis=0),
            self.intersection[images].sum(axis=0),
        )

    @staticmethod
    def concatenate(parts: Sequence[Areas]) -> Areas:
        """Images of several ``Areas`` of shape (I, C) one after the other."""
        return Areas(
            np.concatenate([p.true for p in parts]),
            np.concatenate([p.predicted for p in parts]),
            np.concatenate([p.intersection for p in parts]),
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
    """IoU per class, NaN where a class never occurs; float64 of the areas' shape."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(areas.union > 0, areas.intersection / areas.union, np.nan)


def mean_iou_of_sums(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Mean IoU of areas summed over images, of many data sets at once.

    A class that neither the labels nor the prediction contain has no IoU and is left
    out; one that is only predicted counts with 0.

    Args:
        intersection: array of shape (..., C), pixels (or weighted pixels).
        union: likewise.

    Returns:
        float64 array of shape (...), 0..1; NaN where no class has a union.
    """
    return _mean_over(intersection, union, union > 0)


def mean_iou(areas: Areas) -> float:
    """Mean IoU in 0..1 over the classes that occur in labels or predictions."""
    return float(mean_iou_of_sums(areas.intersection, areas.union))


def mean_iou_of_labelled(areas: Areas) -> np.ndarray:
    """Mean IoU of each image over the classes in its labels; NaN without any.

    Classes that are only predicted are left out: over a few classes, one wrong pixel of
    one more would weigh as much as a whole class.

    Args:
        areas: of shape (..., C).

    Returns:
        float64 array of shape (...), 0..1.
    """
    return _mean_over(areas.intersection, areas.union, areas.true > 0)


def image_quality(areas: Areas) -> float:
    """``mean_iou_of_labelled`` of one image."""
    return float(mean_iou_of_labelled(areas))


def _mean_over(
    intersection: np.ndarray, union: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Mean IoU over the classes marked True; NaN where there is none."""
    per_class = np.divide(
        intersection, union, out=np.zeros(classes.shape), where=classes
    )
    count = classes.sum(-1)
    return np.divide(
        per_class.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0
    )


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
