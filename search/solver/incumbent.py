"""Feasible solutions: the incumbent, its runner-ups, and the cutoff they imply."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mess_tf.core.quantiles import quantile_rank
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.cutoff import Cutoff
from search.solver.enumeration import Batch, evaluate_batch
from search.solver.options import SolverOptions
from search.solver.target import Target


@dataclass(frozen=True)
class Solution:
    """A configuration by indices, with its exact calibration figures.

    Attributes:
        heads: in order of depth; the last one answers last.
        gates: gate index of each early head.
        latency_ms: mean over the calibration images.
        miou: data-set mIoU, 0..1.
    """

    heads: tuple[int, ...]
    gates: tuple[int, ...]
    latency_ms: float
    miou: float

    def answering_heads(self, problem: Problem) -> np.ndarray:
        """Head that answers each image, int64 array of shape (I,)."""
        answering = np.full(problem.images, self.heads[-1])
        pairs = list(zip(self.heads[:-1], self.gates, strict=True))
        for head, gate in reversed(pairs):
            answering[problem.gates[head].masks[gate]] = head
        return answering


class IncumbentStore:
    """Evaluates configurations exactly and keeps the best feasible ones.

    Attributes:
        incumbent: best feasible solution so far; None while there is none.
        cutoff: what a configuration must keep to improve on it.
        evaluated: number of configurations whose exact figures were computed.
    """

    def __init__(
        self,
        problem: Problem,
        target: Target,
        deadline: float,
        options: SolverOptions,
    ) -> None:
        """No solution yet; ``deadline`` in seconds of the options' clock."""
        self.problem = problem
        self.target = target
        self.options = options
        self.incumbent: Solution | None = None
        self.cutoff = Cutoff(target.min_miou, target.max_latency_ms)
        self.evaluated = 0
        self._deadline = deadline
        self._best_of_chain: dict[tuple[int, ...], Solution] = {}

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.options.clock() >= self._deadline

    def offer(self, heads: tuple[int, ...], gates: np.ndarray) -> None:
        """Evaluates configurations exactly; a better feasible one becomes incumbent.

        Args:
            gates: int64 array of shape (B, n_heads - 1).
        """
        target = self.target
        needed = quantile_rank(0.9, self.problem.images)
        for batch in self._exact_blocks(heads, gates, target.max_p90_ms):
            self.evaluated += len(batch.gates)
            feasible = batch.miou >= target.min_miou - MIOU_TOLERANCE
            feasible &= batch.latency_ms <= target.max_latency_ms + LATENCY_TOLERANCE_MS
            feasible &= batch.within_p90 >= needed
            sizes = self.problem.size_of(heads, batch.gates)
            feasible &= sizes <= target.max_size_bytes
            if feasible.any():
                self._update(batch, np.flatnonzero(feasible))

    def figures(
        self, heads: tuple[int, ...], gates: tuple[int, ...]
    ) -> tuple[float, float]:
        """Mean latency, ms, and mIoU of one configuration, which is not offered."""
        row = np.array(gates, np.int64).reshape(1, -1)
        (batch,) = self._exact_blocks(heads, row, math.inf)
        return float(batch.latency_ms[0]), float(batch.miou[0])

    def objective(self) -> float:
        """Value of the incumbent, to be minimised; infinite while there is none."""
        if self.incumbent is None:
            return math.inf
        return self._key(self.incumbent)[0]

    def prunes(self, bound: float) -> bool:
        """Whether nodes with this bound can hold neither incumbent nor runner-up."""
        return bound >= self._runner_up_limit() - 2 * self.tolerance

    @property
    def tolerance(self) -> float:
        """Differences of the objective within this are rounding."""
        if self.target.minimise_latency:
            return LATENCY_TOLERANCE_MS
        return MIOU_TOLERANCE

    def runner_ups(self) -> tuple[Solution, ...]:
        """Best solution of each chain within the tolerance, the incumbent first."""
        limit = self._runner_up_limit()
        within = [s for s in self._best_of_chain.values() if self._key(s)[0] <= limit]
        return tuple(sorted(within, key=self._key))

    def _exact_blocks(
        self, heads: tuple[int, ...], gates: np.ndarray, max_p90_ms: float
    ) -> Iterator[Batch]:
        size = self.options.exact_block
        for begin in range(0, len(gates), size):
            block = gates[begin : begin + size]
            yield evaluate_batch(self.problem, heads, block, max_p90_ms)

    def _update(self, batch: Batch, feasible: np.ndarray) -> None:
        latency, miou = batch.latency_ms[feasible], batch.miou[feasible]
        keys = (latency, -miou) if self.target.minimise_latency else (-miou, latency)
        best = feasible[np.lexsort(keys[::-1])[0]]
        solution = Solution(
            batch.heads,
            tuple(batch.gates[best].tolist()),
            float(batch.latency_ms[best]),
            float(batch.miou[best]),
        )
        if self.options.runner_up_tolerance:
            known = self._best_of_chain.setdefault(solution.heads, solution)
            if self._key(solution) < self._key(known):
                self._best_of_chain[solution.heads] = solution
        if self.incumbent is not None and self._key(solution) >= self._key(
            self.incumbent
        ):
            return
        self.incumbent = solution
        if self.target.minimise_latency:
            limit_ms = self._runner_up_limit() - 2 * LATENCY_TOLERANCE_MS
            self.cutoff.max_latency_ms = min(self.target.max_latency_ms, limit_ms)
        else:
            limit = -self._runner_up_limit() + 2 * MIOU_TOLERANCE
            self.cutoff.min_miou = max(self.target.min_miou, limit)

    def _key(self, solution: Solution) -> tuple[float, float]:
        """Order of preference: the objective, then the other figure."""
        pair = (solution.latency_ms, -solution.miou)
        return pair if self.target.minimise_latency else pair[::-1]

    def _runner_up_limit(self) -> float:
        """Worst objective that is kept; infinite while there is no incumbent."""
        value = self.objective()
        if not math.isfinite(value):
            return value
        return value + self.options.runner_up_tolerance * abs(value)
