"""Bounds for a set of configurations: one chain of heads, some gates left at each.

For every gate left, how good a configuration with it can be if each image may take any
exit that some gates left would still give it. Gates whose bound cannot reach the target
are dropped, which narrows what images may do, which tightens the bounds of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.evaluate import rank_of
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.structures import ROUNDING, Target, corner_excess

_MAX_PASSES = 6
_WORTH_ANOTHER = 0.9


@dataclass(frozen=True, eq=False)
class Node:
    """A chain of heads and, per head but the last, the gates still possible.

    Attributes:
        heads: head indices.
        gates: per early head, int64 array of gate indices.
        bound: no configuration in here has a lower value (ms, or minus the mIoU).
    """

    heads: tuple[int, ...]
    gates: tuple[np.ndarray, ...]
    bound: float

    @property
    def size(self) -> int:
        """Number of configurations in here."""
        size = 1
        for gates in self.gates:
            size *= len(gates)
        return size


@dataclass(frozen=True, eq=False)
class Tangent:
    """The mIoU's linear stand-in on a node.

    mIoU <= constant + sum over images of score[place] + slack.

    Attributes:
        score: float64 array of shape (n_heads, I).
        slack: per early head, float64 array of shape (n_gates,): valid for every
            configuration that has the gate.
    """

    constant: float
    score: np.ndarray
    slack: tuple[np.ndarray, ...]


class Bounder:
    """Narrows nodes of one problem towards one target."""

    def __init__(self, problem: Problem, target: Target, rates: np.ndarray) -> None:
        self.problem = problem
        self.target = target
        self.rates = rates
        self._classes = int(problem.labelled.sum())
        self._both = np.ascontiguousarray(problem.intersection[:, :, problem.labelled])
        self._union = np.ascontiguousarray(problem.union[:, :, problem.labelled])

    def narrow(
        self, node: Node, floor: float, ceiling_ms: float
    ) -> tuple[Node, Tangent] | None:
        """Drops gates that no useful configuration has.

        Args:
            floor: a useful configuration has at least this mIoU.
            ceiling_ms: and at most this mean latency.

        Returns:
            the narrowed node with its bound, and the tangent to filter it by; None when
            nothing useful is in it.
        """
        gates = list(node.gates)
        for _ in range(_MAX_PASSES):
            before = sum(len(g) for g in gates)
            outcome = self._pass(node.heads, gates, floor, ceiling_ms)
            if outcome is None:
                return None
            bound, tangent = outcome
            if sum(len(g) for g in gates) > _WORTH_ANOTHER * before:
                break
        return Node(node.heads, tuple(gates), max(bound, node.bound)), tangent

    def _pass(
        self,
        heads: tuple[int, ...],
        gates: list[np.ndarray],
        floor: float,
        ceiling_ms: float,
    ) -> tuple[float, Tangent] | None:
        """One round over all places; shortens ``gates`` in place."""
        problem, early, images = self.problem, len(gates), self.problem.images
        masks = [problem.gates[h].masks[g] for h, g in zip(heads, gates, strict=False)]
        prices = [
            problem.gates[h].decision_ms[g] for h, g in zip(heads, gates, strict=False)
        ]
        asked = np.cumsum([p.min() for p in prices] + [0.0])
        cost = problem.path_ms(heads) + asked
        may = np.ones((early + 1, images), bool)
        reached = np.ones(images, bool)
        surely_reached = np.ones(images, bool)
        sure = []
        for place, mask in enumerate(masks):
            may[place] = reached & (mask.max(0) > 0)
            sure.append(int(surely_reached.sum()))
            reached = reached & (mask.min(0) == 0)
            surely_reached &= mask.max(0) == 0
        may[early] = reached
        constant, score, values = self._columns(heads, cost, may)
        rates = len(self.rates)
        tops = np.where(may[:, :, None], values, -np.inf)
        bound, slacks = -np.inf, []
        for place, mask in enumerate(masks):
            upper = _best_sums(tops, may, place, mask)
            # Dearer decisions than the cheapest left are paid by all who get here.
            extra = (prices[place] - prices[place].min()) * (sure[place] / images)
            slack = self._slack(upper[:, rates + 3 :]) + ROUNDING
            total = constant + slack
            accuracy = upper[:, rates] + total
            traded = upper[:, :rates] + total[:, None] - extra[:, None] * self.rates
            fastest = extra - upper[:, rates + 1]
            keep = (accuracy >= floor - MIOU_TOLERANCE) & (
                fastest <= ceiling_ms + LATENCY_TOLERANCE_MS
            )
            keep &= upper[:, rates + 2] >= rank_of(0.9, images) - 0.5
            if ceiling_ms < np.inf:
                limits = floor - MIOU_TOLERANCE - self.rates * ceiling_ms
                keep &= (traded >= limits - self.rates * LATENCY_TOLERANCE_MS).all(1)
            if not keep.any():
                return None
            value = self._value(accuracy, traded, fastest)
            bound = max(bound, float(value[keep].min()))
            gates[place] = gates[place][keep]
            slacks.append(slack[keep])
        return bound, Tangent(constant, score, tuple(slacks))

    def _value(
        self, accuracy: np.ndarray, traded: np.ndarray, fastest: np.ndarray
    ) -> np.ndarray:
        """Lowest value a configuration with each gate can have, shape (n_gates,)."""
        target = self.target
        if target.minimise_latency:
            dual = (target.floor - MIOU_TOLERANCE - traded) / self.rates
            return np.maximum(fastest, dual.max(1))
        if target.ceiling_ms == np.inf:
            return -accuracy
        dual = traded + self.rates * (target.ceiling_ms + LATENCY_TOLERANCE_MS)
        return -np.minimum(accuracy, dual.min(1))

    def _columns(
        self, heads: tuple[int, ...], cost: np.ndarray, may: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """What is summed over images, per place: all to be bounded from above.

        Returns:
            the tangent's constant, its score of shape (n_heads, I), and the columns of
            shape (n_heads, I, M + 3 + 4C): score minus latency at each rate, score,
            minus latency, within the p90 limit, x, -x, U, -U per class.
        """
        both, union = self._both[list(heads)], self._union[list(heads)]
        allowed = may[:, :, None]
        both_low, both_high = _span(both, allowed)
        union_low, union_high = _span(union, allowed)
        # Touch the mIoU in the middle of what is possible: any point is valid, this one
        # keeps the slack small.
        rate = (both_low + both_high) / (union_low + union_high)
        weight = (1 / union_low + 1 / union_high) / 2
        excess = both - rate * union
        score = excess @ weight / self._classes
        self._weight = weight
        images = self.problem.images
        places, early = len(heads), len(self.rates)
        columns = np.empty((places, images, early + 3 + 4 * self._classes))
        columns[:, :, :early] = (
            score[:, :, None] - (self.rates / images) * cost[:, None, None]
        )
        columns[:, :, early] = score
        columns[:, :, early + 1] = -cost[:, None] / images
        columns[:, :, early + 2] = (cost <= self.target.p90_ms + LATENCY_TOLERANCE_MS)[
            :, None
        ]
        parts = columns[:, :, early + 3 :].reshape(places, images, 4, self._classes)
        parts[:, :, 0], parts[:, :, 1] = excess, -excess
        parts[:, :, 2], parts[:, :, 3] = union, -union
        columns[:, :, early + 3 :] = parts.reshape(places, images, -1)
        return float(rate.mean()), score, columns

    def _slack(self, ranges: np.ndarray) -> np.ndarray:
        n = self._classes
        x_high, x_low = ranges[:, :n], -ranges[:, n : 2 * n]
        high, low = ranges[:, 2 * n : 3 * n], -ranges[:, 3 * n :]
        return corner_excess(x_low, x_high, low, high, self._weight) / n


def _span(areas: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest sum over images if each takes any place it is allowed.

    Args:
        areas: float64 array of shape (n_places, I, C).
        allowed: bool array of shape (n_places, I, 1).

    Returns:
        two arrays of shape (C,).
    """
    low = np.where(allowed, areas, np.inf).min(0).sum(0)
    high = np.where(allowed, areas, -np.inf).max(0).sum(0)
    return low, high


def _best_sums(
    tops: np.ndarray, may: np.ndarray, place: int, mask: np.ndarray
) -> np.ndarray:
    """Per gate at ``place``, column sums when each image takes its best allowed place.

    An image that the gate lets leave is gone by ``place``; another one leaves earlier
    or later, not here.

    Args:
        tops: float64 array of shape (n_places, I, F), -inf where not allowed.
        may: bool array of shape (n_places, I).
        mask: float64 array of shape (n_gates, I).

    Returns:
        float64 array of shape (n_gates, F).
    """
    inside = tops[: place + 1].max(0)
    others = [j for j in range(len(tops)) if j != place]
    outside = tops[others].max(0)
    can_in = np.any(may[: place + 1], axis=0, keepdims=True).T
    can_out = np.any(may[others], axis=0, keepdims=True).T
    # Where one side cannot happen, every gate agrees on the other.
    inside = np.where(can_in, inside, outside)
    outside = np.where(can_out, outside, inside)
    return outside.sum(0) + mask @ (inside - outside)
