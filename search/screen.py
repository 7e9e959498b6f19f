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
from search.linear import Lenses, Linear
from search.places import sums_of
from search.problem import Problem
from search.ranges import RangeTables
from search.values import Values

_CHUNK = 1 << 12


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
        self, problem: Problem, lenses: Lenses, rate: float, parts: int
    ) -> None:
        """``parts``: groups per head, at most."""
        self.problem = problem
        self.lenses = lenses
        self.rate = rate
        self._parts = parts
        self._images = np.arange(problem.images)
        self._groups: dict[int, ExitGroups] = {}
        self._tables = RangeTables(lenses.plain, problem.images, self.groups)
        self._values: dict[tuple[int, ...], Values] = {}

    def groups(self, exit_index: int) -> ExitGroups:
        """An exit's gates in groups."""
        if exit_index not in self._groups:
            self._groups[exit_index] = ExitGroups.at(
                self.problem, exit_index, self._parts
            )
        return self._groups[exit_index]

    def singles(
        self, first: int, lasts: np.ndarray, least: float
    ) -> Iterator[tuple[int, int, float]]:
        """Groups of one exit with each last head.

        Yields:
            group, last head and bound, where the bound is at least ``least``.
        """
        values, linear = self._look((first,))
        one = self.groups(first)
        every = np.arange(len(one))
        worth = values.terms(one, values.ends(lasts), self._images, every)
        slack = linear.excess(*self._tables.of_first(first, lasts)) + values.extra
        for group, column in zip(
            *np.nonzero(worth + slack[:, None] >= least), strict=True
        ):
            bound = float(worth[group, column] + slack[group])
            yield int(group), int(lasts[column]), bound

    def pairs(self, first: int, second: int, tail: Tail) -> np.ndarray:
        """Bounds of all pairs of groups of two exits, shape (N_a, N_b)."""
        values, linear = self._look((first, second))
        one, two = self.groups(first), self.groups(second)
        ends = values.ends(tail.lasts)
        end = ends.max(0)
        beyond = values.through(two, end, self._images)
        stays = (~one.high).astype(np.float32)
        bound = values.terms(one, beyond, self._images, np.arange(len(one)))
        bound -= stays @ beyond.T
        every = np.arange(len(two))
        bound += values.second_terms(two, stays, end, self._images, every)
        several = not tail.more and len(tail.lasts) > 1
        for row in range(len(one)):
            if several:
                # One head answers last: the best of the sums, not the sum of the bests.
                sure = (~two.high & ~one.high[row]).astype(np.float32)
                bound[row] += (sure @ (ends - end).T).max(1)
            sums = self._tables.of_pairs(row, first, second, tail.lasts)
            bound[row] += linear.excess(*sums)
        return bound + values.extra

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
        rows, columns, found = self._traded(row, seconds, exits, tail, least)
        one, two, three = (self.groups(e) for e in exits)
        values, linear = self._look(exits)
        ends = values.ends(tail.lasts)
        gains = ends - ends.max(0)
        excess = np.empty_like(found)
        for begin in range(0, len(rows), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            if not tail.more and len(gains) > 1:
                stays = ~one.high[row] & ~two.high[rows[part]]
                stays &= ~three.high[columns[part]]
                found[part] += (stays.astype(np.float32) @ gains.T).max(1)
            sums = self._tables.of_triples(
                row, rows[part], columns[part], exits, tail.lasts
            )
            excess[part] = linear.excess(*sums)
        left = found + excess >= least
        rows, columns, found = rows[left], columns[left], found[left]
        chosen = np.column_stack([np.full(len(rows), row), rows, columns])
        found += np.minimum(excess[left], self._sharp_excess(exits, tail, chosen))
        keep = found >= least
        return rows[keep], columns[keep], found[keep]

    def _traded(
        self,
        row: int,
        seconds: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
        least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What ``triples`` leaves and gives, the excess not yet in the bound."""
        values, linear = self._look(exits)
        one, two, three = (self.groups(e) for e in exits)
        end = values.ends(tail.lasts).max(0)
        sure = np.flatnonzero(~one.high[row])
        open_ = np.flatnonzero(one.high[row] & ~one.low[row])
        sums = self._tables.with_any_third(row, exits, tail.lasts)
        most = (linear.excess(*sums) + values.extra)[seconds][:, three.part]
        last = values.through(three, end, self._images)
        # The first exit, on images that its gates do not agree on.
        own = values.gate_values(one, row)
        stay = 1 - values.group_masks(one, row)[:, open_]
        # The two deeper exits, on images that surely come to them: the third's groups
        # at their best per image first, then only what that leaves, summed per gate.
        bound = values.terms(two, last, sure, seconds)
        top = values.through(two, last.max(0), open_)[seconds]
        rest = (own[:, None] + stay @ top.T).max(0)[:, None] + most
        hopeful = bound + rest >= least
        places, thirds = np.flatnonzero(hopeful.any(1)), np.flatnonzero(hopeful.any(0))
        if not len(places):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        seconds = seconds[places]
        cut = np.ix_(places, thirds)
        bound, rest, most = bound[cut], rest[cut], most[cut]
        stays = (~two.high[np.ix_(seconds, sure)]).astype(np.float32)
        bound -= stays @ last[np.ix_(thirds, sure)].T
        bound += values.second_terms(three, stays, end, sure, thirds)
        beyond = last[np.ix_(thirds, open_)]
        hopeful = bound + rest >= least
        for place in np.flatnonzero(hopeful.any(1)):
            left = np.flatnonzero(hopeful[place])
            onward = values.onward(two, int(seconds[place]), beyond[left], open_)
            bound[place, left] += (own[:, None] + stay @ onward.T).max(0)
        places, columns = np.nonzero(hopeful & (bound + most >= least))
        found = bound[places, columns] + values.extra
        return seconds[places], thirds[columns], found

    def sharper_pairs(
        self, first: int, second: int, tail: Tail, pairs: np.ndarray, bound: np.ndarray
    ) -> np.ndarray:
        """Bounds of some pairs, each image with its own range of answers.

        Args:
            pairs: int64 array of shape (n, 2), a group of each exit; by the first one.
            bound: what ``pairs`` says of them, shape (n,).
        """
        linear = self.lenses((first, second))
        sharp = self._sharp_excess((first, second), tail, pairs)
        excess = np.empty_like(sharp)
        for row in np.unique(pairs[:, 0]):
            own = pairs[:, 0] == row
            low, high = self._tables.of_pairs(int(row), first, second, tail.lasts)
            excess[own] = linear.excess(low, high)[pairs[own, 1]]
        return bound - np.maximum(excess - sharp, 0)

    def _sharp_excess(
        self, exits: tuple[int, ...], tail: Tail, rows: np.ndarray
    ) -> np.ndarray:
        linear = self.lenses(exits)
        groups = [self.groups(e) for e in exits]
        return linear.excess(
            *sums_of(linear, self._tables.base(tail.lasts), groups, rows)
        )

    def _look(self, exits: tuple[int, ...]) -> tuple[Values, Linear]:
        linear = self.lenses(exits)
        if exits not in self._values:
            self._values[exits] = Values(self.problem, linear, self.rate)
        return self._values[exits], linear
