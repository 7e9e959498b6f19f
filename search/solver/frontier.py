"""The open part of the search tree: nodes, node batches and deferred expansions."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.cutoff import Cutoff
from search.solver.nodes import Node
from search.solver.options import SolverOptions
from search.solver.pairwise_bounds import PrefixRelaxation, TripleCandidates
from search.solver.suffix import SuffixHeads
from search.solver.target import Target


@dataclass(frozen=True, eq=False)
class DeferredExpansion:
    """A set of configurations whose children are computed when it is popped.

    Attributes:
        bound: lower bound of the objective over the set.
        stage: 0 is popped before everything else, 1 before 2.
        expand: computes the children that the cutoff does not prune.
    """

    bound: float
    stage: int
    expand: Callable[[], Iterable[DeferredExpansion | NodeBatch]]


@dataclass(frozen=True, eq=False)
class NodeBatch:
    """Many nodes in order of their bounds, each constructed when it is popped.

    Attributes:
        bounds: float64 array of shape (n,), ascending.
        make_node: constructs the node of an index.
        stage: as in ``DeferredExpansion``.
        first: index of the first node that is left.
    """

    bounds: np.ndarray
    make_node: Callable[[int], Node]
    stage: int
    first: int = 0

    @property
    def bound(self) -> float:
        return float(self.bounds[self.first])

    def take(self, most: int) -> tuple[list[Node], NodeBatch | None]:
        """The next nodes, and the batch of those left; None if there are none."""
        end = min(self.first + most, len(self.bounds))
        nodes = [self.make_node(index) for index in range(self.first, end)]
        if end == len(self.bounds):
            return nodes, None
        return nodes, NodeBatch(self.bounds, self.make_node, self.stage, end)


class StagedPriorityQueue:
    """Everything open: by stage, best-first within a stage."""

    def __init__(self) -> None:
        self._heaps: tuple[
            list[tuple[float, int, DeferredExpansion | NodeBatch | Node]], ...
        ]
        self._heaps = ([], [], [])
        self._pushed = 0

    @property
    def bound(self) -> float:
        """Least bound over all stages, infinite when nothing is open."""
        return min((heap[0][0] for heap in self._heaps if heap), default=math.inf)

    def push(self, item: DeferredExpansion | NodeBatch | Node) -> None:
        """Adds an item. FloatingPointError when its bound is not a number."""
        if math.isnan(item.bound):
            raise FloatingPointError(f"The bound of {item} is not a number.")
        # Items of equal bound are popped in the order of pushing, so that runs agree.
        self._pushed += 1
        if isinstance(item, Node):
            stage = 1 if len(item.heads) < 3 else 2
        else:
            stage = item.stage
        heapq.heappush(self._heaps[stage], (item.bound, self._pushed, item))

    def pop(self) -> DeferredExpansion | NodeBatch | Node:
        """The item of least bound in the earliest stage that is not empty."""
        return heapq.heappop(next(heap for heap in self._heaps if heap))[2]

    def pop_nodes(self, like: Node, most: int) -> list[Node]:
        """Further nodes with as many heads as ``like``, while such nodes are next."""
        nodes: list[Node] = []
        heap = next((heap for heap in self._heaps if heap), [])
        while len(nodes) < most and heap:
            item = heap[0][2]
            if not isinstance(item, Node) or len(item.heads) != len(like.heads):
                break
            nodes.append(item)
            heapq.heappop(heap)
        return nodes

    def pop_expansions(self, most: int) -> list[DeferredExpansion]:
        """Further deferred expansions, while such items of the stage are next."""
        expansions: list[DeferredExpansion] = []
        heap = next((heap for heap in self._heaps if heap), [])
        while len(expansions) < most and heap:
            item = heap[0][2]
            if not isinstance(item, DeferredExpansion):
                break
            expansions.append(item)
            heapq.heappop(heap)
        return expansions


class RootExpander:
    """Expands the root: deferred expansions and nodes for all chains of exits."""

    def __init__(
        self,
        problem: Problem,
        target: Target,
        cutoff: Cutoff,
        relaxation: PrefixRelaxation,
        trivial_bound: float,
        options: SolverOptions,
    ) -> None:
        """``trivial_bound``: lower bound of the objective over all configurations."""
        self.problem = problem
        self.target = target
        self.cutoff = cutoff
        self.relaxation = relaxation
        self.multiplier = relaxation.multiplier
        self.trivial_bound = trivial_bound
        self._options = options
        gated = [
            e
            for e in np.unique(problem.exit_of)[:-1]
            if any(len(problem.gates[h]) for h in np.flatnonzero(problem.exit_of == e))
        ]
        self.exits = [int(e) for e in gated]

    def expansions(self, max_early_exits: int) -> Iterator[DeferredExpansion]:
        """A partition of all configurations with at least one early exit."""
        for count in range(1, min(max_early_exits, len(self.exits)) + 1):
            for chain in itertools.combinations(self.exits, count):
                for last_heads in self._last_heads_behind(chain[-1]):
                    expand: Callable[[], Iterable[DeferredExpansion | NodeBatch]]
                    match chain:
                        case (first,):
                            expand = partial(self._expand_single, first, last_heads)
                        case (first, second):
                            exits = first, second
                            expand = partial(self._expand_pairs, exits, last_heads)
                        case _:
                            expand = partial(self._expand_longer, chain, last_heads)
                    yield DeferredExpansion(self.trivial_bound, 0, expand)

    # --- Expansions -----------------------------------------------------------------

    def _expand_single(self, first: int, last_heads: np.ndarray) -> Iterator[NodeBatch]:
        """One early exit: a node per cluster and last head."""
        clusters = self.relaxation.clusters(first)
        rows = list(
            self.relaxation.single_exit_bounds(
                first, last_heads, self._lagrangian_cutoff()
            )
        )
        if not rows:
            return
        bounds = self._objective_bounds(np.array([bound for _, _, bound in rows]))
        order = np.argsort(bounds, kind="stable")

        def make_node(index: int) -> Node:
            cluster, last_head, _ = rows[order[index]]
            return Node(
                (int(clusters.head[cluster]),),
                (clusters.gates[cluster],),
                np.array([last_head]),
                float(bounds[order[index]]),
                self.relaxation.tangent((first,), int(cluster), last_heads),
            )

        yield NodeBatch(bounds[order], make_node, 1)

    def _expand_pairs(
        self, exits: tuple[int, int], last_heads: np.ndarray
    ) -> Iterator[NodeBatch]:
        """Two early exits: a node per pair of clusters."""
        bound = self.relaxation.pair_bounds(exits, last_heads)
        rows, columns = np.nonzero(bound >= self._lagrangian_cutoff())
        if not len(rows):
            return
        pairs = np.column_stack([rows, columns])
        refined = self.relaxation.refined_pair_bounds(
            exits, last_heads, pairs, bound[rows, columns]
        )
        keep = refined >= self._lagrangian_cutoff()
        if keep.any():
            suffix = SuffixHeads((), last_heads)
            yield self._node_batch(exits, suffix, pairs[keep], refined[keep], 1)

    def _node_batch(
        self,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        rows: np.ndarray,
        bound: np.ndarray,
        stage: int,
        parent_bound: float = -math.inf,
    ) -> NodeBatch:
        """Nodes with a cluster of each of the first two or three exits.

        Args:
            suffix: heads behind them, one for each early exit.
            rows: int array of shape (n, 2) or (n, 3), clusters.
            bound: upper bounds of mIoU - multiplier * latency, shape (n,).
            parent_bound: lower bound of the objective over all of them.
        """
        bounds = np.maximum(self._objective_bounds(bound), parent_bound)
        order = np.argsort(bounds, kind="stable")
        rows, bounds = rows[order].astype(np.int32), bounds[order]
        exits = [self.relaxation.clusters(e) for e in chain[: rows.shape[1]]]
        deeper = [int(heads[0]) for heads in suffix.early]
        all_gates = [np.arange(len(self.problem.gates[head])) for head in deeper]
        last_heads = suffix.last_heads

        def make_node(index: int) -> Node:
            row = rows[index].tolist()
            prefix = list(zip(exits, row, strict=True))
            if len(row) > 2:
                tangent = self.relaxation.triple_tangent(chain, row[0])
            else:
                tangent = self.relaxation.tangent(chain[:2], row[0], last_heads)
            return Node(
                (*(int(clusters.head[c]) for clusters, c in prefix), *deeper),
                (*(clusters.gates[c] for clusters, c in prefix), *all_gates),
                last_heads,
                float(bounds[index]),
                tangent,
            )

        return NodeBatch(bounds, make_node, stage)

    def _expand_longer(
        self, chain: tuple[int, ...], last_heads: np.ndarray
    ) -> Iterator[DeferredExpansion]:
        """Three early exits and more: pairs of clusters, by clusters of the first."""
        chain = (*chain, int(self.problem.exit_of[last_heads[0]]))
        suffix = self.relaxation.suffix_heads(chain)
        size = self._options.first_clusters_per_expansion
        for clusters in self.relaxation.clusters_by_share(chain[0]):
            bound = self.relaxation.free_suffix_pair_bounds(chain, suffix, clusters)
            best = bound.max(1, initial=-np.inf)
            cutoff = self._lagrangian_cutoff()
            unpruned = np.count_nonzero(best >= cutoff)
            order = np.argsort(-best, kind="stable")[:unpruned]
            for begin in range(0, len(order), size):
                block = order[begin : begin + size]
                rows, columns = np.nonzero(bound[block] >= cutoff)
                pairs = clusters[block[rows]], columns
                objective = self._objective_bound(best[block[0]])
                expand = partial(self._expand_thirds, chain, suffix, *pairs, objective)
                yield DeferredExpansion(objective, 2, expand)

    def _expand_thirds(
        self,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        rows: np.ndarray,
        columns: np.ndarray,
        parent_bound: float,
    ) -> Iterator[DeferredExpansion]:
        """Pairs of clusters with the clusters of a third exit.

        The children are subsets of the suffix; once its early heads are fixed, single
        clusters of the first exit.

        Args:
            parent_bound: lower bound of the objective over all of them.
        """
        triples = self.relaxation.image_wise_triple_bounds(
            chain, suffix, rows, columns, self._lagrangian_cutoff()
        )
        if triples is None:
            return
        if not suffix.early_fixed:
            pairs = triples.rows.astype(np.int32), triples.columns.astype(np.int32)
            objective = self._objective_bound(triples.bound.max())
            objective = max(parent_bound, objective)
            for subset in suffix.subsets(self._options.suffix_subsets):
                expand = partial(self._expand_thirds, chain, subset, *pairs, objective)
                yield DeferredExpansion(objective, 2, expand)
            return
        for row in np.unique(triples.rows):
            same = triples.rows == row
            seconds, bound = triples.columns[same], triples.bound[same]
            objective = max(parent_bound, self._objective_bound(bound.max()))
            # Held as bits while it is open: there may be millions of triples.
            unpruned = np.packbits(bound >= self._lagrangian_cutoff(), axis=1)
            expand_triples = partial(
                self._expand_triples,
                chain,
                suffix,
                int(row),
                seconds,
                unpruned,
                objective,
            )
            yield DeferredExpansion(objective, 2, expand_triples)

    def _expand_triples(
        self,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        first: int,
        seconds: np.ndarray,
        unpruned: np.ndarray,
        parent_bound: float,
    ) -> Iterator[NodeBatch]:
        """One cluster of the first exit: a node per pair of clusters of the next two.

        Args:
            unpruned: which clusters of the third exit are left behind ``seconds``, as
                bits, uint8 array of shape (n, ceil(N / 8)).
            parent_bound: lower bound of the objective over all of them.
        """
        count = len(self.relaxation.clusters(chain[2]))
        mask = np.unpackbits(unpruned, axis=1, count=count).astype(bool)
        rows, columns, bound = self.relaxation.gate_wise_triple_bounds(
            chain,
            suffix,
            TripleCandidates(first, seconds, mask),
            self._lagrangian_cutoff(),
        )
        if len(rows):
            triples = np.column_stack([np.full(len(rows), first), rows, columns])
            yield self._node_batch(chain, suffix, triples, bound, 2, parent_bound)

    # --- Weak duality ---------------------------------------------------------------

    def _lagrangian_cutoff(self) -> float:
        """Least mIoU - multiplier * latency of configurations within the cutoff."""
        least = self.cutoff.min_miou - MIOU_TOLERANCE
        if self.multiplier:
            limit_ms = self.cutoff.max_latency_ms + LATENCY_TOLERANCE_MS
            least -= self.multiplier * limit_ms
        return least

    def _objective_bounds(self, bound: np.ndarray) -> np.ndarray:
        """Lower bounds of the objective, from upper bounds of the Lagrangian."""
        target = self.target
        if target.minimise_latency:
            if not self.multiplier:
                return np.full(len(bound), self.trivial_bound)
            objective = (target.min_miou - MIOU_TOLERANCE - bound) / self.multiplier
        elif not self.multiplier:
            objective = -bound
        else:
            limit_ms = target.max_latency_ms + LATENCY_TOLERANCE_MS
            objective = -(bound + self.multiplier * limit_ms)
        return np.maximum(objective, self.trivial_bound)

    def _objective_bound(self, bound: float) -> float:
        (objective,) = self._objective_bounds(np.array([bound]))
        return float(objective)

    def _last_heads_behind(self, exit_index: int) -> list[np.ndarray]:
        """Heads deeper than an exit, one array per exit, the deepest first."""
        exit_of = self.problem.exit_of
        return [
            np.flatnonzero(exit_of == e)
            for e in np.unique(exit_of)[::-1]
            if e > exit_index
        ]
