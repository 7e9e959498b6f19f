"""Tangent surrogate of the mIoU, linear in the images, with a bound of its remainder.

With a class's summed intersection I and union U, any r, w and reference union U0,

    I/U = r + w x + x (U0/U - w)        where x = (I - r U) / U0.

The first two terms are sums over images; the last one is the *remainder*. Where x and
the union ratio U/U0 lie in known intervals, it is largest at one of the four corners
(it is linear in x and in U0/U). Averaged over the classes this bounds the mIoU from
above.

With w = 1 the first two terms are the tangent at the reference. Configurations that are
worse than the reference mostly have larger unions as well: false positives accompany
what is missed. There the remainder is positive, and a w near U0/U makes it smaller
where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.problem import Problem

_EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class MiouTangent:
    """Surrogate of the mIoU around one configuration's class sums.

    Only classes that the labels contain are in it (C of them): counting a class that is
    only predicted, with 0, can but lower the true mIoU.

    Attributes:
        reference_heads: int64 array of shape (I,), answering head of each image in the
            reference configuration.
        reference_miou: its mIoU over the classes here, 0..1.
        constant: ``reference_miou`` plus the sum of what was subtracted from ``score``.
        score: float32 array of shape (H, I): mIoU <= constant + sum over images of the
            score at the answering head + mean remainder. Per image, the score of the
            reference's head was subtracted, which keeps the numbers small.
        class_terms: float32 array of shape (H, I, 2C): contributions of each image to
            x (first C) and to U/U0 (last C), whose sums over images give the intervals
            that bound the remainder.
        weight: float64 array of shape (C,): w.
        min_union_ratio: float32 array of shape (C,): U/U0 is never below this.
        rounding_error: mIoU; sums over images in float32 are this exact.
    """

    reference_heads: np.ndarray
    reference_miou: float
    constant: float
    score: np.ndarray
    class_terms: np.ndarray
    weight: np.ndarray
    min_union_ratio: np.ndarray
    rounding_error: float

    @classmethod
    def tangent_at(cls, problem: Problem, reference_heads: np.ndarray) -> MiouTangent:
        """Tangent (w = 1) at the configuration that routes images to these heads.

        Args:
            reference_heads: int64 array of shape (I,), head index per image.
        """
        labelled = np.flatnonzero(problem.labelled)
        images = np.arange(problem.images)
        intersection = problem.intersection[reference_heads, images][:, labelled].sum(
            0, dtype=np.float64
        )
        union = problem.union[reference_heads, images][:, labelled].sum(
            0, dtype=np.float64
        )
        iou, classes = intersection / union, len(labelled)
        class_terms = np.empty((*problem.union.shape[:2], 2 * classes), np.float32)
        for head in range(len(problem.heads)):
            ratio = problem.union[head][:, labelled] / union
            class_terms[head, :, :classes] = (
                problem.intersection[head][:, labelled] / union
            )
            class_terms[head, :, :classes] -= iou * ratio
            class_terms[head, :, classes:] = ratio
        return cls._weighted(
            class_terms, reference_heads, float(iou.mean()), np.ones(classes)
        )

    def reweighted(self, union_ratios: np.ndarray, min_weight: float) -> MiouTangent:
        """The same surrogate with w = 1 / (median union ratio).

        Args:
            union_ratios: array of shape (n, C), U/U0 of configurations, or upper ends
                of their intervals.
            min_weight: w lies between this and 1.
        """
        median = np.median(union_ratios, axis=0)
        weight = 1 / np.clip(median, 1.0, 1 / min_weight)
        return self._weighted(
            self.class_terms, self.reference_heads, self.reference_miou, weight
        )

    @classmethod
    def _weighted(
        cls,
        class_terms: np.ndarray,
        reference_heads: np.ndarray,
        reference_miou: float,
        weight: np.ndarray,
    ) -> MiouTangent:
        classes = len(weight)
        score = class_terms[:, :, :classes] @ (weight / classes)
        subtracted = score[reference_heads, np.arange(len(reference_heads))]
        score -= subtracted
        widest = float(np.abs(score).max(0).sum()) + 1.0
        rounding = _EPS32 * (16 + len(reference_heads)) * widest * 0.25 + 1e-9
        return cls(
            reference_heads=reference_heads,
            reference_miou=reference_miou,
            constant=float(reference_miou + subtracted.sum()),
            score=score.astype(np.float32),
            class_terms=class_terms,
            weight=weight,
            min_union_ratio=class_terms[:, :, classes:].min(0).sum(0),
            rounding_error=rounding,
        )

    @property
    def classes(self) -> int:
        """Number of labelled classes, C."""
        return self.class_terms.shape[2] // 2

    def remainder_bound(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Largest mean remainder with class sums anywhere in their intervals.

        Args:
            low, high: arrays of shape (..., 2C), ends of the sums of ``class_terms``.

        Returns:
            array of shape (...), in units of mIoU.
        """
        n = self.classes
        union_low = np.maximum(low[..., n:], self.min_union_ratio)
        union_high = np.maximum(high[..., n:], union_low)
        steep, flat = 1 / union_low - self.weight, 1 / union_high - self.weight
        largest = high[..., :n] * steep
        for x, slope in ((high, flat), (low, steep), (low, flat)):
            np.maximum(largest, x[..., :n] * slope, out=largest)
        return largest.mean(-1)
