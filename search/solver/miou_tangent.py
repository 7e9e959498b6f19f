"""The mIoU's linear stand-in, and by how much it can be wrong.

With a class's summed intersection I and union U, any r, w and reference union U0,

    I/U = r + w x + x (U0/U - w)        where x = (I - r U) / U0.

The first two terms are linear in the images; the last one is the *excess*. Where x
and U/U0 lie in known ranges, it is largest at one of the four corners (it is linear in
x and in 1/U). Averaged over the classes this bounds the mIoU from above.

With w = 1 this is the tangent at the reference. What is worse than the reference has
mostly larger unions as well: false positives come with what is missed. There the excess
is positive, and a w near U0/U makes it smaller where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.problem import Problem

# Any w is valid; what counts is how many sets survive the first bounds.
_LEAST_WEIGHT = 0.2
_EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Linear:
    """The tangent at one configuration's class sums.

    Only classes that the labels contain are in it (C of them): counting a class that is
    only predicted, with 0, can but lower the true mIoU.

    Attributes:
        answer: int64 array of shape (I,), head per image of the reference.
        reference: its mIoU over the classes here.
        constant: it, and the sum of what was taken out of ``score``.
        score: float32 array of shape (H, I): mIoU <= constant + sum over images of the
            score at the head taken + mean excess. Per image, the score of the
            reference's answer was taken out, which keeps the numbers small.
        parts: float32 array of shape (H, I, 2C): x and U/U0 of each image, so that
            sums over images give the ranges the excess needs.
        weight: float64 array of shape (C,): w.
        least_union: float32 array of shape (C,): U/U0 is never below this.
        rounding: sums in float32 are this exact, in units of mIoU.
    """

    answer: np.ndarray
    reference: float
    constant: float
    score: np.ndarray
    parts: np.ndarray
    weight: np.ndarray
    least_union: np.ndarray
    rounding: float

    @classmethod
    def at(cls, problem: Problem, answer: np.ndarray) -> Linear:
        """Touches the mIoU where each image takes the head ``answer``; w is 1.

        Args:
            answer: int64 array of shape (I,), head index per image.
        """
        seen = np.flatnonzero(problem.labelled)
        images = np.arange(problem.images)
        both = problem.intersection[answer, images][:, seen].sum(0, dtype=np.float64)
        union = problem.union[answer, images][:, seen].sum(0, dtype=np.float64)
        rate, classes = both / union, len(seen)
        parts = np.empty((*problem.union.shape[:2], 2 * classes), np.float32)
        for head in range(len(problem.heads)):
            own = problem.union[head][:, seen] / union
            parts[head, :, :classes] = problem.intersection[head][:, seen] / union
            parts[head, :, :classes] -= rate * own
            parts[head, :, classes:] = own
        return cls._of(parts, answer, float(rate.mean()), np.ones(classes))

    def leaning(self, unions: np.ndarray) -> Linear:
        """The same with w for typical unions of at most 1 / ``_LEAST_WEIGHT``.

        Args:
            unions: array of shape (n, C), U/U0 of configurations, or their upper ends.
        """
        weight = 1 / np.clip(np.median(unions, axis=0), 1.0, 1 / _LEAST_WEIGHT)
        return self._of(self.parts, self.answer, self.reference, weight)

    @classmethod
    def _of(
        cls,
        parts: np.ndarray,
        answer: np.ndarray,
        reference: float,
        weight: np.ndarray,
    ) -> Linear:
        classes = len(weight)
        score = parts[:, :, :classes] @ (weight / classes)
        taken = score[answer, np.arange(len(answer))]
        score -= taken
        widest = float(np.abs(score).max(0).sum()) + 1.0
        return cls(
            answer=answer,
            reference=reference,
            constant=float(reference + taken.sum()),
            score=score.astype(np.float32),
            parts=parts,
            weight=weight,
            least_union=parts[:, :, classes:].min(0).sum(0),
            rounding=_EPS32 * (16 + len(answer)) * widest * 0.25 + 1e-9,
        )

    @property
    def classes(self) -> int:
        return self.parts.shape[2] // 2

    def excess(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Largest mean excess with class sums anywhere in their ranges.

        Args:
            low, high: arrays of shape (..., 2C), sums of ``parts``.

        Returns:
            array of shape (...).
        """
        n = self.classes
        union_low = np.maximum(low[..., n:], self.least_union)
        union_high = np.maximum(high[..., n:], union_low)
        steep, flat = 1 / union_low - self.weight, 1 / union_high - self.weight
        best = high[..., :n] * steep
        for x, slope in ((high, flat), (low, steep), (low, flat)):
            np.maximum(best, x[..., :n] * slope, out=best)
        return best.mean(-1)
