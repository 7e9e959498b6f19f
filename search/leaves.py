"""Every configuration of a small node: a filter by sums, then the exact figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.bounds import Node, Tangent
from search.evaluate import miou_of, rank_of
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE

_BLOCK = 1 << 19
_EXACT_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Batch:
    """Configurations of one chain of heads with their exact figures.

    Attributes:
        heads: head indices.
        gates: int64 array of shape (B, n_heads - 1).
        latency_ms: float64 array of shape (B,), mean over the images.
        miou: float64 array of shape (B,), 0..1.
        in_time: int64 array of shape (B,), images within the p90 limit.
    """

    heads: tuple[int, ...]
    gates: np.ndarray
    latency_ms: np.ndarray
    miou: np.ndarray
    in_time: np.ndarray


def evaluate_batch(
    problem: Problem, heads: tuple[int, ...], gates: np.ndarray, p90_ms: float
) -> Batch:
    """Exact figures of configurations that share their heads.

    Args:
        gates: int64 array of shape (B, n_heads - 1), gate index at each early head.
    """
    count = len(gates)
    path = problem.path_ms(heads)
    here = np.ones((count, problem.images))
    both = np.zeros((count, problem.intersection.shape[2]))
    union = np.zeros_like(both)
    latency, asked = np.zeros(count), np.zeros(count)
    in_time = np.zeros(count, np.int64)
    for place, head in enumerate(heads):
        if place < len(heads) - 1:
            own = problem.gates[head]
            asked = asked + own.decision_ms[gates[:, place]]
            leaves = here * own.masks[gates[:, place]]
            here = here - leaves
        else:
            leaves = here
        both += leaves @ problem.intersection[head]
        union += leaves @ problem.union[head]
        leaving = leaves.sum(1)
        latency += leaving * (path[place] + asked)
        punctual = path[place] + asked <= p90_ms + LATENCY_TOLERANCE_MS
        in_time += (leaving * punctual).astype(np.int64)
    return Batch(heads, gates, latency / problem.images, miou_of(both, union), in_time)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Beginnings of configurations: gates chosen at the first places.

    Attributes:
        gates: int64 array of shape (R, n_chosen).
        stays: float64 array of shape (R, I), 1 where the image has not left.
        score: tangent score of those that left, shape (R,).
        spent: ms over all images: of those that left in full, of those that stay the
            decisions asked so far, shape (R,).
        slack: shape (R,).
        in_time: images that left within the p90 limit, shape (R,).
        asked: decisions asked so far, ms, shape (R,).
    """

    gates: np.ndarray
    stays: np.ndarray
    score: np.ndarray
    spent: np.ndarray
    slack: np.ndarray
    in_time: np.ndarray
    asked: np.ndarray

    def take(self, keep: np.ndarray | slice) -> _Rows:
        return _Rows(
            self.gates[keep],
            self.stays[keep],
            self.score[keep],
            self.spent[keep],
            self.slack[keep],
            self.in_time[keep],
            self.asked[keep],
        )


@dataclass
class Limits:
    """What a useful configuration must keep; tightens with each better one found.

    Attributes:
        floor: least mIoU, 0..1.
        ceiling_ms: highest mean latency.
        p90_ms: highest 90th percentile of the latency.
    """

    floor: float
    ceiling_ms: float
    p90_ms: float


