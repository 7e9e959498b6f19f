"""Best-first branch and bound over chains of heads and their gates.

What is open is kept with a bound; the smallest of these is what no configuration can
beat, so the search can stop at any time and say how far from the optimum it may be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mess_tf.core.quantiles import quantile_rank
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.coordinate_ascent import answers, climb
from search.solver.enumeration import Batch, Limits, candidates, exact_blocks
from search.solver.frontier import Bundle, Queue, Roots, Task
from search.solver.miou_tangent import Linear
from search.solver.node_bounds import Bounder
from search.solver.nodes import Node
from search.solver.pairwise_bounds import Screener
from search.solver.target import Target

# Below this many configurations a node is listed rather than split.
LEAF_SIZE = 4096
# Groups of gates per head when pairs and triples are bounded first.
PARTS = 5
# Threads that bound triples; numpy lets them work side by side.
WORKERS = 2
# Tasks given to them at once: some take ten times as long as others.
AT_ONCE = 16
# Nodes of a bundle that are narrowed at once.
NODES_AT_ONCE = 64
# Nodes times images from which threads gain more than they cost.
WORTH_THREADS = 1 << 14
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
        runner_ups: the best configuration found of each chain of heads, where it is
            within ``runner_up_tolerance`` of ``best``, which is the first.
    """

    best: Chosen | None
    bound: float
    proven: bool
    nodes: int
    listed: int
    runner_ups: tuple[Chosen, ...] = ()


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
        runner_up_tolerance: float = 0.0,
    ) -> None:
        """A search that has not begun.

        Args:
            runner_up_tolerance: the best of each chain of heads is kept, too, where it
                is worse than the best of all by up to this share.
        """
        self.problem = problem
        self.target = target
        self.max_early_exits = max_early_exits
        self.deadline = deadline
        self.progress = progress
        self.best: Chosen | None = None
        self.start = start
        self._runner_up_tolerance = runner_up_tolerance
        self._runner_ups: dict[tuple[int, ...], Chosen] = {}
        self.limits = Limits(target.floor, target.ceiling_ms)
        self.nodes = self.listed = 0
        self._started = self._told = time.monotonic()

    def run(self) -> Optimum:
        """Searches until proven or out of time; see ``Optimum``.

        All single exits are always looked at, whatever the time limit.

        Small matrix products now and then raise the processor's flag for invalid
        numbers although what comes out is right (seen with OpenBLAS on AVX-512), so the
        flag is ignored, here and in the threads; a bound that is no number is refused
        by ``Queue.push``.
        """
        with np.errstate(invalid="ignore"):
            return self._run()

    def _run(self) -> Optimum:
        for head in range(len(self.problem.heads)):
            self.offer((head,), np.zeros((1, 0), np.int64))
        if self.start is not None:
            row = np.array(self.start.gates, np.int64).reshape(1, -1)
            self.offer(self.start.heads, row)
        if not self.max_early_exits or self._beaten(self._trivial()):
            return self._outcome(self._value(), proven=True)
        rate = climb(self, self._rate_span())
        return self._branch(rate)

    def offer(self, heads: tuple[int, ...], gates: np.ndarray) -> None:
        """Computes exact figures and keeps the best configuration that may be kept.

        Args:
            gates: int64 array of shape (B, n_heads - 1).
        """
        needed = quantile_rank(0.9, self.problem.images)
        for batch in exact_blocks(self.problem, heads, gates, self.target.p90_ms):
            self.listed += len(batch.gates)
            allowed = batch.miou >= self.target.floor - MIOU_TOLERANCE
            allowed &= batch.latency_ms <= self.target.ceiling_ms + LATENCY_TOLERANCE_MS
            allowed &= batch.in_time >= needed
            sizes = self.problem.size_of(heads, batch.gates)
            allowed &= sizes <= self.target.size_bytes
            if allowed.any():
                self._take_best(batch, np.flatnonzero(allowed))

    def figures(
        self, heads: tuple[int, ...], gates: tuple[int, ...]
    ) -> tuple[float, float]:
        """Mean latency, ms, and mIoU of one configuration."""
        row = np.array(gates, np.int64).reshape(1, -1)
        (batch,) = exact_blocks(self.problem, heads, row, math.inf)
        return float(batch.latency_ms[0]), float(batch.miou[0])

    def out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    def _rate_span(self) -> tuple[float, float]:
        """Rates of mIoU per ms that the search looks between."""
        problem = self.problem
        cost = problem.segments_ms + problem.head_ms + problem.output_ms
        span = float(cost.max() - cost.min())
        base = 1.0 / span if span > 0 else 1.0
        return 1e-3 * base, 3 * base

    def _trivial(self) -> float:
        """A bound that needs no work: the fastest single exit, or an mIoU of 1."""
        problem = self.problem
        if not self.target.minimise_latency:
            return -1.0
        return float((problem.segments_ms + problem.head_ms + problem.output_ms).min())

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
        if self._runner_up_tolerance:
            known = self._runner_ups.setdefault(found.heads, found)
            if self._key(found) < self._key(known):
                self._runner_ups[found.heads] = found
        if self.best is not None and self._key(found) >= self._key(self.best):
            return
        self.best = found
        # Only what is better than this is of use from now on.
        if self.target.minimise_latency:
            reach_ms = self._reach() - 2 * LATENCY_TOLERANCE_MS
            self.limits.ceiling_ms = min(self.target.ceiling_ms, reach_ms)
        else:
            reach = -self._reach() + 2 * MIOU_TOLERANCE
            self.limits.floor = max(self.target.floor, reach)

    def _key(self, found: Chosen) -> tuple[float, float]:
        """Order of preference; differences within rounding do not count."""
        pair = (found.latency_ms, -found.miou)
        return pair if self.target.minimise_latency else pair[::-1]

    def _value(self) -> float:
        """Of the best one, to be minimised; infinite while there is none."""
        if self.best is None:
            return math.inf
        return self._key(self.best)[0]

    def _reach(self) -> float:
        """What is worse than this is of no use; infinite while nothing is found."""
        value = self._value()
        return (
            value + self._runner_up_tolerance * abs(value)
            if math.isfinite(value)
            else value
        )

    def _beaten(self, bound: float) -> bool:
        return bound >= self._reach() - 2 * self._tolerance

    @property
    def _tolerance(self) -> float:
        if self.target.minimise_latency:
            return LATENCY_TOLERANCE_MS
        return MIOU_TOLERANCE

    def _branch(self, rate: float) -> Optimum:
        """Takes what is open in the order of its bound until nothing can be better."""
        with ThreadPoolExecutor(WORKERS) as pool:
            return self._work(rate, pool)

    def _work(self, rate: float, pool: ThreadPoolExecutor) -> Optimum:
        problem = self.problem
        plain = Linear.at(problem, self._answer())
        rates = rate * np.array([0.5, 0.75, 1.0, 1.4, 2.0])
        bounder = Bounder(problem, self.target, rates)
        screened = rate if self.limits.ceiling_ms < math.inf else 0.0
        screener = Screener(problem, plain, screened, PARTS)
        queue = Queue()
        roots = Roots(
            problem, self.target, self.limits, screener, screened, self._trivial()
        )
        for task in roots.tasks(self.max_early_exits):
            queue.push(task)
        while True:
            bound = queue.bound
            if bound == math.inf or self._beaten(bound):
                return self._outcome(self._value(), proven=True)
            if self.out_of_time():
                return self._outcome(bound, proven=False)
            self._tell(bound)
            item = queue.pop()
            if self._beaten(item.bound):
                continue
            if isinstance(item, Task):
                tasks = [item, *queue.pop_tasks(AT_ONCE - 1)]
                for found in pool.map(partial(_opened, self.deadline), tasks):
                    for part in found:
                        queue.push(part)
                continue
            if isinstance(item, Bundle):
                nodes, rest = item.take(NODES_AT_ONCE)
                if rest is not None:
                    queue.push(rest)
            else:
                nodes = [item, *queue.pop_nodes(item, NODES_AT_ONCE - 1)]
            self.nodes += len(nodes)
            for narrowed in self._narrowed(nodes, bounder, pool):
                if narrowed.size <= LEAF_SIZE:
                    if not self._list(narrowed, bounder):
                        return self._outcome(bound, proven=False)
                else:
                    for half in split(problem, narrowed):
                        queue.push(half)

    def _narrowed(
        self, nodes: list[Node], bounder: Bounder, pool: ThreadPoolExecutor
    ) -> list[Node]:
        """What is left of nodes, with many images by all threads."""
        limits = self.limits.floor, self.limits.ceiling_ms
        if len(nodes) * self.problem.images < WORTH_THREADS:
            return bounder.narrow(nodes, *limits)

        def narrow(share: list[Node]) -> list[Node]:
            with np.errstate(invalid="ignore"):
                return bounder.narrow(share, *limits)

        shares = [nodes[at::WORKERS] for at in range(WORKERS)]
        return [node for found in pool.map(narrow, shares) for node in found]

    def _answer(self) -> np.ndarray:
        """Where the tangent touches: the best so far, or the final head alone."""
        if self.best is None:
            return np.full(self.problem.images, self.problem.reference)
        return answers(self.problem, self.best)

    def _list(self, node: Node, bounder: Bounder) -> bool:
        """Looks at a whole node; False when the time ran out on the way."""
        slack = bounder.slack(node)
        for last, gates in candidates(self.problem, node, slack, self.limits):
            self.offer((*node.heads, last), gates)
            if self.out_of_time():
                return False
        return True

    def _outcome(self, bound: float, proven: bool) -> Optimum:
        value = self._value()
        if not math.isinf(value) and bound >= value - 2 * self._tolerance:
            # What is still open could only have been a runner-up.
            proven = True
        sign = 1.0 if self.target.minimise_latency else -1.0
        return Optimum(
            self.best,
            sign * min(bound, value),
            proven,
            self.nodes,
            self.listed,
            self._ranked(),
        )

    def _ranked(self) -> tuple[Chosen, ...]:
        reach = self._reach()
        kept = [r for r in self._runner_ups.values() if self._key(r)[0] <= reach]
        return tuple(sorted(kept, key=self._key))

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


def _opened(deadline: float, task: Task) -> list[Task | Bundle]:
    """What a task opens, itself after the deadline; on the flag see ``Search.run``."""
    if time.monotonic() >= deadline:
        return [task]
    with np.errstate(invalid="ignore"):
        return list(task.open())


def split(problem: Problem, node: Node) -> list[Node]:
    """Two halves of the longest list: gates that let few leave and many, or lasts.

    Masks with alike numbers of leaving images differ on fewer images, so the halves'
    bounds are tighter than the whole's.
    """
    sizes = [*(len(g) for g in node.gates), len(node.lasts)]
    place = int(np.argmax(sizes))
    if place == len(node.gates):
        half = len(node.lasts) // 2
        return [
            replace(node, lasts=part) for part in (node.lasts[:half], node.lasts[half:])
        ]
    gates = node.gates[place]
    leaving = problem.gates[node.heads[place]].masks[gates].sum(1)
    order = gates[np.argsort(leaving, kind="stable")]
    half = len(order) // 2
    return [
        replace(node, gates=(*node.gates[:place], part, *node.gates[place + 1 :]))
        for part in (order[:half], order[half:])
    ]
