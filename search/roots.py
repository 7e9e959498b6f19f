"""Where the search starts: all chains of exits, opened by screening, best first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from search.leaves import Limits
from search.nodes import Node
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.screen import Screener, Tail
from search.target import Target


@dataclass(frozen=True, eq=False)
class Task:
    """A set of configurations that is not looked at yet.

    Attributes:
        bound: no configuration in it has a lower value.
        stage: 0 is opened before everything else, 1 comes before 2.
        open: looks at it, and gives what may be useful in it.
    """

    bound: float
    stage: int
    open: Callable[[], Iterable[Task | Bundle]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """Many nodes, by growing bound, of which none is made before its turn.

    Attributes:
        bounds: float64 array of shape (n,).
        make: makes the node of an index.
        next: index of the first that is left.
    """

    bounds: np.ndarray
    make: Callable[[int], Node]
    stage: int
    next: int = 0

    @property
    def bound(self) -> float:
        return float(self.bounds[self.next])

    def take(self, most: int) -> tuple[list[Node], Bundle | None]:
        """The first nodes that are left, and what is left then."""
        after = min(self.next + most, len(self.bounds))
        nodes = [self.make(index) for index in range(self.next, after)]
        if after == len(self.bounds):
            return nodes, None
        return nodes, Bundle(self.bounds, self.make, self.stage, after)


class Queue:
    """Everything open: stage by stage, the least bound first within a stage."""

    def __init__(self) -> None:
        self._heaps: tuple[list[tuple[float, int, Task | Bundle | Node]], ...]
        self._heaps = ([], [], [])
        self._tickets = 0

    @property
    def bound(self) -> float:
        """The least bound of all, infinite when nothing is open."""
        return min((heap[0][0] for heap in self._heaps if heap), default=math.inf)

    def push(self, item: Task | Bundle | Node) -> None:
        if math.isnan(item.bound):
            raise FloatingPointError(f"The bound of {item} is no number.")
        # Items of equal bound stay in the order they came, so that runs agree.
        self._tickets += 1
        if isinstance(item, Node):
            stage = 1 if len(item.heads) < 3 and not item.more else 2
        else:
            stage = item.stage
        heapq.heappush(self._heaps[stage], (item.bound, self._tickets, item))

    def pop(self) -> Task | Bundle | Node:
        """The item that is next: of the earliest stage the one of least bound."""
        return heapq.heappop(next(heap for heap in self._heaps if heap))[2]

    def pop_nodes(self, like: Node, most: int) -> list[Node]:
        """Further nodes with as many exits, as long as they are what is next."""
        found: list[Node] = []
        heap = next((heap for heap in self._heaps if heap), [])
        while len(found) < most and heap:
            item = heap[0][2]
            if not isinstance(item, Node) or item.shape != like.shape:
                break
            found.append(item)
            heapq.heappop(heap)
        return found

    def pop_tasks(self, most: int) -> list[Task]:
        """Further tasks, as long as tasks of that stage are what is next."""
        found: list[Task] = []
        heap = next((heap for heap in self._heaps if heap), [])
        while len(found) < most and heap:
            item = heap[0][2]
            if not isinstance(item, Task):
                break
            found.append(item)
            heapq.heappop(heap)
        return found


class Roots:
    """Makes tasks and nodes for all chains of exits."""

    def __init__(
        self,
        problem: Problem,
        target: Target,
        limits: Limits,
        screener: Screener,
        rate: float,
        trivial: float,
    ) -> None:
        """``rate``: of the screener, mIoU per ms; ``trivial``: a bound for anything."""
        self.problem = problem
        self.target = target
        self.limits = limits
        self.screener = screener
        self.rate = rate
        self.trivial = trivial
        gated = [
            e
            for e in np.unique(problem.exit_of)[:-1]
            if any(len(problem.gates[h]) for h in np.flatnonzero(problem.exit_of == e))
        ]
        self.exits = [int(e) for e in gated]

    def tasks(self, most: int) -> Iterator[Task]:
        """Everything with one to ``most`` early exits."""
        for first in self.exits:
            for lasts in self._ends(first):
                yield self._task(self._open_singles, first, lasts)
        if most < 2:
            return
        for place, first in enumerate(self.exits):
            for second in self.exits[place + 1 :]:
                for lasts in self._ends(second):
                    yield self._task(self._open_pairs, first, second, Tail(lasts, 0))
                for third in self._deeper_exits(second) if most > 2 else ():
                    exits = (first, second, third)
                    for tail in self._tails(third, most - 3):
                        yield self._task(self._open_longer, exits, tail)

    def extend(self, node: Node) -> list[Node]:
        """A node with one more early exit, in all ways."""
        found = []
        deepest = int(self.problem.exit_of[node.heads[-1]])
        for exit_index in self._deeper_exits(deepest):
            groups = self.screener.groups(exit_index)
            for group in range(len(groups)):
                heads = (*node.heads, int(groups.head[group]))
                gates = (*node.gates, groups.gates[group])
                lasts = self._deeper(exit_index)
                found.append(Node(heads, gates, lasts, 0, node.bound, node.linear))
                if node.more > 1 and self._deeper_exits(exit_index):
                    longer = replace(found[-1], more=node.more - 1)
                    found.append(longer)
        return found

    # --- Tasks ----------------------------------------------------------------------

    def _task(
        self, open_: Callable[..., Iterable[Task | Bundle]], *arguments: object
    ) -> Task:
        return Task(self.trivial, 0, lambda: open_(*arguments))

    def _open_singles(self, first: int, lasts: np.ndarray) -> Iterator[Bundle]:
        groups = self.screener.groups(first)
        rows = list(self.screener.singles(first, lasts, self._least()))
        if not rows:
            return
        values = self._values(np.array([bound for _, _, bound in rows]))
        order = np.argsort(values, kind="stable")

        def make(index: int) -> Node:
            group, last, _ = rows[order[index]]
            return Node(
                (int(groups.head[group]),),
                (groups.gates[group],),
                np.array([last]),
                0,
                float(values[order[index]]),
                self.screener.linear((first,), int(group), lasts),
            )

        yield Bundle(values[order], make, 1)

    def _open_pairs(self, first: int, second: int, tail: Tail) -> Iterator[Bundle]:
        bound = self.screener.pairs(first, second, tail)
        rows, columns = np.nonzero(bound >= self._least())
        if not len(rows):
            return
        one, two = self.screener.groups(first), self.screener.groups(second)
        pairs = np.column_stack([rows, columns])
        sharp = self.screener.sharper_pairs(
            first, second, tail, pairs, bound[rows, columns]
        )
        keep = sharp >= self._least()
        if not keep.any():
            return
        rows, columns = rows[keep], columns[keep]
        values = self._values(sharp[keep])
        order = np.argsort(values, kind="stable")
        rows, columns, values = rows[order], columns[order], values[order]

        def make(index: int) -> Node:
            a, b = int(rows[index]), int(columns[index])
            return Node(
                (int(one.head[a]), int(two.head[b])),
                (one.gates[a], two.gates[b]),
                tail.lasts,
                0,
                float(values[index]),
                self.screener.linear((first, second), a, tail.lasts),
            )

        yield Bundle(values, make, 1)

    def _open_longer(self, exits: tuple[int, int, int], tail: Tail) -> Iterator[Task]:
        """Three early exits and more: group by group of the first exit."""
        third = np.flatnonzero(self.problem.exit_of == exits[2])
        further = np.union1d(third, tail.lasts)
        bound = self.screener.pairs(*exits[:2], Tail(further, tail.more + 1))
        values = self._values(bound.max(1)) if bound.size else np.zeros(0)
        least = self._least()
        for row in np.flatnonzero(bound.max(1, initial=-np.inf) >= least):
            seconds = np.flatnonzero(bound[row] >= least)
            yield self._triple_task(float(values[row]), int(row), seconds, exits, tail)

    def _tails(self, exit_index: int, more: int) -> list[Tail]:
        """What may follow an exit, with up to so many further early exits."""
        tails = [Tail(lasts, 0) for lasts in self._ends(exit_index)]
        if more and self._deeper_exits(exit_index):
            tails.append(Tail(self._deeper(exit_index), more))
        return tails

    def _triple_task(
        self,
        bound: float,
        row: int,
        seconds: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
    ) -> Task:
        return Task(
            bound, 2, lambda: self._open_triples(bound, row, seconds, exits, tail)
        )

    def _open_triples(
        self,
        bound: float,
        row: int,
        seconds: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
    ) -> Iterator[Bundle]:
        least = self._least()
        rows, columns, found = self.screener.triples(row, seconds, exits, tail, least)
        if not len(rows):
            return
        one, two, three = (self.screener.groups(e) for e in exits)
        values = np.maximum(self._values(found), bound)
        order = np.argsort(values, kind="stable")
        rows, columns, values = rows[order], columns[order], values[order]

        def make(index: int) -> Node:
            b, c = int(rows[index]), int(columns[index])
            return Node(
                (int(one.head[row]), int(two.head[b]), int(three.head[c])),
                (one.gates[row], two.gates[b], three.gates[c]),
                tail.lasts,
                tail.more,
                float(values[index]),
                self.screener.linear(exits, row, tail.lasts),
            )

        yield Bundle(values, make, 2)

    # --- Figures --------------------------------------------------------------------

    def _least(self) -> float:
        """mIoU - rate * latency that a useful configuration reaches."""
        least = self.limits.floor - MIOU_TOLERANCE
        if self.rate:
            least -= self.rate * (self.limits.ceiling_ms + LATENCY_TOLERANCE_MS)
        return least

    def _values(self, bound: np.ndarray) -> np.ndarray:
        """Lowest value to be had, from upper bounds of mIoU - rate * latency."""
        target = self.target
        if target.minimise_latency:
            if not self.rate:
                return np.full(len(bound), self.trivial)
            value = (target.floor - MIOU_TOLERANCE - bound) / self.rate
        elif not self.rate:
            value = -bound
        else:
            limit = target.ceiling_ms + LATENCY_TOLERANCE_MS
            value = -(bound + self.rate * limit)
        return np.maximum(value, self.trivial)

    # --- Exits ----------------------------------------------------------------------

    def _ends(self, exit_index: int) -> list[np.ndarray]:
        """Heads that may answer last behind an exit, by their exit, deepest first."""
        where = self.problem.exit_of
        return [
            np.flatnonzero(where == e) for e in np.unique(where)[::-1] if e > exit_index
        ]

    def _deeper(self, exit_index: int) -> np.ndarray:
        return np.flatnonzero(self.problem.exit_of > exit_index)

    def _deeper_exits(self, exit_index: int) -> list[int]:
        return [e for e in self.exits if e > exit_index]