class LeafSearch:
    """Lists a node's configurations that the sums alone cannot rule out."""

    def __init__(self, problem: Problem, rates: np.ndarray, limits: Limits) -> None:
        self.problem = problem
        self.rates = rates
        self.limits = limits

    def candidates(self, node: Node, tangent: Tangent) -> Iterator[np.ndarray]:
        """Gates of what may be useful, in blocks of shape (B, n_early)."""
        images = self.problem.images
        nothing = np.zeros(1)
        start = _Rows(
            gates=np.zeros((1, 0), np.int64),
            stays=np.ones((1, images)),
            score=nothing,
            spent=nothing,
            slack=np.full(1, np.inf),
            in_time=nothing,
            asked=nothing,
        )
        if not node.gates:
            yield start.gates
            return
        yield from self._extend(node, tangent, start)

    def _extend(
        self, node: Node, tangent: Tangent, rows: _Rows
    ) -> Iterator[np.ndarray]:
        place = rows.gates.shape[1]
        step = max(1, _BLOCK // len(node.gates[place]))
        for begin in range(0, len(rows.gates), step):
            block = rows.take(slice(begin, begin + step))
            if place == len(node.gates) - 1:
                found = self._finish(node, tangent, block)
                if len(found):
                    yield found
            else:
                longer = self._lengthen(node, tangent, block)
                if len(longer.gates):
                    yield from self._extend(node, tangent, longer)

    def _finish(self, node: Node, tangent: Tangent, rows: _Rows) -> np.ndarray:
        """Adds the last gate to each row and keeps what the sums allow."""
        problem, limits = self.problem, self.limits
        place = len(node.gates) - 1
        head, chosen = node.heads[place], node.gates[place]
        own = problem.gates[head]
        masks, price = own.masks[chosen], own.decision_ms[chosen]
        path = problem.path_ms(node.heads)
        images = problem.images
        left = rows.stays.sum(1)
        leaving = rows.stays @ masks.T
        spent = (rows.spent + left * path[-1])[:, None] + left[:, None] * price
        spent += leaving * (path[place] - path[-1])
        keep = spent <= (limits.ceiling_ms + LATENCY_TOLERANCE_MS) * images
        if limits.p90_ms < np.inf:
            limit = limits.p90_ms + LATENCY_TOLERANCE_MS
            asked = rows.asked[:, None] + price
            in_time = rows.in_time[:, None] + leaving * (path[place] + asked <= limit)
            in_time += (left[:, None] - leaving) * (path[-1] + asked <= limit)
            keep &= in_time >= rank_of(0.9, images) - 0.5
        if not keep.any():
            return np.zeros((0, place + 1), np.int64)
        gain = tangent.score[place] - tangent.score[-1]
        score = (rows.stays * gain) @ masks.T
        score += (tangent.constant + rows.score + rows.stays @ tangent.score[-1])[
            :, None
        ]
        score += np.minimum(rows.slack[:, None], tangent.slack[place])
        keep &= score >= limits.floor - MIOU_TOLERANCE
        row, column = np.nonzero(keep)
        return np.concatenate([rows.gates[row], chosen[column][:, None]], axis=1)

    def _lengthen(self, node: Node, tangent: Tangent, rows: _Rows) -> _Rows:
        """Adds a gate that is not the last; drops what no rest can make useful."""
        problem, limits = self.problem, self.limits
        place, images = rows.gates.shape[1], problem.images
        head, chosen = node.heads[place], node.gates[place]
        own = problem.gates[head]
        masks, price = own.masks[chosen], own.decision_ms[chosen]
        path = problem.path_ms(node.heads)
        prices = [
            problem.gates[h].decision_ms[g].min()
            for h, g in zip(
                node.heads[place + 1 :], node.gates[place + 1 :], strict=False
            )
        ]
        later = path[place + 1 :] + np.cumsum([*prices, 0.0])
        left = rows.stays.sum(1)[:, None]
        leaving = rows.stays @ masks.T
        spent = rows.spent[:, None] + left * price + leaving * path[place]
        score = (rows.stays * tangent.score[place]) @ masks.T + rows.score[:, None]
        slack = np.minimum(rows.slack[:, None], tangent.slack[place])
        total = score + slack + tangent.constant
        ceiling = limits.ceiling_ms + LATENCY_TOLERANCE_MS
        keep = spent + (left - leaving) * later.min() <= ceiling * images
        if ceiling < np.inf:
            for rate in self.rates:
                best = tangent.score[place + 1 :] - (rate / images) * later[:, None]
                rest = rows.stays * best.max(0)
                value = rest.sum(1)[:, None] - rest @ masks.T + total
                value -= (rate / images) * spent
                keep &= value >= limits.floor - MIOU_TOLERANCE - rate * ceiling
        best = tangent.score[place + 1 :].max(0)
        rest = rows.stays * best
        value = rest.sum(1)[:, None] - rest @ masks.T + total
        keep &= value >= limits.floor - MIOU_TOLERANCE
        asked = rows.asked[:, None] + price
        punctual = path[place] + asked <= limits.p90_ms + LATENCY_TOLERANCE_MS
        in_time = rows.in_time[:, None] + leaving * punctual
        row, column = np.nonzero(keep)
        return _Rows(
            np.concatenate([rows.gates[row], chosen[column][:, None]], axis=1),
            rows.stays[row] * (1 - masks[column]),
            score[row, column],
            spent[row, column],
            slack[row, column],
            in_time[row, column],
            asked[row, column],
        )


def exact_blocks(
    problem: Problem, heads: tuple[int, ...], gates: np.ndarray, p90_ms: float
) -> Iterator[Batch]:
    """``evaluate_batch`` in blocks that fit the caches."""
    for start in range(0, len(gates), _EXACT_BLOCK):
        yield evaluate_batch(
            problem, heads, gates[start : start + _EXACT_BLOCK], p90_ms
        )
