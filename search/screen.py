"""First bounds for all pairs and triples of groups of gates, by matrix products.

The bound is that of ``search.bounds``, for one exchange rate, and for all groups of
the exits involved at once: what is settled is summed per gate, and the best gate taken
after summing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.groups import ExitGroups
from search.linear import Linear
from search.places import sums_of
from search.problem import Problem
from search.ranges import RangeTables
from search.values import Values

_CHUNK = 1 << 12
# First groups whose ranges settle the weights of a linear stand-in for triples.
_LOOKED_AT = 8


@dataclass(frozen=True, eq=False)
class Tail:
    """What may come after the groups that are looked at.

    Attributes:
        lasts: int64 array, heads that may answer last (or, with ``more``, let images
            leave on the way there).
        more: number of further early exits that may come.
    """

    lasts: np.ndarray
    more: int


class Screener:
    """Bounds of mIoU - rate * latency, at one rate."""

    def __init__(
        self, problem: Problem, plain: Linear, rate: float, parts: int
    ) -> None:
        """``plain``: stand-in with weight 1; ``parts``: groups per head, at most."""
        self.problem = problem
        self.rate = rate
        self._plain = plain
        self._parts = parts
        self._images = np.arange(problem.images)
        self._groups: dict[int, ExitGroups] = {}
        self._tables = RangeTables(plain, problem.images, self.groups)
        self._linear: dict[tuple[tuple[int, ...], int, bytes], Linear] = {}

    def groups(self, exit_index: int) -> ExitGroups:
        """An exit's gates in groups."""
        if exit_index not in self._groups:
            self._groups[exit_index] = ExitGroups.at(
                self.problem, exit_index, self._parts
            )
        return self._groups[exit_index]

    def linear(self, exits: tuple[int, ...], row: int, lasts: np.ndarray) -> Linear:
        """The mIoU's stand-in for chains that begin like this.

        Its weights are those of the unions behind first groups that let as large a
        share leave as ``row`` does.

        Args:
            exits: one to three early exits.
            row: group of the first.
            lasts: heads that may answer last.
        """
        part = self.groups(exits[0]).part
        key = exits, int(part[row]), lasts.tobytes()
        if key not in self._linear:
            alike = np.flatnonzero(part == part[row])
            unions = self._unions(exits, alike, lasts)
            self._linear[key] = self._plain.leaning(unions)
        return self._linear[key]

    def _unions(
        self, exits: tuple[int, ...], rows: np.ndarray, lasts: np.ndarray
    ) -> np.ndarray:
        """Upper ends of the classes' unions behind some groups, shape (n, C)."""
        match exits:
            case (first,):
                high = self._tables.of_first(first, lasts)[1][rows]
            case (first, second):
                high = self._tables.of_pairs(rows, first, second, lasts)[1]
            case (first, second, third):
                triple = first, second, third
                some = rows[:: -(-len(rows) // _LOOKED_AT)]
                tables = self._tables
                ends = [tables.with_any_third(int(r), triple, lasts)[1] for r in some]
                high = np.array(ends)
            case _:
                raise ValueError(f"{len(exits)} exits; one to three are looked at.")
        return high[..., self._plain.classes :].reshape(-1, self._plain.classes)

    def singles(
        self, first: int, lasts: np.ndarray, least: float
    ) -> Iterator[tuple[int, int, float]]:
        """Groups of one exit with each last head.

        Yields:
            group, last head and bound, where the bound is at least ``least``.
        """
        one = self.groups(first)
        ranges = self._tables.of_first(first, lasts)
        for rows in self._alike(first):
            linear = self.linear((first,), rows[0], lasts)
            values = Values(self.problem, linear, self.rate)
            bound = values.terms(one, values.ends(lasts), self._images, rows)
            excess = linear.excess(ranges[0][rows], ranges[1][rows])
            bound += (excess + values.extra)[:, None]
            for place, column in zip(*np.nonzero(bound >= least), strict=True):
                yield int(rows[place]), int(lasts[column]), float(bound[place, column])

    def pairs(self, first: int, second: int, tail: Tail) -> np.ndarray:
        """Bounds of all pairs of groups of two exits, shape (N_a, N_b)."""
        shape = len(self.groups(first)), len(self.groups(second))
        bound = np.empty(shape, np.float32)
        for rows in self._alike(first):
            bound[rows] = self._pairs(rows, first, second, tail)
        return bound

    def _alike(self, exit_index: int) -> list[np.ndarray]:
        """Groups that let as large a share leave, and so have a stand-in in common."""
        part = self.groups(exit_index).part
        return [np.flatnonzero(part == share) for share in np.unique(part)]

    def _pairs(
        self, rows: np.ndarray, first: int, second: int, tail: Tail
    ) -> np.ndarray:
        """``pairs`` for some groups of the first exit that are alike."""
        linear = self.linear((first, second), rows[0], tail.lasts)
        values = Values(self.problem, linear, self.rate)
        one, two = self.groups(first), self.groups(second)
        ends = values.ends(tail.lasts)
        end = ends.max(0)
        beyond = values.through(two, end, self._images)
        stays = (~one.high[rows]).astype(np.float32)
        bound = values.terms(one, beyond, self._images, rows)
        bound -= stays @ beyond.T
        every = np.arange(len(two))
        bound += values.second_terms(two, stays, end, self._images, every)
        if not tail.more and len(tail.lasts) > 1:
            # One head answers last: the best of the sums, not the sum of the bests.
            for place, row in enumerate(rows):
                sure = (~two.high & ~one.high[row]).astype(np.float32)
                bound[place] += (sure @ (ends - end).T).max(1)
        bound += linear.excess(*self._tables.of_pairs(rows, first, second, tail.lasts))
        return bound + np.float32(values.extra)

    def triples(
        self,
        row: int,
        seconds: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
        least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of one group of the first exit with pairs of two deeper ones.

        Args:
            row, seconds: the group of the first exit, and those of the second.

        Returns:
            groups of the second and of the third exit, and the bound, where it is at
            least ``least``.
        """
        linear = self.linear(exits, row, tail.lasts)
        values = Values(self.problem, linear, self.rate)
        rows, columns, found = self._traded(
            values, linear, row, seconds, exits, tail, least
        )
        excess = np.empty_like(found)
        for part in _chunks(len(rows)):
            sums = self._tables.of_triples(
                row, rows[part], columns[part], exits, tail.lasts
            )
            excess[part] = linear.excess(*sums)
        left = np.flatnonzero(found + excess >= least)
        if not tail.more and len(tail.lasts) > 1:
            # One head answers last: the best of the sums, not the sum of the bests.
            one, two, three = (self.groups(e) for e in exits)
            ends = values.ends(tail.lasts)
            gains = ends - ends.max(0)
            for part in _chunks(len(left)):
                own = left[part]
                stays = (
                    ~one.high[row] & ~two.high[rows[own]] & ~three.high[columns[own]]
                )
                found[own] += (stays.astype(np.float32) @ gains.T).max(1)
            left = left[found[left] + excess[left] >= least]
        rows, columns, found = rows[left], columns[left], found[left]
        chosen = np.column_stack([np.full(len(rows), row), rows, columns])
        sharp = self._sharp_excess(linear, exits, tail, chosen)
        found += np.minimum(excess[left], sharp)
        keep = found >= least
        return rows[keep], columns[keep], found[keep]

    def _traded(
        self,
        values: Values,
        linear: Linear,
        row: int,
        seconds: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
        least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What ``triples`` leaves and gives, the excess not yet in the bound."""
        one, two, three = (self.groups(e) for e in exits)
        end = values.ends(tail.lasts).max(0)
        sure = np.flatnonzero(~one.high[row])
        open_ = np.flatnonzero(one.high[row] & ~one.low[row])
        sums = self._tables.with_any_third(row, exits, tail.lasts)
        most = (linear.excess(*sums) + values.extra)[seconds][:, three.part]
        last = values.through(three, end, self._images)
        top = last.max(0)
        # The first exit, on images that its gates do not agree on.
        own = values.gate_values(one, row)
        stay = 1 - values.group_masks(one, row)[:, open_]
        beyond = values.through(two, top, open_)[seconds]
        rest = (own[:, None] + stay @ beyond.T).max(0)[:, None] + most
        # The two deeper exits, on images that surely come to them: both at their best
        # per image first, then what that leaves summed per gate of the second, and of
        # the third.
        stays = (~two.high[np.ix_(seconds, sure)]).astype(np.float32)
        passed = stays @ last[:, sure].T
        free = values.through(two, top, sure)[seconds].sum(1) - stays @ top[sure]
        hopeful = free[:, None] + passed + rest >= least
        bound = values.terms(two, last, sure, seconds, hopeful)
        hopeful = bound + rest >= least
        bound -= passed
        every = np.arange(len(three))
        bound += values.second_terms(three, stays, end, sure, every, hopeful)
        hopeful = bound + rest >= least
        further = last[:, open_]
        for place in np.flatnonzero(hopeful.any(1)):
            left = np.flatnonzero(hopeful[place])
            onward = values.onward(two, int(seconds[place]), further[left], open_)
            bound[place, left] += (own[:, None] + stay @ onward.T).max(0)
        places, columns = np.nonzero(hopeful & (bound + most >= least))
        found = bound[places, columns] + np.float32(values.extra)
        return seconds[places], columns, found

    def sharper_pairs(
        self, first: int, second: int, tail: Tail, pairs: np.ndarray, bound: np.ndarray
    ) -> np.ndarray:
        """Bounds of some pairs, each image with its own range of answers.

        Args:
            pairs: int64 array of shape (n, 2), a group of each exit.
            bound: what ``pairs`` says of them, shape (n,).
        """
        sharper = bound.copy()
        exits = first, second
        part = self.groups(first).part[pairs[:, 0]]
        for share in np.unique(part):
            own = part == share
            rows, columns = pairs[own].T
            linear = self.linear(exits, rows[0], tail.lasts)
            sums = self._tables.of_pairs(rows, first, second, tail.lasts, columns)
            sharp = self._sharp_excess(linear, exits, tail, pairs[own])
            sharper[own] -= np.maximum(linear.excess(*sums) - sharp, 0)
        return sharper

    def _sharp_excess(
        self, linear: Linear, exits: tuple[int, ...], tail: Tail, rows: np.ndarray
    ) -> np.ndarray:
        groups = [self.groups(e) for e in exits]
        base = self._tables.base(tail.lasts)
        return linear.excess(*sums_of(linear, base, groups, rows))


def _chunks(count: int) -> Iterator[slice]:
    """A long array in pieces that fit the caches."""
    for begin in range(0, count, _CHUNK):
        yield slice(begin, begin + _CHUNK)
