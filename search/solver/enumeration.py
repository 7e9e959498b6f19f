"""Every configuration of a small node: a filter by sums, then the exact figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.nodes import Node

_BLOCK = 1 << 21
_EXACT_BLOCK = 512


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
    here = np.ones((count, problem.images), bool)
    both = np.zeros((count, problem.intersection.shape[2]))
    union = np.zeros_like(both)
    latency, asked = np.zeros(count), np.zeros(count)
    in_time = np.zeros(count, np.int64)
    for place, head in enumerate(heads):
        if place < len(heads) - 1:
            own = problem.gates[head]
            asked = asked + own.decision_ms[gates[:, place]]
            leaves = here & own.masks[gates[:, place]]
            here = here & ~leaves
        else:
            leaves = here
        weights = leaves.astype(np.float64)
        both += weights @ problem.intersection[head].astype(np.float64)
        union += weights @ problem.union[head].astype(np.float64)
        leaving = leaves.sum(1)
        latency += leaving * (path[place] + asked)
        punctual = path[place] + asked <= p90_ms + LATENCY_TOLERANCE_MS
        in_time += leaving * punctual
    return Batch(
        heads, gates, latency / problem.images, mean_iou_of_sums(both, union), in_time
    )


def exact_blocks(
    problem: Problem, heads: tuple[int, ...], gates: np.ndarray, p90_ms: float
) -> Iterator[Batch]:
    """``evaluate_batch`` in blocks that fit the caches."""
    for start in range(0, len(gates), _EXACT_BLOCK):
        yield evaluate_batch(
            problem, heads, gates[start : start + _EXACT_BLOCK], p90_ms
        )


@dataclass
class Limits:
    """What a useful configuration must keep; tightens with each better one found.

    Attributes:
        floor: least mIoU, 0..1.
        ceiling_ms: highest mean latency.
    """

    floor: float
    ceiling_ms: float


@dataclass(frozen=True, eq=False)
class _Rows:
    """Beginnings of configurations: gates chosen at the first places.

    Attributes:
        gates: int64 array of shape (R, n_chosen).
        stays: bool array of shape (R, I), the image has not left.
        score: of the images that left, shape (R,).
        spent: ms over all images up to here, shape (R,).
    """

    gates: np.ndarray
    stays: np.ndarray
    score: np.ndarray
    spent: np.ndarray

    def take(self, keep: np.ndarray | slice) -> _Rows:
        return _Rows(
            self.gates[keep], self.stays[keep], self.score[keep], self.spent[keep]
        )


def candidates(
    problem: Problem, node: Node, slack: float, limits: Limits
) -> Iterator[tuple[int, np.ndarray]]:
    """What the sums alone cannot rule out.

    Args:
        slack: by how much the linear mIoU may be too low in this node.

    Yields:
        a last head and gates of shape (B, n_early).
    """
    rows = _Rows(
        gates=np.zeros((1, 0), np.int64),
        stays=np.ones((1, problem.images), bool),
        score=np.zeros(1),
        spent=np.zeros(1),
    )
    floor = node.linear.constant + slack
    yield from _extend(problem, node, floor, limits, rows)


def _extend(
    problem: Problem,
    node: Node,
    total: float,
    limits: Limits,
    rows: _Rows,
) -> Iterator[tuple[int, np.ndarray]]:
    place = rows.gates.shape[1]
    if place == len(node.gates):
        yield from _finish(problem, node, total, limits, rows)
        return
    step = max(1, _BLOCK // (problem.images * len(node.gates[place])))
    for begin in range(0, len(rows.gates), step):
        block = _lengthen(problem, node, rows.take(slice(begin, begin + step)))
        if place + 1 < len(node.gates):
            block = block.take(_hopeful(problem, node, total, limits, block))
        if len(block.gates):
            yield from _extend(problem, node, total, limits, block)


def _lengthen(problem: Problem, node: Node, rows: _Rows) -> _Rows:
    """Every row with every gate of the next place."""
    place = rows.gates.shape[1]
    head, chosen = node.heads[place], node.gates[place]
    own = problem.gates[head]
    row = np.repeat(np.arange(len(rows.gates)), len(chosen))
    gate = np.tile(chosen, len(rows.gates))
    here = rows.stays[row]
    leaves = here & own.masks[gate]
    passing = here.sum(1) * (problem.head_ms[head] + own.decision_ms[gate])
    leaving = problem.segments_ms[head] + problem.output_ms[head]
    return _Rows(
        gates=np.concatenate([rows.gates[row], gate[:, None]], axis=1),
        stays=here & ~leaves,
        score=rows.score[row] + leaves.astype(np.float32) @ node.linear.score[head],
        spent=rows.spent[row] + passing + leaves.sum(1) * leaving,
    )


def _hopeful(
    problem: Problem,
    node: Node,
    total: float,
    limits: Limits,
    rows: _Rows,
) -> np.ndarray:
    """Rows that may still become useful: the rest at its best, in either figure."""
    place = rows.gates.shape[1]
    rest = np.array([*node.heads[place:], *node.lasts])
    cheapest = (problem.segments_ms + problem.head_ms + problem.output_ms)[rest].min()
    best = node.linear.score[rest].max(0)
    keep = rows.score + rows.stays.astype(np.float32) @ best + total >= (
        limits.floor - MIOU_TOLERANCE
    )
    least = rows.spent + rows.stays.sum(1) * cheapest
    ceiling = (limits.ceiling_ms + LATENCY_TOLERANCE_MS) * problem.images
    return np.asarray(keep & (least <= ceiling))


def _finish(
    problem: Problem,
    node: Node,
    total: float,
    limits: Limits,
    rows: _Rows,
) -> Iterator[tuple[int, np.ndarray]]:
    """Each last head for each row."""
    lasts = node.lasts
    stays = rows.stays.astype(np.float32)
    score = rows.score[:, None] + stays @ node.linear.score[lasts].T
    cost = (problem.segments_ms + problem.head_ms + problem.output_ms)[lasts]
    spent = rows.spent[:, None] + rows.stays.sum(1)[:, None] * cost
    keep = score + total >= limits.floor - MIOU_TOLERANCE
    keep &= spent <= (limits.ceiling_ms + LATENCY_TOLERANCE_MS) * problem.images
    for column in np.flatnonzero(keep.any(0)):
        yield int(lasts[column]), rows.gates[keep[:, column]]
