"""Enumeration of small nodes: pruned by partial sums, then evaluated exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.cutoff import Cutoff
from search.solver.nodes import Node


@dataclass(frozen=True, eq=False)
class Batch:
    """Configurations of one chain of heads with their exact figures.

    Attributes:
        heads: head indices.
        gates: int64 array of shape (B, n_heads - 1).
        latency_ms: float64 array of shape (B,), mean over the images.
        miou: float64 array of shape (B,), 0..1.
        within_p90: int64 array of shape (B,), number of images within the p90 limit.
    """

    heads: tuple[int, ...]
    gates: np.ndarray
    latency_ms: np.ndarray
    miou: np.ndarray
    within_p90: np.ndarray


def evaluate_batch(
    problem: Problem, heads: tuple[int, ...], gates: np.ndarray, max_p90_ms: float
) -> Batch:
    """Exact figures, in float64, of configurations that share their heads.

    The routing is that of ``mess_tf.core.routing``, but for all rows at once: one
    matrix product per head, instead of one pass over the images per configuration.

    Args:
        gates: int64 array of shape (B, n_heads - 1), gate index at each early head.
    """
    count = len(gates)
    path_ms = problem.path_ms(heads)
    reaching = np.ones((count, problem.images), bool)
    intersection = np.zeros((count, problem.intersection.shape[2]))
    union = np.zeros_like(intersection)
    latency_ms, decisions_ms = np.zeros(count), np.zeros(count)
    within_p90 = np.zeros(count, np.int64)
    for position, head in enumerate(heads):
        if position < len(heads) - 1:
            head_gates = problem.gates[head]
            decisions_ms = decisions_ms + head_gates.decision_ms[gates[:, position]]
            leaving = reaching & head_gates.masks[gates[:, position]]
            reaching = reaching & ~leaving
        else:
            leaving = reaching
        weights = leaving.astype(np.float64)
        intersection += weights @ problem.intersection[head].astype(np.float64)
        union += weights @ problem.union[head].astype(np.float64)
        number = leaving.sum(1)
        image_ms = path_ms[position] + decisions_ms
        latency_ms += number * image_ms
        within_p90 += number * (image_ms <= max_p90_ms + LATENCY_TOLERANCE_MS)
    return Batch(
        heads,
        gates,
        latency_ms / problem.images,
        mean_iou_of_sums(intersection, union),
        within_p90,
    )


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """Prefixes of configurations, gates chosen at the first positions.

    Attributes:
        gates: int64 array of shape (R, n_chosen).
        continuing: bool array of shape (R, I), the image has not left.
        score: sum of the scores of the images that left, shape (R,).
        spent_ms: summed over all images up to here, shape (R,).
    """

    gates: np.ndarray
    continuing: np.ndarray
    score: np.ndarray
    spent_ms: np.ndarray

    def take(self, keep: np.ndarray | slice) -> _Prefixes:
        return _Prefixes(
            self.gates[keep],
            self.continuing[keep],
            self.score[keep],
            self.spent_ms[keep],
        )


@dataclass(frozen=True, eq=False)
class NodeEnumeration:
    """All configurations of a node that their sums cannot prune.

    Attributes:
        surrogate_error: most by which the surrogate is below the mIoU in this node.
        cutoff: read anew for each block, since a new incumbent tightens it.
        block: images times rows held at once.
    """

    problem: Problem
    node: Node
    surrogate_error: float
    cutoff: Cutoff
    block: int

    def unpruned(self) -> Iterator[tuple[int, np.ndarray]]:
        """Configurations to be evaluated exactly.

        Yields:
            a last head and gates of shape (B, n_early).
        """
        root = _Prefixes(
            gates=np.zeros((1, 0), np.int64),
            continuing=np.ones((1, self.problem.images), bool),
            score=np.zeros(1),
            spent_ms=np.zeros(1),
        )
        yield from self._descend(root)

    @property
    def _offset(self) -> float:
        return self.node.tangent.constant + self.surrogate_error

    def _descend(self, prefixes: _Prefixes) -> Iterator[tuple[int, np.ndarray]]:
        """Depth-first over the positions, a block of prefixes at a time."""
        position = prefixes.gates.shape[1]
        if position == len(self.node.gates):
            yield from self._complete(prefixes)
            return
        per_row = self.problem.images * len(self.node.gates[position])
        rows = max(1, self.block // per_row)
        for begin in range(0, len(prefixes.gates), rows):
            longer = self._extend(prefixes.take(slice(begin, begin + rows)))
            if position + 1 < len(self.node.gates):
                longer = longer.take(self._may_improve(longer))
            if len(longer.gates):
                yield from self._descend(longer)

    def _extend(self, prefixes: _Prefixes) -> _Prefixes:
        """Every prefix with every gate of the next position."""
        problem, node = self.problem, self.node
        position = prefixes.gates.shape[1]
        head, gates = node.heads[position], node.gates[position]
        head_gates = problem.gates[head]
        row = np.repeat(np.arange(len(prefixes.gates)), len(gates))
        gate = np.tile(gates, len(prefixes.gates))
        reaching = prefixes.continuing[row]
        leaving = reaching & head_gates.masks[gate]
        passing_ms = reaching.sum(1) * (
            problem.head_ms[head] + head_gates.decision_ms[gate]
        )
        leave_ms = problem.segments_ms[head] + problem.output_ms[head]
        return _Prefixes(
            gates=np.concatenate([prefixes.gates[row], gate[:, None]], axis=1),
            continuing=reaching & ~leaving,
            score=prefixes.score[row]
            + leaving.astype(np.float32) @ node.tangent.score[head],
            spent_ms=prefixes.spent_ms[row] + passing_ms + leaving.sum(1) * leave_ms,
        )

    def _may_improve(self, prefixes: _Prefixes) -> np.ndarray:
        """Whether either figure, at its best behind the prefix, keeps the cutoff."""
        problem, node = self.problem, self.node
        position = prefixes.gates.shape[1]
        deeper = np.array([*node.heads[position:], *node.last_heads])
        answer_ms = problem.segments_ms + problem.head_ms + problem.output_ms
        best_score = node.tangent.score[deeper].max(0)
        surrogate = (
            prefixes.score
            + prefixes.continuing.astype(np.float32) @ best_score
            + self._offset
        )
        keep = surrogate >= self.cutoff.min_miou - MIOU_TOLERANCE
        least_ms = (
            prefixes.spent_ms + prefixes.continuing.sum(1) * answer_ms[deeper].min()
        )
        return np.asarray(keep & (least_ms <= self._max_total_ms))

    @property
    def _max_total_ms(self) -> float:
        limit_ms = self.cutoff.max_latency_ms + LATENCY_TOLERANCE_MS
        return limit_ms * self.problem.images

    def _complete(self, prefixes: _Prefixes) -> Iterator[tuple[int, np.ndarray]]:
        """Every prefix with each last head."""
        problem, last_heads = self.problem, self.node.last_heads
        continuing = prefixes.continuing.astype(np.float32)
        score = (
            prefixes.score[:, None] + continuing @ self.node.tangent.score[last_heads].T
        )
        answer_ms = (problem.segments_ms + problem.head_ms + problem.output_ms)[
            last_heads
        ]
        total_ms = (
            prefixes.spent_ms[:, None] + prefixes.continuing.sum(1)[:, None] * answer_ms
        )
        keep = score + self._offset >= self.cutoff.min_miou - MIOU_TOLERANCE
        keep &= total_ms <= self._max_total_ms
        for column in np.flatnonzero(keep.any(0)):
            yield int(last_heads[column]), prefixes.gates[keep[:, column]]
