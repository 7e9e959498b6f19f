"""Lagrangian bounds of all pairs and triples of gate clusters, by matrix products.

The bound is the one stated in ``search.solver.lagrangian``, for one multiplier and for
all clusters of the exits involved at once. ``search.solver.node_bounds`` evaluates the
same formula for single nodes. There gates are arbitrary, so nothing is shared between
nodes: at camvid's size the 1,600 pairs of two exits take it 0.24 s of processor time,
against 0.04 s here (0.01 s once the tables of class sums are cached).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.problem import Problem
from search.solver.class_sum_intervals import image_wise_intervals
from search.solver.gate_clusters import GateClusters
from search.solver.lagrangian import LagrangianTerms
from search.solver.miou_tangent import MiouTangent
from search.solver.options import SolverOptions
from search.solver.pair_intervals import ClassSumIntervals, LastHeadSums
from search.solver.prefix_bounds import PrefixState
from search.solver.suffix import SuffixHeads


@dataclass(frozen=True, eq=False)
class TripleBounds:
    """Bounds of pairs of clusters with each cluster of a third exit.

    Attributes:
        rows, columns: int64 arrays of shape (n,), clusters of the first two exits.
        bound: float32 array of shape (n, N), of mIoU - multiplier * latency.
    """

    rows: np.ndarray
    columns: np.ndarray
    bound: np.ndarray


@dataclass(frozen=True, eq=False)
class TripleCandidates:
    """Triples of clusters that are not pruned yet, with one cluster of the first exit.

    Attributes:
        first: the cluster of the first exit.
        seconds: int64 array of shape (n,), clusters of the second exit.
        unpruned: bool array of shape (n, N), which clusters of the third exit are left
            behind each of ``seconds``.
    """

    first: int
    seconds: np.ndarray
    unpruned: np.ndarray


class PrefixRelaxation:
    """Upper bounds of mIoU - multiplier * latency over tuples of clusters."""

    def __init__(
        self,
        problem: Problem,
        tangent: MiouTangent,
        multiplier: float,
        options: SolverOptions,
    ) -> None:
        """No bound is computed yet.

        Args:
            tangent: with weight 1; reweighted per prefix.
            multiplier: mIoU per ms.
        """
        self.problem = problem
        self.multiplier = multiplier
        self._tangent = tangent
        self._options = options
        self._images = np.arange(problem.images)
        self._clusters: dict[int, GateClusters] = {}
        self._intervals = ClassSumIntervals(
            tangent, problem.images, self.clusters, options.cached_pair_tables
        )
        self._reweighted: dict[tuple[tuple[int, ...], int, bytes], MiouTangent] = {}

    def clusters(self, exit_index: int) -> GateClusters:
        """Clusters of an exit's gates, cached."""
        if exit_index not in self._clusters:
            self._clusters[exit_index] = GateClusters.build(
                self.problem, exit_index, self._options.clusters_per_head
            )
        return self._clusters[exit_index]

    def clusters_by_share(self, exit_index: int) -> list[np.ndarray]:
        """Clusters of an exit per share bucket: those that use the same tangent."""
        bucket = self.clusters(exit_index).share_bucket
        return [np.flatnonzero(bucket == value) for value in np.unique(bucket)]

    # --- Tangents -------------------------------------------------------------------

    def tangent(
        self, exits: tuple[int, ...], row: int, last_heads: np.ndarray
    ) -> MiouTangent:
        """Tangent whose weights suit chains with this prefix, cached.

        Its weights are those of the unions behind first clusters of the same share
        bucket as ``row``.

        Args:
            exits: one to three early exits.
            row: cluster of the first.
            last_heads: heads that may answer last.
        """
        bucket = self.clusters(exits[0]).share_bucket
        key = exits, int(bucket[row]), last_heads.tobytes()
        if key not in self._reweighted:
            rows = np.flatnonzero(bucket == bucket[row])
            ratios = self._max_union_ratios(exits, rows, last_heads)
            self._reweighted[key] = self._tangent.reweighted(
                ratios, self._options.min_tangent_weight
            )
        return self._reweighted[key]

    def triple_tangent(self, chain: tuple[int, ...], row: int) -> MiouTangent:
        """Tangent for triples of clusters of a chain of four exits and more."""
        return self.tangent(chain[:3], row, self._heads_of(chain[3:]))

    def _max_union_ratios(
        self, exits: tuple[int, ...], rows: np.ndarray, last_heads: np.ndarray
    ) -> np.ndarray:
        """Upper ends of the union ratios behind some clusters, shape (n, C)."""
        intervals = self._intervals
        match exits:
            case (first,):
                high = intervals.single_exit(first, last_heads)[1][rows]
            case (first, second):
                high = intervals.pairs(rows, first, second, last_heads)[1]
            case (first, second, third):
                triple = first, second, third
                sampled = rows[:: -(-len(rows) // self._options.sampled_first_clusters)]
                high = np.array(
                    [
                        intervals.any_third(int(r), triple, last_heads)[1]
                        for r in sampled
                    ]
                )
            case _:
                raise ValueError(f"{len(exits)} exits; a prefix has one to three.")
        classes = self._tangent.classes
        return high[..., classes:].reshape(-1, classes)

    # --- One and two early exits ----------------------------------------------------

    def single_exit_bounds(
        self, first: int, last_heads: np.ndarray, cutoff: float
    ) -> Iterator[tuple[int, int, float]]:
        """Clusters of one exit with each last head.

        Yields:
            cluster, last head and bound, where the bound is at least ``cutoff``.
        """
        clusters = self.clusters(first)
        low, high = self._intervals.single_exit(first, last_heads)
        for rows in self.clusters_by_share(first):
            tangent = self.tangent((first,), rows[0], last_heads)
            terms = LagrangianTerms(self.problem, tangent, self.multiplier)
            terminal = terms.terminal_values(last_heads)
            bound = (~clusters.any_leaves[rows]).astype(np.float32) @ terminal.T
            bound += terms.best_gate_sums(clusters, terminal, rows)
            remainder = tangent.remainder_bound(low[rows], high[rows])
            bound += (remainder + terms.offset)[:, None]
            for row, column in zip(*np.nonzero(bound >= cutoff), strict=True):
                yield int(rows[row]), int(last_heads[column]), float(bound[row, column])

    def pair_bounds(self, exits: tuple[int, int], last_heads: np.ndarray) -> np.ndarray:
        """Bounds of all pairs of clusters of two exits, shape (N_a, N_b).

        Args:
            last_heads: heads that may answer last.
        """
        shape = len(self.clusters(exits[0])), len(self.clusters(exits[1]))
        bound = np.empty(shape, np.float32)
        for rows in self.clusters_by_share(exits[0]):
            tangent = self.tangent(exits, rows[0], last_heads)
            terms = LagrangianTerms(self.problem, tangent, self.multiplier)
            continuations = terms.terminal_values(last_heads)
            bound[rows] = self._lagrangian_pairs(terms, exits, rows, continuations)
            bound[rows] += tangent.remainder_bound(
                *self._intervals.pairs(rows, *exits, last_heads)
            )
            bound[rows] += np.float32(terms.offset)
        return bound

    def refined_pair_bounds(
        self,
        exits: tuple[int, int],
        last_heads: np.ndarray,
        pairs: np.ndarray,
        bound: np.ndarray,
    ) -> np.ndarray:
        """Bounds of some pairs with image-wise intervals of the class sums.

        Args:
            pairs: int64 array of shape (n, 2), a cluster of each exit.
            bound: their ``pair_bounds``, shape (n,).
        """
        refined = bound.copy()
        bucket = self.clusters(exits[0]).share_bucket[pairs[:, 0]]
        for value in np.unique(bucket):
            same = bucket == value
            rows, columns = pairs[same].T
            tangent = self.tangent(exits, rows[0], last_heads)
            sums = self._intervals.pairs(rows, *exits, last_heads, columns)
            image_wise = self._image_wise_remainder(
                tangent, exits, last_heads, pairs[same]
            )
            gain = tangent.remainder_bound(*sums) - image_wise
            refined[same] -= np.maximum(gain, 0)
        return refined

    def _lagrangian_pairs(
        self,
        terms: LagrangianTerms,
        exits: tuple[int, int],
        rows: np.ndarray,
        continuations: np.ndarray,
    ) -> np.ndarray:
        """Lagrangian bounds of pairs, without offset and remainder, (n, N_b).

        Args:
            rows: clusters of the first exit, of one share bucket.
            continuations: largest value of each image behind the two exits, per
                continuation, shape (K, I).
        """
        first, second = (self.clusters(e) for e in exits)
        best = continuations.max(0)
        continue_values = terms.after_exit(second, best, self._images)
        reaching = (~first.any_leaves[rows]).astype(np.float32)
        bound = terms.best_gate_sums(first, continue_values, rows)
        bound += terms.best_second_gate_sums(
            second, reaching, best, np.arange(len(second))
        )
        if len(continuations) > 1:
            # One continuation is taken: the maximum of the sums, not the sum of the
            # maxima.
            gains = (continuations - best).T
            for index, row in enumerate(rows):
                both = (~second.any_leaves & ~first.any_leaves[row]).astype(np.float32)
                bound[index] += (both @ gains).max(1)
        return bound

    # --- Three early exits and more -------------------------------------------------

    def suffix_heads(self, chain: tuple[int, ...]) -> SuffixHeads:
        """All heads behind the third exit of a chain.

        Args:
            chain: all exits, four and more; a head of the last one answers last.
        """
        problem = self.problem
        value = self._tangent.score.sum(1, dtype=np.float64)
        value -= self.multiplier * (
            problem.segments_ms + problem.output_ms + problem.head_ms
        )
        order = np.argsort(value, kind="stable")
        gated = order[[len(problem.gates[head]) > 0 for head in order]]
        early = tuple(gated[problem.exit_of[gated] == e] for e in chain[3:-1])
        return SuffixHeads(early, np.flatnonzero(problem.exit_of == chain[-1]))

    def free_suffix_pair_bounds(
        self, chain: tuple[int, ...], suffix: SuffixHeads, rows: np.ndarray
    ) -> np.ndarray:
        """Bounds of pairs of a chain's first two exits, with any clusters behind them.

        Args:
            chain: four exits and more, the one that answers last included.
            rows: clusters of the first exit, of one share bucket.

        Returns:
            float32 array of shape (n, N_b).
        """
        terms, tangent, behind = self._behind_two(chain, rows[0])
        continuations = self._third_exit_values(terms, chain[2], suffix)
        exits = chain[0], chain[1]
        bound = self._lagrangian_pairs(terms, exits, rows, continuations)
        bound += tangent.remainder_bound(*self._intervals.pairs(rows, *exits, behind))
        return bound + np.float32(terms.offset)

    def image_wise_triple_bounds(
        self,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        rows: np.ndarray,
        columns: np.ndarray,
        cutoff: float,
    ) -> TripleBounds | None:
        """Bounds of pairs with each cluster of the third exit, images choosing freely.

        Args:
            rows, columns: int64 arrays of shape (n,), clusters of the first exit, of
                one share bucket, and of the second.

        Returns:
            pairs of which some triple is not below ``cutoff``; None without any.
        """
        terms, tangent, behind = self._behind_two(chain, rows[0])
        continuations = self._third_exit_values(terms, chain[2], suffix)
        firsts, prefixes = np.unique(rows, return_inverse=True)
        state = PrefixState.after_first_exit(terms, self.clusters(chain[0]), firsts)
        bound = state.bound_with_next_exit(
            terms, self.clusters(chain[1]), continuations, prefixes, columns
        )
        exits = chain[0], chain[1]
        remainder = tangent.remainder_bound(
            *self._intervals.pairs(rows, *exits, behind, columns)
        )
        if suffix.early and suffix.early_fixed:
            # Few heads can answer now, so image-wise intervals repay their cost.
            heads = np.union1d(self._heads_of(chain[2:3]), suffix.all_heads)
            pairs = np.column_stack([rows, columns])
            image_wise = self._image_wise_remainder(tangent, exits, heads, pairs)
            remainder = np.minimum(remainder, image_wise)
        bound += (remainder + terms.offset)[:, None]
        keep = bound.max(1) >= cutoff
        if not keep.any():
            return None
        return TripleBounds(rows[keep], columns[keep], bound[keep])

    def gate_wise_triple_bounds(
        self,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        candidates: TripleCandidates,
        cutoff: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of triples of clusters, summed per gate before the maximum is taken.

        Returns:
            clusters of the second and of the third exit, and the bound, where it is at
            least ``cutoff``.
        """
        first = candidates.first
        tangent = self.triple_tangent(chain, first)
        terms = LagrangianTerms(self.problem, tangent, self.multiplier)
        exits = chain[0], chain[1], chain[2]
        behind = self._heads_of(chain[3:])
        max_remainder = tangent.remainder_bound(
            *self._intervals.any_third(first, exits, behind)
        )
        rows, columns, bound = self._lagrangian_triples(
            terms, chain, suffix, candidates, max_remainder + terms.offset, cutoff
        )
        remainder = np.empty_like(bound)
        for block in self._blocks(len(rows)):
            sums = self._intervals.triples(
                first, rows[block], columns[block], exits, behind
            )
            remainder[block] = tangent.remainder_bound(*sums)
        left = np.flatnonzero(bound + remainder >= cutoff)
        if len(suffix.last_heads) > 1 and not suffix.early:
            # One head answers last: the maximum of the sums, not the sum of the maxima.
            one, two, three = (self.clusters(e) for e in exits)
            terminal = terms.terminal_values(suffix.last_heads)
            gains = terminal - terminal.max(0)
            for block in self._blocks(len(left)):
                triple = left[block]
                stays = (
                    ~one.any_leaves[first]
                    & ~two.any_leaves[rows[triple]]
                    & ~three.any_leaves[columns[triple]]
                )
                bound[triple] += (stays.astype(np.float32) @ gains.T).max(1)
            left = left[bound[left] + remainder[left] >= cutoff]
        rows, columns, bound = rows[left], columns[left], bound[left]
        triples = np.column_stack([np.full(len(rows), first), rows, columns])
        image_wise = self._image_wise_remainder(
            tangent, exits, suffix.all_heads, triples
        )
        bound += np.minimum(remainder[left], image_wise)
        keep = bound >= cutoff
        return rows[keep], columns[keep], bound[keep]

    def _lagrangian_triples(
        self,
        terms: LagrangianTerms,
        chain: tuple[int, ...],
        suffix: SuffixHeads,
        candidates: TripleCandidates,
        max_addend: np.ndarray,
        cutoff: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triples and bounds of ``gate_wise_triple_bounds``, without the remainder.

        Args:
            max_addend: most that offset and remainder add, per cluster of the second
                exit and share bucket of the third, shape (N_b, P).
        """
        one, two, three = (self.clusters(e) for e in chain[:3])
        row, seconds = candidates.first, candidates.seconds
        addend = max_addend[seconds][:, three.share_bucket]
        suffix_values = self._suffix_values(terms, suffix)
        reaching = ~one.any_leaves[row]
        third_values = terms.after_exit(three, suffix_values, self._images)
        # The first exit, on images that its gates disagree on.
        undecided, stay = one.undecided[row], 1 - one.undecided_masks[row]
        leaving = terms.leaving_gate_sums(one, row)
        behind = terms.after_exit(two, third_values.max(0), undecided)[seconds]
        to_come = (leaving[:, None] + stay @ behind.T).max(0)[:, None] + addend
        # The two deeper exits, on images that surely reach them: first summed per gate
        # of the second, and what that leaves per gate of the third.
        stays = (~two.any_leaves[seconds] & reaching).astype(np.float32)
        bound = terms.best_gate_sums(
            two, third_values, seconds, reaching, candidates.unpruned
        )
        unpruned = bound + stays @ third_values.T + to_come >= cutoff
        bound += terms.best_second_gate_sums(
            three, stays, suffix_values, np.arange(len(three)), unpruned
        )
        unpruned = bound + to_come >= cutoff
        undecided_values = third_values[:, undecided]
        for second in np.flatnonzero(unpruned.any(1)):
            left = np.flatnonzero(unpruned[second])
            behind = terms.after_cluster(
                two, int(seconds[second]), undecided_values[left], undecided
            )
            bound[second, left] += (leaving[:, None] + stay @ behind.T).max(0)
        rows, columns = np.nonzero(unpruned & (bound + addend >= cutoff))
        return seconds[rows], columns, bound[rows, columns] + np.float32(terms.offset)

    # --- Shared ---------------------------------------------------------------------

    def _behind_two(
        self, chain: tuple[int, ...], row: int
    ) -> tuple[LagrangianTerms, MiouTangent, np.ndarray]:
        """Terms and tangent for two exits of a longer chain, and the heads behind."""
        behind = self._heads_of(chain[2:])
        tangent = self.tangent(chain[:2], row, behind)
        terms = LagrangianTerms(self.problem, tangent, self.multiplier)
        return terms, tangent, behind

    def _third_exit_values(
        self, terms: LagrangianTerms, third: int, suffix: SuffixHeads
    ) -> np.ndarray:
        """Largest value behind two exits, per cluster of the third, shape (N, I)."""
        suffix_values = self._suffix_values(terms, suffix)
        return terms.after_exit(self.clusters(third), suffix_values, self._images)

    def _suffix_values(self, terms: LagrangianTerms, suffix: SuffixHeads) -> np.ndarray:
        """Largest value behind the third exit, float32 array of shape (I,)."""
        best = terms.terminal_values(suffix.last_heads).max(0)
        for heads in reversed(suffix.early):
            clusters = self.clusters(int(self.problem.exit_of[heads[0]]))
            selected = np.flatnonzero(np.isin(clusters.head, heads))
            values = [
                terms.after_cluster(clusters, int(c), best, self._images)
                for c in selected
            ]
            best = np.max(values, axis=0)
        return best

    def _image_wise_remainder(
        self,
        tangent: MiouTangent,
        exits: tuple[int, ...],
        last_heads: np.ndarray,
        rows: np.ndarray,
    ) -> np.ndarray:
        """Remainder bound of tuples of clusters, shape (n,)."""
        clusters = [self.clusters(e) for e in exits]
        last = LastHeadSums.of(tangent, last_heads)
        return tangent.remainder_bound(
            *image_wise_intervals(tangent, last, clusters, rows)
        )

    def _heads_of(self, exits: tuple[int, ...]) -> np.ndarray:
        return np.flatnonzero(np.isin(self.problem.exit_of, exits))

    def _blocks(self, count: int) -> Iterator[slice]:
        """A long array in blocks that fit the caches."""
        size = self._options.triple_block
        for begin in range(0, count, size):
            yield slice(begin, begin + size)
