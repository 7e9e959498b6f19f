"""Primal heuristic: coordinate ascent on the Lagrangian, then a neighbourhood search.

It proves nothing; the better its incumbent, the more the branch and bound can prune.
For a given Lagrange multiplier the best gate of one exit, the others fixed, takes one
matrix product. The multiplier is bisected until the maximisers straddle the limit: near
there the Lagrangian bound is tightest, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.problem import Problem
from search.solver.incumbent import IncumbentStore, Solution
from search.solver.miou_tangent import MiouTangent


@dataclass
class _Candidate:
    """A configuration while its exits are exchanged.

    Attributes:
        early: (head, gate) by exit index.
        last_head: answers last.
    """

    early: dict[int, tuple[int, int]]
    last_head: int

    @classmethod
    def of(cls, problem: Problem, solution: Solution) -> _Candidate:
        pairs = zip(solution.heads[:-1], solution.gates, strict=True)
        early = {int(problem.exit_of[h]): (h, g) for h, g in pairs}
        return cls(early, solution.heads[-1])

    def chain(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heads and gates in order of depth."""
        pairs = [self.early[e] for e in sorted(self.early)]
        heads = (*(h for h, _ in pairs), self.last_head)
        return heads, tuple(g for _, g in pairs)

    def offer_to(self, store: IncumbentStore) -> None:
        heads, gates = self.chain()
        store.offer(heads, np.array(gates, np.int64).reshape(1, -1))


def coordinate_ascent(
    store: IncumbentStore, max_early_exits: int, span: tuple[float, float]
) -> float:
    """Offers good configurations to the store.

    Args:
        span: least and largest Lagrange multiplier to try, mIoU per ms.

    Returns:
        the multiplier at which the maximisers straddle the limit.
    """
    low, high = span
    target = store.target
    limit = target.min_miou if target.minimise_latency else target.max_latency_ms
    if limit in (0.0, np.inf):
        low = high = span[1] if target.minimise_latency else span[0]
    for _ in range(store.options.bisection_steps):
        if store.out_of_time():
            break
        multiplier = float(np.sqrt(low * high))
        maximiser = _ascend(store, max_early_exits, multiplier)
        latency_ms, miou = store.figures(*maximiser.chain())
        raise_multiplier = (
            miou >= target.min_miou
            if target.minimise_latency
            else latency_ms > target.max_latency_ms
        )
        low, high = (multiplier, high) if raise_multiplier else (low, multiplier)
        if low == high:
            break
    if not store.out_of_time():
        neighbourhood_search(store, max_early_exits)
    return float(np.sqrt(low * high))


def _ascend(
    store: IncumbentStore, max_early_exits: int, multiplier: float
) -> _Candidate:
    """Improves one exit after the other, from the incumbent, to a local maximum."""
    problem, incumbent = store.problem, store.incumbent
    candidate = _Candidate({}, problem.reference)
    answering = np.full(problem.images, problem.reference)
    if incumbent is not None:
        candidate = _Candidate.of(problem, incumbent)
        answering = incumbent.answering_heads(problem)
    ascent = _Ascent(
        problem, MiouTangent.tangent_at(problem, answering), multiplier, max_early_exits
    )
    for _ in range(store.options.max_sweeps):
        before = candidate.chain()
        if max_early_exits:
            for exit_index in np.unique(problem.exit_of)[::-1]:
                ascent.optimise_exit(candidate, int(exit_index))
        ascent.optimise_last_head(candidate)
        candidate.offer_to(store)
        if candidate.chain() == before or store.out_of_time():
            break
    return candidate


@dataclass(frozen=True, eq=False)
class _FixedExits:
    """Figures of a configuration's other exits, for one exit that is optimised.

    Attributes:
        reaching: bool array of shape (I,), images that reach the exit.
        score_behind, ms_behind: float arrays of shape (I,), score and cost of each
            image if it continues.
        score_before: sum of the scores of the images that leave before.
        ms_before: sum of all costs before the exit.
    """

    reaching: np.ndarray
    score_behind: np.ndarray
    ms_behind: np.ndarray
    score_before: float
    ms_before: float

    @classmethod
    def of(
        cls,
        problem: Problem,
        tangent: MiouTangent,
        candidate: _Candidate,
        exit_index: int,
    ) -> _FixedExits:
        """All exits of a candidate but one."""
        leave_ms = problem.segments_ms + problem.output_ms
        reaching = np.ones(problem.images, bool)
        ms_before = score_before = 0.0
        for before in sorted(e for e in candidate.early if e < exit_index):
            head, gate = candidate.early[before]
            gates = problem.gates[head]
            leaving = reaching & gates.masks[gate]
            pass_ms = problem.head_ms[head] + gates.decision_ms[gate]
            ms_before += reaching.sum() * pass_ms
            ms_before += leaving.sum() * leave_ms[head]
            score_before += float(tangent.score[head][leaving].sum())
            reaching = reaching & ~leaving
        score = tangent.score[candidate.last_head]
        ms = np.full(
            problem.images,
            leave_ms[candidate.last_head] + problem.head_ms[candidate.last_head],
        )
        behind = (e for e in candidate.early if e > exit_index)
        for deeper in sorted(behind, reverse=True):
            head, gate = candidate.early[deeper]
            gates = problem.gates[head]
            pass_ms = problem.head_ms[head] + gates.decision_ms[gate]
            score = np.where(gates.masks[gate], tangent.score[head], score)
            ms = np.where(gates.masks[gate], leave_ms[head], ms) + pass_ms
        return cls(reaching, score, ms, score_before, float(ms_before))


