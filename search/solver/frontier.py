"""Where the search starts: all chains of exits, opened by screening, best first."""

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
from search.solver.enumeration import Limits
from search.solver.nodes import Node
from search.solver.pairwise_bounds import Screener
from search.solver.suffix import Rest
from search.solver.target import Target

# Groups of a first exit that are looked at together.
ROWS = 16


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
            stage = 1 if len(item.heads) < 3 else 2
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
            if not isinstance(item, Node) or len(item.heads) != len(like.heads):
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
        for count in range(1, min(most, len(self.exits)) + 1):
            for chain in itertools.combinations(self.exits, count):
                for lasts in self._ends(chain[-1]):
                    match chain:
                        case (first,):
                            yield self._task(self._open_singles, first, lasts)
                        case (first, second):
                            yield self._task(self._open_pairs, (first, second), lasts)
                        case _:
                            yield self._task(self._open_longer, chain, lasts)

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
                float(values[order[index]]),
                self.screener.linear((first,), int(group), lasts),
            )

        yield Bundle(values[order], make, 1)

    def _open_pairs(
        self, exits: tuple[int, int], lasts: np.ndarray
    ) -> Iterator[Bundle]:
        bound = self.screener.pairs(exits, lasts)
        rows, columns = np.nonzero(bound >= self._least())
        if not len(rows):
            return
        pairs = np.column_stack([rows, columns])
        sharp = self.screener.sharper_pairs(exits, lasts, pairs, bound[rows, columns])
        keep = sharp >= self._least()
        if keep.any():
            yield self._bundle(exits, Rest((), lasts), pairs[keep], sharp[keep], 1)

    def _bundle(
        self,
        chain: tuple[int, ...],
        rest: Rest,
        chosen: np.ndarray,
        bound: np.ndarray,
        stage: int,
        value: float = -math.inf,
    ) -> Bundle:
        """Nodes of one group for each of the first two or three exits.

        Args:
            rest: heads behind them, one for each early exit.
            chosen: int array of shape (n, 2) or (n, 3), groups.
            bound: upper bounds of mIoU - rate * latency, shape (n,).
            value: a lower bound of all of their values.
        """
        values = np.maximum(self._values(bound), value)
        order = np.argsort(values, kind="stable")
        chosen, values = chosen[order].astype(np.int32), values[order]
        exits = [self.screener.groups(e) for e in chain[: chosen.shape[1]]]
        deeper = [int(heads[0]) for heads in rest.early]
        every = [np.arange(len(self.problem.gates[head])) for head in deeper]
        lasts = rest.lasts

        def make(index: int) -> Node:
            rows = chosen[index].tolist()
            begun = list(zip(exits, rows, strict=True))
            if len(rows) > 2:
                linear = self.screener.stand_in(chain, rows[0])
            else:
                linear = self.screener.linear(chain[:2], rows[0], lasts)
            return Node(
                (*(int(groups.head[row]) for groups, row in begun), *deeper),
                (*(groups.gates[row] for groups, row in begun), *every),
                lasts,
                float(values[index]),
                linear,
            )

        return Bundle(values, make, stage)

    def _open_longer(self, chain: tuple[int, ...], lasts: np.ndarray) -> Iterator[Task]:
        """Three early exits and more, some groups of the first at a time."""
        chain = (*chain, int(self.problem.exit_of[lasts[0]]))
        rest = self.screener.rest(chain)
        for alike in self.screener.alike(chain[0]):
            bound = self.screener.longer(chain, rest, alike)
            best = bound.max(1, initial=-np.inf)
            least = self._least()
            order = np.argsort(-best, kind="stable")[: np.count_nonzero(best >= least)]
            for begin in range(0, len(order), ROWS):
                some = order[begin : begin + ROWS]
                places, columns = np.nonzero(bound[some] >= least)
                pairs = alike[some[places]], columns
                value = self._value(best[some[0]])
                open_ = partial(self._open_thirds, chain, rest, *pairs, value)
                yield Task(value, 2, open_)

    def _open_thirds(
        self,
        chain: tuple[int, ...],
        rest: Rest,
        rows: np.ndarray,
        columns: np.ndarray,
        value: float,
    ) -> Iterator[Task]:
        """Pairs of groups with the groups of a third exit.

        Gives parts of the rest to be tried; when heads are settled there, rows.

        Args:
            value: a lower bound of all values here.
        """
        found = self.screener.thirds(chain, rest, rows, columns, self._least())
        if found is None:
            return
        if not rest.settled:
            pairs = found.rows.astype(np.int32), found.columns.astype(np.int32)
            value = max(value, self._value(found.bound.max()))
            for part in rest.parts():
                open_ = partial(self._open_thirds, chain, part, *pairs, value)
                yield Task(value, 2, open_)
            return
        for row in np.unique(found.rows):
            own = found.rows == row
            seconds, bound = found.columns[own], found.bound[own]
            least = max(value, self._value(bound.max()))
            hopeful = np.packbits(bound >= self._least(), axis=1)
            triples = partial(
                self._open_triples, chain, rest, int(row), seconds, hopeful, least
            )
            yield Task(least, 2, triples)

    def _open_triples(
        self,
        chain: tuple[int, ...],
        rest: Rest,
        row: int,
        seconds: np.ndarray,
        hopeful: np.ndarray,
        value: float,
    ) -> Iterator[Bundle]:
        """One group of the first exit with pairs of groups of the next two.

        Args:
            hopeful: of ``seconds`` with the groups of the third, what to look at, as
                bits, uint8 array of shape (n, ceil(N / 8)).
            value: a lower bound of all values here.
        """
        count = len(self.screener.groups(chain[2]))
        wanted = np.unpackbits(hopeful, axis=1, count=count).astype(bool)
        rows, columns, found = self.screener.triples(
            chain, rest, row, seconds, wanted, self._least()
        )
        if len(rows):
            triples = np.column_stack([np.full(len(rows), row), rows, columns])
            yield self._bundle(chain, rest, triples, found, 2, value)

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

    def _value(self, bound: float) -> float:
        (value,) = self._values(np.array([bound]))
        return float(value)

    # --- Exits ----------------------------------------------------------------------

    def _ends(self, exit_index: int) -> list[np.ndarray]:
        """Heads that may answer last behind an exit, by their exit, deepest first."""
        where = self.problem.exit_of
        return [
            np.flatnonzero(where == e) for e in np.unique(where)[::-1] if e > exit_index
        ]
