"""Best-first branch and bound over chains of heads and their gates.

Everything open has a lower bound of the objective; the least of them bounds the
optimum, so the search can stop at any time and state its optimality gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from search.problem import Problem
from search.solver.coordinate_ascent import coordinate_ascent
from search.solver.enumeration import NodeEnumeration
from search.solver.frontier import (
    DeferredExpansion,
    NodeBatch,
    RootExpander,
    StagedPriorityQueue,
)
from search.solver.incumbent import IncumbentStore, Solution
from search.solver.miou_tangent import MiouTangent
from search.solver.node_bounds import NodeBounder
from search.solver.nodes import Node
from search.solver.options import DEFAULT_OPTIONS, SolverOptions
from search.solver.pairwise_bounds import PrefixRelaxation
from search.solver.target import Target


@dataclass(frozen=True)
class Progress:
    """State of a running search.

    Attributes:
        elapsed_s: since the start.
        value: of the incumbent (ms, or mIoU); None while there is none.
        bound: no configuration has a better value.
        nodes: number of nodes bounded so far.
        evaluated: configurations whose exact figures were computed.
    """

    elapsed_s: float
    value: float | None
    bound: float
    nodes: int
    evaluated: int


ProgressCall = Callable[[Progress], None]


@dataclass(frozen=True)
class Optimum:
    """Result of a search with its certificate.

    Attributes:
        incumbent: best feasible solution found; None when there is none.
        bound: ms or mIoU that no configuration can beat; the value itself when proven.
        proven: the incumbent is optimal (or, without one, no configuration is
            feasible).
        nodes, evaluated: as in ``Progress``.
        runner_ups: best solution found of each chain of heads, where it is within
            ``SolverOptions.runner_up_tolerance`` of the incumbent, which is the first.
    """

    incumbent: Solution | None
    bound: float
    proven: bool
    nodes: int
    evaluated: int
    runner_ups: tuple[Solution, ...] = ()


class BranchAndBound:
    """One run towards one target."""

    def __init__(
        self,
        problem: Problem,
        target: Target,
        max_early_exits: int,
        deadline: float,
        progress: ProgressCall | None = None,
        start: Solution | None = None,
        options: SolverOptions = DEFAULT_OPTIONS,
    ) -> None:
        """A run that has not begun.

        Args:
            max_early_exits: early exits of a configuration, at most.
            deadline: in seconds of the options' clock; infinite for no limit.
            progress: called a few times per second.
            start: a solution to begin with, which may be infeasible for this target.
            options: tunables.
        """
        self.problem = problem
        self.target = target
        self.max_early_exits = max_early_exits
        self.store = IncumbentStore(problem, target, deadline, options)
        self.nodes = 0
        self._progress = progress
        self._start = start
        self._options = options
        self._started = self._reported = options.clock()

    def run(self) -> Optimum:
        """Searches until the optimum is proven or the deadline has passed.

        All single exits are always evaluated, whatever the deadline.

        Small matrix products now and then raise the processor's flag for invalid
        numbers although their result is right (seen with OpenBLAS on AVX-512), so the
        flag is ignored, here and in the threads; a bound that is not a number is
        refused by ``StagedPriorityQueue.push``.
        """
        with np.errstate(invalid="ignore"):
            return self._run()

    def _run(self) -> Optimum:
        for head in range(len(self.problem.heads)):
            self.store.offer((head,), np.zeros((1, 0), np.int64))
        if self._start is not None:
            gates = np.array(self._start.gates, np.int64).reshape(1, -1)
            self.store.offer(self._start.heads, gates)
        if not self.max_early_exits or self.store.prunes(self._trivial_bound()):
            return self._optimum(self.store.objective(), proven=True)
        multiplier = coordinate_ascent(
            self.store, self.max_early_exits, self._multiplier_span()
        )
        with ThreadPoolExecutor(self._options.threads) as pool:
            return self._branch(multiplier, pool)

    def _multiplier_span(self) -> tuple[float, float]:
        """Least and largest Lagrange multiplier to try, mIoU per ms.

        One mIoU over the range of the heads' costs is their scale.
        """
        problem = self.problem
        answer_ms = problem.segments_ms + problem.head_ms + problem.output_ms
        range_ms = float(answer_ms.max() - answer_ms.min())
        scale = 1.0 / range_ms if range_ms > 0 else 1.0
        return 1e-3 * scale, 3 * scale

    def _trivial_bound(self) -> float:
        """Bound of the objective without work: fastest single exit, or an mIoU of 1."""
        problem = self.problem
        if not self.target.minimise_latency:
            return -1.0
        return float((problem.segments_ms + problem.head_ms + problem.output_ms).min())

    def _branch(self, multiplier: float, pool: ThreadPoolExecutor) -> Optimum:
        """Processes what is open, best-first, until the bound reaches the incumbent."""
        problem, store, options = self.problem, self.store, self._options
        multipliers = multiplier * np.array(options.multiplier_factors)
        bounder = NodeBounder(problem, self.target, multipliers, options)
        queue = StagedPriorityQueue()
        for expansion in self._root_expander(multiplier).expansions(
            self.max_early_exits
        ):
            queue.push(expansion)
        while True:
            bound = queue.bound
            if bound == math.inf or store.prunes(bound):
                return self._optimum(store.objective(), proven=True)
            if store.out_of_time():
                return self._optimum(bound, proven=False)
            self._report(bound)
            item = queue.pop()
            if store.prunes(item.bound):
                continue
            if isinstance(item, DeferredExpansion):
                more = queue.pop_expansions(options.expansions_per_batch - 1)
                for children in pool.map(self._expand, [item, *more]):
                    for child in children:
                        queue.push(child)
                continue
            if isinstance(item, NodeBatch):
                nodes, rest = item.take(options.nodes_per_batch)
                if rest is not None:
                    queue.push(rest)
            else:
                nodes = [item, *queue.pop_nodes(item, options.nodes_per_batch - 1)]
            self.nodes += len(nodes)
            for narrowed in self._narrow(nodes, bounder, pool):
                if narrowed.size > options.leaf_size:
                    for half in narrowed.branch(problem):
                        queue.push(half)
                elif not self._enumerate(narrowed, bounder):
                    return self._optimum(bound, proven=False)

    def _root_expander(self, multiplier: float) -> RootExpander:
        """Tangent at the incumbent; no multiplier where the latency is not limited."""
        problem, store, options = self.problem, self.store, self._options
        reference_heads = np.full(problem.images, problem.reference)
        if store.incumbent is not None:
            reference_heads = store.incumbent.answering_heads(problem)
        limited = store.cutoff.max_latency_ms < math.inf
        relaxation = PrefixRelaxation(
            problem,
            MiouTangent.tangent_at(problem, reference_heads),
            multiplier if limited else 0.0,
            options,
        )
        return RootExpander(
            problem,
            self.target,
            store.cutoff,
            relaxation,
            self._trivial_bound(),
            options,
        )

    def _expand(
        self, expansion: DeferredExpansion
    ) -> list[DeferredExpansion | NodeBatch]:
        """Children of a deferred expansion; itself after the deadline.

        On the flag that is ignored see ``run``.
        """
        if self.store.out_of_time():
            return [expansion]
        with np.errstate(invalid="ignore"):
            return list(expansion.expand())

    def _narrow(
        self, nodes: list[Node], bounder: NodeBounder, pool: ThreadPoolExecutor
    ) -> list[Node]:
        """Narrowed nodes that are not pruned; all threads share many images."""
        cutoff, threads = self.store.cutoff, self._options.threads
        if len(nodes) * self.problem.images < self._options.min_threaded_node_images:
            return bounder.narrow(nodes, cutoff)

        def narrow(share: list[Node]) -> list[Node]:
            with np.errstate(invalid="ignore"):
                return bounder.narrow(share, cutoff)

        shares = [nodes[first::threads] for first in range(threads)]
        return [node for narrowed in pool.map(narrow, shares) for node in narrowed]

    def _enumerate(self, node: Node, bounder: NodeBounder) -> bool:
        """Evaluates a node's configurations; False if the deadline passed meanwhile."""
        enumeration = NodeEnumeration(
            self.problem,
            node,
            bounder.surrogate_error(node),
            self.store.cutoff,
            self._options.enumeration_block,
        )
        for last_head, gates in enumeration.unpruned():
            self.store.offer((*node.heads, last_head), gates)
            if self.store.out_of_time():
                return False
        return True

    def _optimum(self, bound: float, proven: bool) -> Optimum:
        value = self.store.objective()
        if not math.isinf(value) and bound >= value - 2 * self.store.tolerance:
            # What is still open can only hold runner-ups.
            proven = True
        return Optimum(
            self.store.incumbent,
            self._signed(min(bound, value)),
            proven,
            self.nodes,
            self.store.evaluated,
            self.store.runner_ups(),
        )

    def _signed(self, objective: float) -> float:
        """The objective as users see it: ms, or the mIoU."""
        return objective if self.target.minimise_latency else -objective

    def _report(self, bound: float) -> None:
        if self._progress is None:
            return
        now = self._options.clock()
        if now - self._reported < self._options.progress_interval_s:
            return
        self._reported = now
        value = None
        if self.store.incumbent is not None:
            value = self._signed(self.store.objective())
        self._progress(
            Progress(
                now - self._started,
                value,
                self._signed(bound),
                self.nodes,
                self.store.evaluated,
            )
        )