@dataclass(frozen=True, eq=False)
class _Ascent:
    """Exact maximisation of the surrogate Lagrangian over one exit at a time."""

    problem: Problem
    tangent: MiouTangent
    multiplier: float
    max_early_exits: int

    def optimise_exit(self, candidate: _Candidate, exit_index: int) -> None:
        """Sets the best head and gate of an exit, or none, the others fixed."""
        problem = self.problem
        others = [e for e in candidate.early if e != exit_index]
        if exit_index >= problem.exit_of[candidate.last_head]:
            return
        if len(others) >= self.max_early_exits:
            return
        fixed = _FixedExits.of(problem, self.tangent, candidate, exit_index)
        per_image = self.multiplier / problem.images
        behind = fixed.score_behind - per_image * fixed.ms_behind
        best_gain, best = 0.0, None
        for head in np.flatnonzero(problem.exit_of == exit_index):
            gates = problem.gates[head]
            if not len(gates):
                continue
            leave_ms = problem.segments_ms[head] + problem.output_ms[head]
            gain = self.tangent.score[head] - per_image * leave_ms - behind
            gain = np.where(fixed.reaching, gain, 0).astype(np.float32)
            pass_ms = problem.head_ms[head] + gates.decision_ms
            gate_gain = gates.masks.astype(np.float32) @ gain
            gate_gain = gate_gain - per_image * fixed.reaching.sum() * pass_ms
            gate = int(gate_gain.argmax())
            if gate_gain[gate] > best_gain:
                best_gain, best = float(gate_gain[gate]), (int(head), gate)
        candidate.early.pop(exit_index, None)
        if best is not None:
            candidate.early[exit_index] = best

    def optimise_last_head(self, candidate: _Candidate) -> None:
        """Sets the best last head behind the early exits."""
        problem = self.problem
        behind_all = int(problem.exit_of.max()) + 1
        fixed = _FixedExits.of(problem, self.tangent, candidate, behind_all)
        deepest = max(candidate.early, default=0)
        heads = np.flatnonzero(problem.exit_of > deepest)
        answer_ms = (problem.segments_ms + problem.output_ms + problem.head_ms)[heads]
        penalty = self.multiplier / problem.images * fixed.reaching.sum() * answer_ms
        value = self.tangent.score[heads] @ fixed.reaching.astype(np.float32) - penalty
        candidate.last_head = int(heads[value.argmax()])


def neighbourhood_search(store: IncumbentStore, max_early_exits: int) -> None:
    """Offers the most promising replacements of each single exit of the incumbent.

    Repeated from each new incumbent until none of its neighbours is better.
    """
    problem = store.problem
    for _ in range(store.options.max_sweeps):
        centre = store.incumbent
        if centre is None or store.out_of_time():
            return
        tangent = MiouTangent.tangent_at(problem, centre.answering_heads(problem))
        early = _Candidate.of(problem, centre).early
        for exit_index in np.unique(problem.exit_of):
            others = {e: pair for e, pair in early.items() if e != exit_index}
            if exit_index >= problem.exit_of[centre.heads[-1]]:
                continue
            if len(others) >= max_early_exits:
                continue
            candidate = _Candidate(dict(others), centre.heads[-1])
            fixed = _FixedExits.of(problem, tangent, candidate, int(exit_index))
            heads = np.flatnonzero(problem.exit_of == exit_index)
            for pair in _ranked_replacements(store, centre, tangent, fixed, heads):
                candidate.early = {**others, int(exit_index): pair}
                candidate.offer_to(store)
        if store.incumbent is centre:
            return


def _ranked_replacements(
    store: IncumbentStore,
    centre: Solution,
    tangent: MiouTangent,
    fixed: _FixedExits,
    heads: Sequence[int] | np.ndarray,
) -> list[tuple[int, int]]:
    """(head, gate) pairs of one exit that may beat ``centre``, the best first."""
    problem, target = store.problem, store.target
    fixed_ms = fixed.ms_before + (fixed.ms_behind * fixed.reaching).sum()
    fixed_score = (
        tangent.constant + fixed.score_before + fixed.score_behind @ fixed.reaching
    )
    if target.minimise_latency:
        min_miou, max_latency_ms = target.min_miou, centre.latency_ms
    else:
        min_miou, max_latency_ms = centre.miou, target.max_latency_ms
    ranked: list[tuple[float, int, int]] = []
    for head in heads:
        gates = problem.gates[head]
        if not len(gates):
            continue
        masks = (gates.masks & fixed.reaching).astype(np.float32)
        leave_ms = problem.segments_ms[head] + problem.output_ms[head]
        pass_ms = problem.head_ms[head] + gates.decision_ms
        total_ms = (
            fixed_ms
            + masks @ (leave_ms - fixed.ms_behind)
            + fixed.reaching.sum() * pass_ms
        )
        miou = fixed_score + masks @ (tangent.score[head] - fixed.score_behind)
        latency_ms = total_ms / problem.images
        may_improve = latency_ms < max_latency_ms
        may_improve &= miou > min_miou - store.options.tangent_error
        rank = latency_ms if target.minimise_latency else -miou
        for gate in np.flatnonzero(may_improve):
            ranked.append((float(rank[gate]), int(head), int(gate)))
    ranked.sort()
    return [
        (head, gate) for _, head, gate in ranked[: store.options.neighbours_per_exit]
    ]
