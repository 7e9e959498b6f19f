"""Good configurations early: one exit at a time, at an exchange rate of mIoU and ms.

It proves nothing; the better its answer, the more the exact search can leave out. At a
given rate the best gate of one exit, the others fixed, is a matrix product away. The
rate itself is halved in until the answers straddle the limit: near there the bound of
the exact search is tightest too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from search.problem import Problem
from search.solver.miou_tangent import Linear
from search.solver.target import Target

_HALVINGS = 9
_MAX_SWEEPS = 6
_POLISHED = 24
# A tangent at a configuration misjudges its neighbours' mIoU by less than this.
_MISJUDGED = 5e-4


class Found(Protocol):
    """What climbing needs to know of a configuration."""

    @property
    def heads(self) -> tuple[int, ...]: ...

    @property
    def gates(self) -> tuple[int, ...]: ...

    @property
    def latency_ms(self) -> float: ...

    @property
    def miou(self) -> float: ...


class Climber(Protocol):
    """What climbing needs of a search: where it stands and a place to offer to."""

    problem: Problem
    target: Target
    max_early_exits: int

    @property
    def best(self) -> Found | None: ...

    def offer(self, heads: tuple[int, ...], gates: np.ndarray) -> None: ...

    def figures(
        self, heads: tuple[int, ...], gates: tuple[int, ...]
    ) -> tuple[float, float]: ...

    def out_of_time(self) -> bool: ...


@dataclass
class _State:
    """A configuration as climbing changes it: (head, gate) by exit, and the last."""

    early: dict[int, tuple[int, int]]
    last: int

    def chain(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pairs = [self.early[e] for e in sorted(self.early)]
        heads = (*(h for h, _ in pairs), self.last)
        return heads, tuple(g for _, g in pairs)


def answers(problem: Problem, found: Found) -> np.ndarray:
    """Head that answers each image, int64 array of shape (I,)."""
    answer = np.full(problem.images, found.heads[-1])
    pairs = list(zip(found.heads[:-1], found.gates, strict=True))
    for head, gate in reversed(pairs):
        answer[problem.gates[head].masks[gate]] = head
    return answer


def climb(search: Climber, span: tuple[float, float]) -> float:
    """Offers good configurations.

    Args:
        span: rates to look between, mIoU per ms.

    Returns:
        the rate at which the answers straddle the limit.
    """
    low, high = span
    target = search.target
    limited = target.floor if target.minimise_latency else target.ceiling_ms
    if limited in (0.0, np.inf):
        low = high = span[1] if target.minimise_latency else span[0]
    for _ in range(_HALVINGS):
        if search.out_of_time():
            break
        rate = float(np.sqrt(low * high))
        state = _ascend(search, rate)
        latency, miou = search.figures(*state.chain())
        fast = (
            miou >= target.floor
            if target.minimise_latency
            else latency > target.ceiling_ms
        )
        low, high = (rate, high) if fast else (low, rate)
        if low == high:
            break
    if not search.out_of_time():
        _polish(search)
    return float(np.sqrt(low * high))


def _ascend(search: Climber, rate: float) -> _State:
    """From the best so far, betters one exit after the other until nothing helps."""
    problem = search.problem
    start = search.best
    last = problem.reference if start is None else start.heads[-1]
    state = _State({}, last)
    answer = np.full(problem.images, problem.reference)
    if start is not None:
        pairs = zip(start.heads[:-1], start.gates, strict=True)
        state.early = {int(problem.exit_of[h]): (h, g) for h, g in pairs}
        answer = answers(problem, start)
    linear = Linear.at(problem, answer)
    for _ in range(_MAX_SWEEPS):
        before = state.chain()
        if search.max_early_exits:
            for exit_index in np.unique(problem.exit_of)[::-1]:
                _better_exit(search, linear, rate, state, int(exit_index))
        _better_last(problem, linear, rate, state)
        heads, gates = state.chain()
        search.offer(heads, np.array(gates, np.int64).reshape(1, -1))
        if state.chain() == before or search.out_of_time():
            break
    return state


@dataclass(frozen=True, eq=False)
class _Frame:
    """An exit's surroundings in a configuration.

    Attributes:
        reach: bool array of shape (I,), images that come to the exit.
        score, ms: float arrays of shape (I,), what they get and cost beyond it.
        before_score, before_ms: what the other images got, and what all cost before.
    """

    reach: np.ndarray
    score: np.ndarray
    ms: np.ndarray
    before_score: float
    before_ms: float


def _frame(problem: Problem, linear: Linear, state: _State, exit_index: int) -> _Frame:
    leaving = problem.segments_ms + problem.output_ms
    reach = np.ones(problem.images, bool)
    spent = got = 0.0
    for where in sorted(e for e in state.early if e < exit_index):
        head, gate = state.early[where]
        own = problem.gates[head]
        leaves = reach & own.masks[gate]
        spent += reach.sum() * (problem.head_ms[head] + own.decision_ms[gate])
        spent += leaves.sum() * leaving[head]
        got += float(linear.score[head][leaves].sum())
        reach = reach & ~leaves
    score = linear.score[state.last]
    ms = np.full(problem.images, leaving[state.last] + problem.head_ms[state.last])
    for where in sorted((e for e in state.early if e > exit_index), reverse=True):
        head, gate = state.early[where]
        own = problem.gates[head]
        passed = problem.head_ms[head] + own.decision_ms[gate]
        score = np.where(own.masks[gate], linear.score[head], score)
        ms = np.where(own.masks[gate], leaving[head], ms) + passed
    return _Frame(reach, score, ms, got, float(spent))


def _better_exit(
    search: Climber, linear: Linear, rate: float, state: _State, exit_index: int
) -> None:
    """Takes the best head and gate of an exit, or none, the others fixed."""
    problem = search.problem
    others = [e for e in state.early if e != exit_index]
    if exit_index >= problem.exit_of[state.last]:
        return
    if len(others) >= search.max_early_exits:
        return
    frame = _frame(problem, linear, state, exit_index)
    factor = rate / problem.images
    beyond = frame.score - factor * frame.ms
    best, chosen = 0.0, None
    for head in np.flatnonzero(problem.exit_of == exit_index):
        own = problem.gates[head]
        if not len(own):
            continue
        leave = problem.segments_ms[head] + problem.output_ms[head]
        gain = linear.score[head] - factor * leave - beyond
        gain = np.where(frame.reach, gain, 0).astype(np.float32)
        passing = problem.head_ms[head] + own.decision_ms
        value = own.masks.astype(np.float32) @ gain
        value = value - factor * frame.reach.sum() * passing
        gate = int(value.argmax())
        if value[gate] > best:
            best, chosen = float(value[gate]), (int(head), gate)
    state.early.pop(exit_index, None)
    if chosen is not None:
        state.early[exit_index] = chosen


def _better_last(problem: Problem, linear: Linear, rate: float, state: _State) -> None:
    """Takes the best last head behind the early exits."""
    frame = _frame(problem, linear, state, int(problem.exit_of.max()) + 1)
    heads = np.flatnonzero(problem.exit_of > max(state.early, default=0))
    cost = (problem.segments_ms + problem.output_ms + problem.head_ms)[heads]
    paid = rate / problem.images * frame.reach.sum() * cost
    value = linear.score[heads] @ frame.reach.astype(np.float32) - paid
    state.last = int(heads[value.argmax()])


def _polish(search: Climber) -> None:
    """Offers the best few replacements of each exit, judged by both figures."""
    problem, target = search.problem, search.target
    for _ in range(_MAX_SWEEPS):
        start = search.best
        if start is None or search.out_of_time():
            return
        linear = Linear.at(problem, answers(problem, start))
        pairs = zip(start.heads[:-1], start.gates, strict=True)
        early = {int(problem.exit_of[h]): (h, g) for h, g in pairs}
        for exit_index in np.unique(problem.exit_of):
            others = {e: p for e, p in early.items() if e != exit_index}
            if exit_index >= problem.exit_of[start.heads[-1]]:
                continue
            if len(others) >= search.max_early_exits:
                continue
            state = _State(dict(others), start.heads[-1])
            rows = _replacements(problem, linear, target, start, state, exit_index)
            for head, gate in rows:
                state.early = {**others, int(exit_index): (head, gate)}
                heads, gates = state.chain()
                search.offer(heads, np.array(gates, np.int64).reshape(1, -1))
        if search.best is start:
            return


def _replacements(
    problem: Problem,
    linear: Linear,
    target: Target,
    start: Found,
    state: _State,
    exit_index: int,
) -> list[tuple[int, int]]:
    """Heads and gates of one exit that may beat ``start``, the most promising first."""
    frame = _frame(problem, linear, state, exit_index)
    rest_ms = frame.before_ms + (frame.ms * frame.reach).sum()
    rest_score = linear.constant + frame.before_score + frame.score @ frame.reach
    floor = target.floor if target.minimise_latency else start.miou
    ceiling = start.latency_ms if target.minimise_latency else target.ceiling_ms
    rows: list[tuple[float, int, int]] = []
    for head in np.flatnonzero(problem.exit_of == exit_index):
        own = problem.gates[head]
        if not len(own):
            continue
        masks = (own.masks & frame.reach).astype(np.float32)
        leaving_ms = problem.segments_ms[head] + problem.output_ms[head]
        passing = problem.head_ms[head] + own.decision_ms
        spent = rest_ms + masks @ (leaving_ms - frame.ms) + frame.reach.sum() * passing
        reached = rest_score + masks @ (linear.score[head] - frame.score)
        latency = spent / problem.images
        hopeful = (latency < ceiling) & (reached > floor - _MISJUDGED)
        order = latency if target.minimise_latency else -reached
        for gate in np.flatnonzero(hopeful):
            rows.append((float(order[gate]), int(head), int(gate)))
    return [(head, gate) for _, head, gate in sorted(rows)[:_POLISHED]]
