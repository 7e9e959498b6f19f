"""A good configuration early: hill climbing by one exit at a time.

It proves nothing; the better its answer, the more the exact search can leave out.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from search.problem import Problem

_MAX_ROUNDS = 20


class Found(Protocol):
    """What climbing needs to know of a configuration."""

    @property
    def heads(self) -> tuple[int, ...]: ...

    @property
    def gates(self) -> tuple[int, ...]: ...


class Climber(Protocol):
    """What climbing needs of a search: where it stands and a place to offer to."""

    problem: Problem
    max_early_exits: int

    @property
    def best(self) -> Found | None: ...

    def offer(self, heads: tuple[int, ...], gates: np.ndarray) -> None: ...

    def out_of_time(self) -> bool: ...


def climb(search: Climber) -> None:
    """Offers an early exit before each promising single exit, then betters the best."""
    for last in _front(search.problem):
        _try_exits(search, (last,), ())
    for _ in range(_MAX_ROUNDS):
        start = search.best
        if start is None or search.out_of_time():
            return
        _try_exits(search, start.heads, start.gates)
        _try_last(search, start.heads, start.gates)
        if search.best is start:
            return


def _front(problem: Problem) -> list[int]:
    """Single exits that no other one beats in both cost and summed IoU."""
    cost = problem.segments_ms + problem.head_ms + problem.output_ms
    seen = problem.labelled
    iou = problem.intersection[:, :, seen].sum(1) / problem.union[:, :, seen].sum(1)
    front, best = [], -1.0
    for head in np.lexsort((-iou.sum(1), cost)):
        if iou[head].sum() > best:
            front.append(int(head))
            best = float(iou[head].sum())
    return front


def _try_exits(search: Climber, heads: tuple[int, ...], gates: tuple[int, ...]) -> None:
    """Puts every gate at every exit before the last, in place of what is there."""
    problem = search.problem
    exits = [int(problem.exit_of[h]) for h in heads]
    for head, own in enumerate(problem.gates):
        where = int(problem.exit_of[head])
        if not len(own) or where >= exits[-1]:
            continue
        if search.out_of_time():
            return
        before = [p for p, e in enumerate(exits[:-1]) if e < where]
        after = [p for p, e in enumerate(exits[:-1]) if e > where]
        if len(before) + 1 + len(after) > search.max_early_exits:
            continue
        chain = (*(heads[p] for p in before), head, *(heads[p] for p in after))
        columns = [
            *(np.full(len(own), gates[p]) for p in before),
            np.arange(len(own)),
            *(np.full(len(own), gates[p]) for p in after),
        ]
        search.offer((*chain, heads[-1]), np.stack(columns, axis=1))


def _try_last(search: Climber, heads: tuple[int, ...], gates: tuple[int, ...]) -> None:
    """Lets every deeper head answer last; drops each early exit in turn."""
    problem = search.problem
    row = np.array(gates, np.int64).reshape(1, -1)
    deepest = int(problem.exit_of[heads[-2]]) if len(heads) > 1 else 0
    for last in np.flatnonzero(problem.exit_of > deepest):
        search.offer((*heads[:-1], int(last)), row)
    for place in range(len(gates)):
        rest = tuple(h for p, h in enumerate(heads) if p != place)
        search.offer(rest, np.delete(row, place, axis=1))
