"""Bounds for a set of configurations: some gates left at each exit of a chain.

An image surely reaches an exit if no gate left at an earlier one lets it leave, and may
reach it if not all gates of an earlier one do. Where it is settled how the images go,
sums are exact for each gate and the best gate is taken *after* summing; only where two
exits are both unsettled for an image does the image choose freely.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from search.evaluate import rank_of
from search.linear import Linear
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.target import Target

_MAX_PASSES = 6
_WORTH_ANOTHER = 0.8


@dataclass(frozen=True, eq=False)
class Node:
    """A chain of heads, the gates still possible at each, and the heads that may end.

    Attributes:
        heads: early heads, in order of depth.
        gates: per early head, int64 array of gate indices.
        lasts: int64 array: heads of which one answers last, deeper than the others.
        more: up to so many further early exits may come before the last.
        bound: no configuration in here has a lower value (ms, or minus the mIoU).
        linear: the stand-in for the mIoU that bounds it.
    """

    heads: tuple[int, ...]
    gates: tuple[np.ndarray, ...]
    lasts: np.ndarray
    more: int
    bound: float
    linear: Linear

    @property
    def size(self) -> int:
        """Number of configurations in here, further exits not counted."""
        size = len(self.lasts)
        for gates in self.gates:
            size *= len(gates)
        return size


@dataclass(frozen=True, eq=False)
class _Places:
    """Which images may leave where, in a node.

    Attributes:
        masks: per early head, bool array of shape (n_gates, I).
        prices: per early head, what passing it costs per gate, ms.
        low, high: bool arrays of shape (n_early, I): all, or any, let the image leave.
        sure, may: bool arrays of shape (n_early + 1, I): the image reaches the place.
    """

    masks: list[np.ndarray]
    prices: list[np.ndarray]
    low: np.ndarray
    high: np.ndarray
    sure: np.ndarray
    may: np.ndarray


class Bounder:
    """Narrows nodes of one problem towards one target."""

    def __init__(self, problem: Problem, target: Target, rates: np.ndarray) -> None:
        """``rates``: exchange rates of mIoU against ms, float64 array of shape (M,)."""
        self.problem = problem
        self.target = target
        self.rates = rates
        longest = problem.segments_ms + problem.output_ms
        paths = float(longest.max() + problem.head_ms.sum())
        # Milliseconds summed in float32 are this exact.
        self._fine_ms = paths * (problem.images + 16) * 1.2e-7
        self._spans: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def narrow(self, node: Node, floor: float, ceiling_ms: float) -> Node | None:
        """Drops gates and last heads that no useful configuration has.

        Args:
            floor: a useful configuration has at least this mIoU.
            ceiling_ms: and at most this mean latency.

        Returns:
            the narrowed node with its bound; None when nothing useful is in it.
        """
        if self._least_bytes(node) > self.target.size_bytes:
            return None
        for _ in range(_MAX_PASSES):
            narrowed = self._pass(node, floor, ceiling_ms)
            if narrowed is None:
                return None
            worth = narrowed.size < _WORTH_ANOTHER * node.size
            node = narrowed
            if not worth:
                break
        return node

    def slack(self, node: Node) -> float:
        """By how much the tangent may lie below the mIoU in this node."""
        return self._slack(node, self._places(node)) + node.linear.rounding

    def _least_bytes(self, node: Node) -> float:
        """No configuration of the node takes fewer bytes."""
        problem = self.problem
        size = problem.head_bytes[list(node.heads)].sum()
        for head, gates in zip(node.heads, node.gates, strict=True):
            size += problem.gates[head].decision_bytes[gates].min()
        ends = problem.segments_bytes[node.lasts] + problem.head_bytes[node.lasts]
        return float(size + ends.min())

    def _pass(self, node: Node, floor: float, ceiling_ms: float) -> Node | None:
        places = self._places(node)
        early = len(node.heads)
        total = node.linear.constant + node.linear.rounding
        total += self._slack(node, places)
        leave, last = self._values(node, places)
        prices = self._price_factors()
        best = [np.zeros(0)] * early + [last.max(0)]
        for place in range(early - 1, -1, -1):
            through = np.where(
                places.high[place],
                np.maximum(leave[place], best[place + 1]),
                best[place + 1],
            )
            onward = np.where(places.low[place], leave[place], through)
            least = places.prices[place].min()
            best[place] = onward - (prices * least)[:, None]
        terms = [
            _gate_terms(places, place, leave[place], best[place + 1], prices)
            for place in range(early)
        ]
        terms.append(self._last_terms(node, places, last))
        whole = sum(term.max(0) for term in terms)
        kept, bounds = [], []
        for term in terms:
            upper = whole - term.max(0) + term
            keep = self._useful(upper, total, floor, ceiling_ms)
            if not keep.any():
                return None
            kept.append(keep)
            bounds.append(self._value(upper[keep], total).min())
        return replace(
            node,
            gates=tuple(g[k] for g, k in zip(node.gates, kept[:-1], strict=True)),
            lasts=node.lasts[kept[-1]] if not node.more else node.lasts,
            bound=max(node.bound, float(max(bounds))),
        )

    def _places(self, node: Node) -> _Places:
        problem, early = self.problem, len(node.heads)
        own = [problem.gates[h] for h in node.heads]
        masks = [o.masks[g] for o, g in zip(own, node.gates, strict=True)]
        prices = [
            problem.head_ms[h] + o.decision_ms[g]
            for h, o, g in zip(node.heads, own, node.gates, strict=True)
        ]
        shape = (early, problem.images)
        low, high = np.zeros(shape, bool), np.zeros(shape, bool)
        sure, may = (np.ones((early + 1, problem.images), bool) for _ in range(2))
        for place, mask in enumerate(masks):
            low[place], high[place] = mask.all(0), mask.any(0)
            sure[place + 1] = sure[place] & ~high[place]
            may[place + 1] = may[place] & ~low[place]
        return _Places(masks, prices, low, high, sure, may)

    def _price_factors(self) -> np.ndarray:
        """What a millisecond of passing a place costs each of the sums, per image."""
        images = self.problem.images
        return np.array([*self.rates, 0.0, 1.0, 0.0], np.float32) / images

    def _values(self, node: Node, places: _Places) -> tuple[np.ndarray, np.ndarray]:
        """What is summed over images: all to be bounded from above.

        Returns:
            per early place, float32 array of shape (n_early, M + 3, I): of leaving here
            score minus latency at each rate, score, minus latency, in time for the p90
            limit; what passing the places costs is not in it. And of the last heads,
            their own cost in it: shape (L, M + 3, I).
        """
        problem, images = self.problem, self.problem.images
        count = len(self.rates)
        factors = self._price_factors()
        limit = self.target.p90_ms + LATENCY_TOLERANCE_MS
        spent = 0.0

        def fill(out: np.ndarray, head: int, passed_ms: float, own_ms: float) -> None:
            score = node.linear.score[head]
            cost = problem.segments_ms[head] + problem.output_ms[head]
            out[: count + 1] = score
            out[count + 1 :] = 0
            out -= (factors * np.float32(cost + own_ms))[:, None]
            out[count + 2] = cost + passed_ms + own_ms <= limit

        leave = np.empty((len(node.heads), count + 3, images), np.float32)
        for place, head in enumerate(node.heads):
            spent += float(places.prices[place].min())
            fill(leave[place], head, spent, 0.0)
        last = np.empty((len(node.lasts), count + 3, images), np.float32)
        for row, head in enumerate(node.lasts):
            fill(last[row], head, spent, float(problem.head_ms[head]))
        return leave, last

    def _last_terms(self, node: Node, places: _Places, last: np.ndarray) -> np.ndarray:
        """Sums over the images that surely come to the end, shape (L, M + 3)."""
        sure = places.sure[-1]
        if node.more:
            return last.max(0)[:, sure].sum(-1, dtype=np.float64)[None]
        return last[:, :, sure].sum(-1, dtype=np.float64)

    def _useful(
        self, upper: np.ndarray, total: float, floor: float, ceiling_ms: float
    ) -> np.ndarray:
        """Which upper bounds still allow a useful configuration."""
        count = len(self.rates)
        keep = upper[:, count] + total >= floor - MIOU_TOLERANCE
        limit_ms = ceiling_ms + LATENCY_TOLERANCE_MS + self._fine_ms
        keep &= -upper[:, count + 1] <= limit_ms
        keep &= upper[:, count + 2] >= rank_of(0.9, self.problem.images) - 0.5
        if ceiling_ms < np.inf:
            limits = floor - MIOU_TOLERANCE - self.rates * limit_ms
            keep &= (upper[:, :count] + total >= limits).all(1)
        return keep

    def _value(self, upper: np.ndarray, total: float) -> np.ndarray:
        """Lowest value a configuration can have, shape (n,)."""
        target, count = self.target, len(self.rates)
        if target.minimise_latency:
            dual = target.floor - MIOU_TOLERANCE - total - upper[:, :count]
            value = np.maximum(-upper[:, count + 1], (dual / self.rates).max(1))
            return value - self._fine_ms
        best = upper[:, count] + total
        if target.ceiling_ms < np.inf:
            limit_ms = target.ceiling_ms + LATENCY_TOLERANCE_MS + self._fine_ms
            limit = self.rates * limit_ms
            best = np.minimum(best, (upper[:, :count] + total + limit).min(1))
        return -best

    def _slack(self, node: Node, places: _Places) -> float:
        """Excess from the ranges of the class sums: each image takes what it may."""
        parts = node.linear.parts
        early = len(node.heads)
        here = np.concatenate([places.may[:-1] & places.high, places.may[-1:]])
        single = here.sum(0) == 1
        low = np.zeros(parts.shape[2])
        high = np.zeros(parts.shape[2])
        for place, head in enumerate(node.heads):
            settled = (here[place] & single).astype(np.float32)
            exact = settled @ parts[head]
            low += exact
            high += exact
        end_low, end_high = self._span(parts, node.lasts)
        settled = (here[early] & single).astype(np.float32)
        low += settled @ end_low
        high += settled @ end_high
        open_ = np.flatnonzero(~single)
        if len(open_):
            least = np.full((len(open_), parts.shape[2]), np.inf, np.float32)
            most = -least
            for place, head in enumerate(node.heads):
                rows = here[place, open_]
                own = parts[head, open_[rows]]
                least[rows] = np.minimum(least[rows], own)
                most[rows] = np.maximum(most[rows], own)
            rows = here[early, open_]
            least[rows] = np.minimum(least[rows], end_low[open_[rows]])
            most[rows] = np.maximum(most[rows], end_high[open_[rows]])
            low += least.sum(0, dtype=np.float64)
            high += most.sum(0, dtype=np.float64)
        return float(node.linear.excess(low, high))

    def _span(
        self, parts: np.ndarray, heads: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest parts per image over some heads, shape (I, 2C) each."""
        key = heads.tobytes()
        if key not in self._spans:
            if len(self._spans) > 64:
                self._spans.clear()
            own = parts[heads]
            self._spans[key] = own.min(0), own.max(0)
        return self._spans[key]


def _gate_terms(
    places: _Places,
    place: int,
    leave: np.ndarray,
    beyond: np.ndarray,
    prices: np.ndarray,
) -> np.ndarray:
    """Per gate, sums over the images that surely get here and may leave here.

    An image that not all gates agree on takes the best there is beyond if its gate
    keeps it; images that no gate lets leave are counted further on.

    Args:
        leave, beyond: float32 arrays of shape (F, I).

    Returns:
        float64 array of shape (n_gates, F).
    """
    sure = places.sure[place]
    open_ = sure & places.high[place] & ~places.low[place]
    gain = np.where(sure, leave - np.where(open_, beyond, 0), 0)
    stay = np.where(open_, beyond, 0).sum(-1, dtype=np.float64)
    masks = places.masks[place].astype(np.float32)
    paid = places.prices[place][:, None] * prices * float(sure.sum())
    return (masks @ gain.T).astype(np.float64) + stay - paid
