"""Best-first branch and bound over chains of heads and their gates.

What is open is kept with a bound; the smallest of these is what no configuration can
beat, so the search can stop at any time and say how far from the optimum it may be.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.bounds import Bounder, Node, Tangent
from search.evaluate import rank_of
from search.leaves import Batch, LeafSearch, Limits, exact_blocks
from search.local import climb
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.structures import (
    Structures,
    Target,
    bound_structures,
    enumerate_structures,
    multipliers,
)

# Below this many configurations a node is listed rather than split.
LEAF_SIZE = {1: 1 << 20, 2: 1 << 19, 3: 1 << 22}
_PROGRESS_EVERY_S = 0.2


@dataclass(frozen=True)
class Progress:
    """Where a running search stands.

    Attributes:
        elapsed_s: since the start.
        value: of the best configuration so far (ms, or mIoU); None while there is none.
        bound: what no configuration can beat.
        nodes: sets of configurations examined.
        listed: configurations whose exact figures were computed.
    """

    elapsed_s: float
    value: float | None
    bound: float
    nodes: int
    listed: int


ProgressCall = Callable[[Progress], None]


@dataclass(frozen=True)
class Chosen:
    """A configuration by indices, with its exact calibration figures."""

    heads: tuple[int, ...]
    gates: tuple[int, ...]
    latency_ms: float
    miou: float


@dataclass(frozen=True)
class Optimum:
    """What the search found and how sure it is.

    Attributes:
        best: None when nothing found keeps the limits.
        bound: ms or mIoU that no configuration can beat; the value itself when proven.
        proven: nothing is left that could be better (or, without ``best``, that could
            keep the limits at all).
        nodes, listed: as in ``Progress``.
    """

    best: Chosen | None
    bound: float
    proven: bool
    nodes: int
    listed: int


class Search:
    """One run towards one target."""

    def __init__(
        self,
        problem: Problem,
        target: Target,
        max_early_exits: int,
        deadline: float,
        progress: ProgressCall | None = None,
        start: Chosen | None = None,
    ) -> None:
        self.problem = problem
        self.target = target
        self.max_early_exits = max_early_exits
        self.deadline = deadline
        self.progress = progress
        self.best: Chosen | None = None
        self.start = start
        self.limits = Limits(target.floor, target.ceiling_ms, target.p90_ms)
        self.rates = multipliers(problem)
        self.bounder = Bounder(problem, target, self.rates)
        self.leaves = LeafSearch(problem, self.rates, self.limits)
        self.nodes = self.listed = self._tickets = 0
        self._started = self._told = time.monotonic()

    def run(self) -> Optimum:
        """Searches until proven or out of time; see ``Optimum``.

        All single exits are always looked at, whatever the time limit.
        """
        for head in range(len(self.problem.heads)):
            self.offer((head,), np.zeros((1, 0), np.int64))
        if self.start is not None:
            row = np.array(self.start.gates, np.int64).reshape(1, -1)
            self.offer(self.start.heads, row)
        if self.max_early_exits:
            climb(self)
        chains = [
            bound_structures(
                self.problem,
                enumerate_structures(self.problem, early),
                self.target,
                self.rates,
                self._pulse,
            )
            for early in range(1, self.max_early_exits + 1)
        ]
        return self._branch(chains)

    def offer(self, heads: tuple[int, ...], gates: np.ndarray) -> None:
        """Computes exact figures and keeps the best configuration that may be kept.

        Args:
            gates: int64 array of shape (B, n_heads - 1).
        """
        needed = rank_of(0.9, self.problem.images)
        for batch in exact_blocks(self.problem, heads, gates, self.target.p90_ms):
            self.listed += len(batch.gates)
            allowed = batch.miou >= self.target.floor - MIOU_TOLERANCE
            allowed &= batch.latency_ms <= self.target.ceiling_ms + LATENCY_TOLERANCE_MS
            allowed &= batch.in_time >= needed
            if allowed.any():
                self._take_best(batch, np.flatnonzero(allowed))

    def out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    def _pulse(self) -> bool:
        """Shows a sign of life while chains are bounded; True when time is out."""
        cost = self.problem.segments_ms + self.problem.head_ms + self.problem.output_ms
        # No configuration is faster than the fastest single exit.
        self._tell(float(cost.min()) if self.target.minimise_latency else -1.0)
        return self.out_of_time()

    def _take_best(self, batch: Batch, allowed: np.ndarray) -> None:
        latency, miou = batch.latency_ms[allowed], batch.miou[allowed]
        keys = (latency, -miou) if self.target.minimise_latency else (-miou, latency)
        first = allowed[np.lexsort(keys[::-1])[0]]
        found = Chosen(
            batch.heads,
            tuple(batch.gates[first].tolist()),
            float(batch.latency_ms[first]),
            float(batch.miou[first]),
        )
        if self.best is not None and self._key(found) >= self._key(self.best):
            return
        self.best = found
        # Only what is better than this is of use from now on.
        if self.target.minimise_latency:
            self.limits.ceiling_ms = found.latency_ms - 2 * LATENCY_TOLERANCE_MS
        else:
            self.limits.floor = found.miou + 2 * MIOU_TOLERANCE

    def _key(self, found: Chosen) -> tuple[float, float]:
        """Order of preference; differences within rounding do not count."""
        pair = (found.latency_ms, -found.miou)
        return pair if self.target.minimise_latency else pair[::-1]

    def _value(self) -> float:
        """Of the best one, to be minimised; infinite while there is none."""
        if self.best is None:
            return math.inf
        return self._key(self.best)[0]

    def _beaten(self, bound: float) -> bool:
        tolerance = (
            LATENCY_TOLERANCE_MS if self.target.minimise_latency else MIOU_TOLERANCE
        )
        return bound >= self._value() - 2 * tolerance

    def _branch(self, chains: list[Structures]) -> Optimum:
        """Takes what is open in the order of its bound until nothing can be better."""
        roots = _Roots(chains)
        heap: list[tuple[float, int, Node]] = []
        bound = math.inf
        while True:
            bound = min(roots.bound, heap[0][0] if heap else math.inf)
            if bound == math.inf or self._beaten(bound):
                return self._outcome(self._value(), proven=True)
            if self.out_of_time():
                return self._outcome(bound, proven=False)
            self._tell(bound)
            node = (
                heapq.heappop(heap)[2]
                if heap and heap[0][0] <= roots.bound
                else roots.pop(self.problem)
            )
            self.nodes += 1
            narrowed = self.bounder.narrow(
                node, self.limits.floor, self.limits.ceiling_ms
            )
            if narrowed is None:
                continue
            node, tangent = narrowed
            if node.size <= LEAF_SIZE.get(len(node.gates), LEAF_SIZE[3]):
                if not self._list(node, tangent):
                    return self._outcome(bound, proven=False)
            else:
                for half in _split(self.problem, node):
                    heapq.heappush(heap, (half.bound, self._ticket(), half))

    def _list(self, node: Node, tangent: Tangent) -> bool:
        """Looks at a whole node; False when the time ran out on the way."""
        for gates in self.leaves.candidates(node, tangent):
            self.offer(node.heads, gates)
            if self.out_of_time():
                return False
        return True

    def _ticket(self) -> int:
        """Keeps nodes of equal bound in the order they came, so that runs agree."""
        self._tickets += 1
        return self._tickets

    def _outcome(self, bound: float, proven: bool) -> Optimum:
        bound = min(bound, self._value())
        sign = 1.0 if self.target.minimise_latency else -1.0
        return Optimum(self.best, sign * bound, proven, self.nodes, self.listed)

    def _tell(self, bound: float) -> None:
        now = time.monotonic()
        if self.progress is None or now - self._told < _PROGRESS_EVERY_S:
            return
        self._told = now
        sign = 1.0 if self.target.minimise_latency else -1.0
        value = None if self.best is None else sign * self._value()
        self.progress(
            Progress(now - self._started, value, sign * bound, self.nodes, self.listed)
        )


class _Roots:
    """The chains not yet looked at, best bound first."""

    def __init__(self, chains: list[Structures]) -> None:
        self._chains = chains
        self._next = [0] * len(chains)

    @property
    def bound(self) -> float:
        return min((bound for bound, _ in self._heads()), default=math.inf)

    def pop(self, problem: Problem) -> Node:
        """The chain of least bound, with all its gates."""
        bound, which = min(self._heads())
        heads = tuple(self._chains[which].heads[self._next[which]].tolist())
        self._next[which] += 1
        gates = tuple(np.arange(len(problem.gates[h])) for h in heads[:-1])
        return Node(heads, gates, bound)

    def _heads(self) -> list[tuple[float, int]]:
        return [
            (float(chain.bounds[self._next[which]]), which)
            for which, chain in enumerate(self._chains)
            if self._next[which] < len(chain.bounds)
        ]


def _split(problem: Problem, node: Node) -> list[Node]:
    """Two halves of the longest list of gates: those that let few leave, and many.

    Masks with alike numbers of leaving images differ on fewer images, so the halves'
    bounds are tighter than the whole's.
    """
    place = max(range(len(node.gates)), key=lambda p: len(node.gates[p]))
    gates = node.gates[place]
    leaving = problem.gates[node.heads[place]].masks[gates].sum(1)
    order = gates[np.argsort(leaving, kind="stable")]
    half = len(order) // 2
    return [
        Node(
            node.heads,
            (*node.gates[:place], part, *node.gates[place + 1 :]),
            node.bound,
        )
        for part in (order[:half], order[half:])
    ]
