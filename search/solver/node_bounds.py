"""Lagrangian bounds of nodes, and narrowing: gates that no improving solution has.

The bound is the one stated in ``search.solver.lagrangian``, here for arbitrary gates at
each exit, for several multipliers and for the mIoU, the latency and the images within
the p90 limit by themselves. Replacing an exit's maximum by one gate's sum bounds the
configurations with that gate, so single gates and last heads can be removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mess_tf.core.quantiles import quantile_rank
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.cutoff import Cutoff
from search.solver.miou_tangent import MiouTangent
from search.solver.nodes import ExitImageSets, Node
from search.solver.options import SolverOptions
from search.solver.target import Target

# Entries of a cache that is emptied when full; nodes of a batch share some few.
_CACHED_LAST_HEADS = 64


@dataclass(frozen=True, eq=False)
class LastHeadTerms:
    """Values of the images at some last heads, with one surrogate.

    Attributes:
        score: float32 array of shape (L, I).
        answer_ms: backbone, head and output of each last head, shape (L,).
        best: float32 array of shape (M + 2, I), maximum over the heads: Lagrangian
            value for each multiplier, score, minus latency.
        low, high: least and largest class terms over the heads, shape (I, 2C).
    """

    score: np.ndarray
    answer_ms: np.ndarray
    best: np.ndarray
    low: np.ndarray
    high: np.ndarray


class NodeBounder:
    """Bounds and narrows nodes of one problem towards one target.

    Arrays with M + 3 columns hold, for each of M multipliers, the Lagrangian, then the
    score alone, minus the latency alone, and the number of images within the p90 limit:
    sums to be bounded from above.
    """

    def __init__(
        self,
        problem: Problem,
        target: Target,
        multipliers: np.ndarray,
        options: SolverOptions,
    ) -> None:
        """``multipliers``: mIoU per ms, float64 array of shape (M,)."""
        self.problem = problem
        self.target = target
        self.multipliers = multipliers
        self._options = options
        leave_ms = problem.segments_ms + problem.output_ms
        longest_ms = float(leave_ms.max() + problem.head_ms.sum())
        # Milliseconds summed in float32 are this exact.
        self._rounding_ms = longest_ms * (problem.images + 16) * 1.2e-7
        # What a millisecond of one image costs each of the sums.
        weights = np.array([*multipliers, 0.0, 1.0, 0.0]) / problem.images
        self._ms_weights = weights.astype(np.float32)
        self._last_head_terms: dict[tuple[MiouTangent, bytes], LastHeadTerms] = {}

    def narrow(self, nodes: Sequence[Node], cutoff: Cutoff) -> list[Node]:
        """Removes gates and last heads that no improving configuration has.

        Args:
            nodes: with the same number of early heads.
            cutoff: least mIoU and highest latency of an improving configuration.

        Returns:
            the narrowed nodes with their bounds, without those that are pruned.
        """
        done: list[Node] = []
        left = list(nodes)
        if self.target.max_size_bytes < np.inf:
            most = self.target.max_size_bytes
            left = [node for node in left if self._min_size_bytes(node) <= most]
        for _ in range(self._options.max_narrowing_passes):
            again: list[Node] = []
            for node, narrowed in self._narrowed_once(left, cutoff):
                shrank = narrowed.size < self._options.narrowing_ratio * node.size
                (again if shrank else done).append(narrowed)
            left = again
        return done + left

    def surrogate_error(self, node: Node) -> float:
        """Bound of mIoU minus (constant + sum of scores) over a node."""
        sets = ExitImageSets.of(self.problem, [node])
        (remainder,) = self._remainder([node], sets, [self._last_heads_of(node)])
        return float(remainder) + node.tangent.rounding_error

    def _min_size_bytes(self, node: Node) -> float:
        """Least size of a configuration of the node."""
        problem = self.problem
        size = problem.head_bytes[list(node.heads)].sum()
        for head, gates in zip(node.heads, node.gates, strict=True):
            size += problem.gates[head].decision_bytes[gates].min()
        last = (
            problem.segments_bytes[node.last_heads]
            + problem.head_bytes[node.last_heads]
        )
        return float(size + last.min())

    def _narrowed_once(
        self, nodes: Sequence[Node], cutoff: Cutoff
    ) -> Iterator[tuple[Node, Node]]:
        """Nodes that one pass does not prune, each with its narrowed node."""
        gates = [max(len(g) for g in node.gates) for node in nodes]
        per_node = self.problem.images * max(gates, default=1)
        at_once = max(1, self._options.narrowing_block // per_node)
        for begin in range(0, len(nodes), at_once):
            block = nodes[begin : begin + at_once]
            for node, narrowed in zip(
                block, self._bound_pass(block, cutoff), strict=True
            ):
                if narrowed is not None:
                    yield node, narrowed

    def _bound_pass(
        self, nodes: Sequence[Node], cutoff: Cutoff
    ) -> Iterator[Node | None]:
        sets = ExitImageSets.of(self.problem, nodes)
        early = len(nodes[0].heads)
        last = [self._last_heads_of(node) for node in nodes]
        offset = np.array(
            [n.tangent.constant + n.tangent.rounding_error for n in nodes]
        )
        offset += self._remainder(nodes, sets, last)
        leave, passed_ms = self._leave_values(nodes, sets)
        behind = self._terminal_values(last, passed_ms)
        sums = [self._last_head_sums(sets, last, passed_ms)]
        for position in range(early - 1, -1, -1):
            sums.insert(0, self._gate_sums(sets, position, leave[position], behind))
            if position:
                best = np.maximum(leave[position], behind)
                any_leaves, all_leave = (
                    m[position][:, None] for m in (sets.any_leaves, sets.all_leave)
                )
                best = np.where(any_leaves, best, behind)
                penalty = sets.min_pass_ms(position)[:, None] * self._ms_weights
                best = np.where(all_leave, leave[position], best)
                behind = best - penalty[:, :, None].astype(np.float32)
        maxima = [own.max(1) for own in sums]
        total = sum(maxima)
        keeps, bounds = [], []
        for own, maximum in zip(sums, maxima, strict=True):
            # One gate's sum in place of its exit's maximum.
            upper = (total - maximum)[:, None] + own
            keep = self._may_improve(upper, offset[:, None], cutoff)
            objective = self._objective_bound(upper, offset[:, None])
            keeps.append(keep)
            bounds.append(objective.min(1, where=keep, initial=np.inf))
        bound = np.max(bounds, axis=0)
        for row, node in enumerate(nodes):
            if not all(keep[row].any() for keep in keeps):
                yield None
                continue
            pairs = zip(node.gates, keeps[:-1], strict=True)
            yield replace(
                node,
                gates=tuple(g[keep[row, : len(g)]] for g, keep in pairs),
                last_heads=node.last_heads[keeps[-1][row, : len(node.last_heads)]],
                bound=max(node.bound, float(bound[row])),
            )

    def _last_heads_of(self, node: Node) -> LastHeadTerms:
        """Terms of a node's last heads, cached."""
        key = node.tangent, node.last_heads.tobytes()
        terms = self._last_head_terms.get(key)
        if terms is None:
            if len(self._last_head_terms) > _CACHED_LAST_HEADS:
                self._last_head_terms.clear()
            problem, heads = self.problem, node.last_heads
            score = node.tangent.score[heads]
            answer_ms = (problem.segments_ms + problem.output_ms + problem.head_ms)[
                heads
            ]
            best = np.empty((len(self.multipliers) + 2, problem.images), np.float32)
            for row, weight in enumerate(self._ms_weights[:-2]):
                penalty = (weight * answer_ms)[:, None].astype(np.float32)
                best[row] = (score - penalty).max(0)
            best[-1] = -answer_ms.min() / problem.images
            class_terms = node.tangent.class_terms[heads]
            terms = LastHeadTerms(
                score, answer_ms, best, class_terms.min(0), class_terms.max(0)
            )
            self._last_head_terms[key] = terms
        return terms

    def _leave_values(
        self, nodes: Sequence[Node], sets: ExitImageSets
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values of the images that leave at each early head.

        Returns:
            float32 array of shape (n_early, B, M + 3, I), without the cost of passing
            exits; and the least cost of passing all of them, ms, shape (B,).
        """
        problem, count = self.problem, len(self.multipliers)
        early = len(nodes[0].heads)
        shape = early, len(nodes), count + 3, problem.images
        leave = np.empty(shape, np.float32)
        passed_ms = np.zeros(len(nodes))
        for position in range(early):
            heads = np.array([node.heads[position] for node in nodes])
            score = np.array(
                [n.tangent.score[h] for n, h in zip(nodes, heads, strict=True)]
            )
            leave_ms = (problem.segments_ms + problem.output_ms)[heads]
            passed_ms = passed_ms + sets.min_pass_ms(position)
            leave[position, :, : count + 1] = score[:, None]
            leave[position, :, count + 1] = 0
            penalty = leave_ms[:, None] * self._ms_weights[:-1]
            leave[position, :, :-1] -= penalty.astype(np.float32)[:, :, None]
            leave[position, :, count + 2] = self._within_p90(leave_ms + passed_ms)[
                :, None
            ]
        return leave, passed_ms

    def _within_p90(self, latency_ms: np.ndarray) -> np.ndarray:
        return latency_ms <= self.target.max_p90_ms + LATENCY_TOLERANCE_MS

    def _terminal_values(
        self, last: Sequence[LastHeadTerms], passed_ms: np.ndarray
    ) -> np.ndarray:
        """Largest values of the images at the last heads, (B, M + 3, I)."""
        best = np.empty(
            (len(last), len(self._ms_weights), self.problem.images), np.float32
        )
        for row, terms in enumerate(last):
            best[row, :-1] = terms.best
            best[row, -1] = self._within_p90(terms.answer_ms.min() + passed_ms[row])
        return best

    def _last_head_sums(
        self,
        sets: ExitImageSets,
        last: Sequence[LastHeadTerms],
        passed_ms: np.ndarray,
    ) -> np.ndarray:
        """Sums over the images that surely reach the end, shape (B, L, M + 3).

        Nodes with fewer last heads have minus infinity.
        """
        reaching = sets.surely_reach[-1].astype(np.float32)
        count = len(self.multipliers)
        longest = max(len(terms.answer_ms) for terms in last)
        sums = np.full((len(last), longest, count + 3), -np.inf)
        for row, terms in enumerate(last):
            number = float(reaching[row].sum())
            own = sums[row, : len(terms.answer_ms)]
            own[:, : count + 1] = (terms.score @ reaching[row])[:, None]
            own[:, count + 1] = 0
            own -= number * np.outer(terms.answer_ms, self._ms_weights)
            own[:, count + 2] = number * self._within_p90(
                terms.answer_ms + passed_ms[row]
            )
        return sums

    def _gate_sums(
        self,
        sets: ExitImageSets,
        position: int,
        leave: np.ndarray,
        behind: np.ndarray,
    ) -> np.ndarray:
        """Per gate, sums over the images that surely get here and may leave here.

        An image that not all gates agree on takes its largest value behind the exit if
        the gate keeps it; images that no gate lets leave are counted further on.

        Args:
            leave, behind: float32 arrays of shape (B, F, I).

        Returns:
            float64 array of shape (B, G, F), minus infinity where there is no gate.
        """
        reaching = sets.surely_reach[position]
        undecided = sets.any_leaves[position] & ~sets.all_leave[position]
        kept = np.where((reaching & undecided)[:, None], behind, 0)
        gain = np.where(reaching[:, None], leave - kept, 0)
        masks = sets.masks[position].astype(np.float32)
        sums = (masks @ gain.transpose(0, 2, 1)).astype(np.float64)
        sums += kept.sum(-1, dtype=np.float64)[:, None]
        cost = reaching.sum(1)[:, None] * sets.pass_ms[position]
        sums -= cost[:, :, None] * self._ms_weights
        sums[~sets.is_gate[position]] = -np.inf
        return sums

    def _may_improve(
        self, upper: np.ndarray, offset: np.ndarray, cutoff: Cutoff
    ) -> np.ndarray:
        """Whether upper bounds, (..., M + 3), allow an improving configuration."""
        count = len(self.multipliers)
        keep = upper[..., count] + offset >= cutoff.min_miou - MIOU_TOLERANCE
        limit_ms = cutoff.max_latency_ms + LATENCY_TOLERANCE_MS + self._rounding_ms
        keep &= -upper[..., count + 1] <= limit_ms
        keep &= upper[..., count + 2] >= quantile_rank(0.9, self.problem.images) - 0.5
        if cutoff.max_latency_ms < np.inf:
            least = cutoff.min_miou - MIOU_TOLERANCE - self.multipliers * limit_ms
            keep &= (upper[..., :count] + offset[..., None] >= least).all(-1)
        return np.asarray(keep)

    def _objective_bound(self, upper: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Lower bound of the objective by weak duality, shape (...)."""
        target, count = self.target, len(self.multipliers)
        lagrangian = upper[..., :count] + offset[..., None]
        if target.minimise_latency:
            missing = target.min_miou - MIOU_TOLERANCE - lagrangian
            dual = (missing / self.multipliers).max(-1)
            bound = np.maximum(-upper[..., count + 1], dual)
            return np.asarray(bound - self._rounding_ms)
        miou = upper[..., count] + offset
        if target.max_latency_ms < np.inf:
            limit_ms = target.max_latency_ms + LATENCY_TOLERANCE_MS + self._rounding_ms
            dual = (lagrangian + self.multipliers * limit_ms).min(-1)
            miou = np.minimum(miou, dual)
        return np.asarray(-miou)

    def _remainder(
        self,
        nodes: Sequence[Node],
        sets: ExitImageSets,
        last: Sequence[LastHeadTerms],
    ) -> np.ndarray:
        """Remainder bound from image-wise intervals of the class sums, shape (B,).

        Each image takes the least and the largest class terms of the heads that may
        answer it; for most there is only one.
        """
        class_terms = nodes[0].tangent.class_terms
        may_leave = np.concatenate(
            [sets.may_reach[:-1] & sets.any_leaves, sets.may_reach[-1:]]
        )
        single = may_leave.sum(0) == 1
        decided = (may_leave & single).astype(np.float32)
        low, high = (np.empty((len(nodes), class_terms.shape[2])) for _ in range(2))
        for row, (node, terms) in enumerate(zip(nodes, last, strict=True)):
            pairs = zip(decided[:, row], node.heads, strict=False)
            exact = sum(images @ class_terms[head] for images, head in pairs)
            low[row] = exact + decided[-1, row] @ terms.low
            high[row] = exact + decided[-1, row] @ terms.high
        rows, images = np.nonzero(~single)
        if len(rows):
            least, most = _undecided_class_terms(
                nodes, last, may_leave[:, rows, images], rows, images
            )
            own, start = np.unique(rows, return_index=True)
            low[own] += np.add.reduceat(least, start, axis=0, dtype=np.float64)
            high[own] += np.add.reduceat(most, start, axis=0, dtype=np.float64)
        remainder = np.empty(len(nodes))
        for tangent in {node.tangent for node in nodes}:
            same = [node.tangent is tangent for node in nodes]
            remainder[same] = tangent.remainder_bound(low[same], high[same])
        return remainder


def _undecided_class_terms(
    nodes: Sequence[Node],
    last: Sequence[LastHeadTerms],
    may_leave: np.ndarray,
    rows: np.ndarray,
    images: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest class terms of images that several heads may answer.

    Args:
        may_leave: bool array of shape (n_early + 1, n), where each may leave.
        rows, images: int64 arrays of shape (n,), the node and the image.

    Returns:
        float32 arrays of shape (n, 2C).
    """
    class_terms = nodes[0].tangent.class_terms
    least = np.full((len(rows), class_terms.shape[2]), np.inf, np.float32)
    most = -least
    heads = np.array([node.heads for node in nodes])
    for position in range(len(may_leave) - 1):
        at = np.flatnonzero(may_leave[position])
        own = class_terms[heads[rows[at], position], images[at]]
        least[at] = np.minimum(least[at], own)
        most[at] = np.maximum(most[at], own)
    different = list(dict.fromkeys(last))
    which = np.array([different.index(terms) for terms in last])
    for number, terms in enumerate(different):
        at = np.flatnonzero(may_leave[-1] & (which[rows] == number))
        least[at] = np.minimum(least[at], terms.low[images[at]])
        most[at] = np.maximum(most[at], terms.high[images[at]])
    return least, most
