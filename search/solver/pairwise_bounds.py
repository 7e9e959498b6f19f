"""First bounds for all pairs and triples of groups of gates, by matrix products.

The bound is that of ``search.solver.node_bounds``, for one exchange rate, and for all
groups of the exits involved at once: what is settled is summed per gate, and the best
gate taken after summing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.problem import Problem
from search.solver.class_sum_intervals import sums_of
from search.solver.gate_clusters import ExitGroups
from search.solver.lagrangian import Values
from search.solver.miou_tangent import Linear
from search.solver.pair_intervals import Base, RangeTables
from search.solver.prefix_bounds import Begun
from search.solver.suffix import Rest

_CHUNK = 1 << 12
# First groups whose ranges settle the weights of a linear stand-in for triples.
_LOOKED_AT = 8


@dataclass(frozen=True, eq=False)
class Thirds:
    """Pairs of groups with the bounds of each group of a third exit behind them.

    Attributes:
        rows, columns: int64 arrays of shape (n,), groups of the first two exits.
        bound: float32 array of shape (n, N).
    """

    rows: np.ndarray
    columns: np.ndarray
    bound: np.ndarray


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
        for rows in self.alike(first):
            linear = self.linear((first,), rows[0], lasts)
            values = Values(self.problem, linear, self.rate)
            ends = values.ends(lasts)
            bound = (~one.high[rows]).astype(np.float32) @ ends.T
            bound += values.terms(one, ends, rows)
            excess = linear.excess(ranges[0][rows], ranges[1][rows])
            bound += (excess + values.extra)[:, None]
            for place, column in zip(*np.nonzero(bound >= least), strict=True):
                yield int(rows[place]), int(lasts[column]), float(bound[place, column])

    def pairs(self, exits: tuple[int, int], lasts: np.ndarray) -> np.ndarray:
        """Bounds of all pairs of groups of two exits, shape (N_a, N_b).

        Args:
            lasts: heads that may answer last.
        """
        shape = len(self.groups(exits[0])), len(self.groups(exits[1]))
        bound = np.empty(shape, np.float32)
        for rows in self.alike(exits[0]):
            linear = self.linear(exits, rows[0], lasts)
            values = Values(self.problem, linear, self.rate)
            ways = values.ends(lasts)
            bound[rows] = self._pairs(values, linear, rows, exits, ways, lasts)
        return bound

    def alike(self, exit_index: int) -> list[np.ndarray]:
        """Groups that let as large a share leave, and so have a stand-in in common."""
        part = self.groups(exit_index).part
        return [np.flatnonzero(part == share) for share in np.unique(part)]

    def _pairs(
        self,
        values: Values,
        linear: Linear,
        rows: np.ndarray,
        exits: tuple[int, int],
        ways: np.ndarray,
        answers: np.ndarray,
    ) -> np.ndarray:
        """``pairs`` for some groups of the first exit that are alike.

        Args:
            ways: most an image can be worth behind the two, per way to go on, (K, I).
            answers: heads that may answer there.
        """
        one, two = (self.groups(e) for e in exits)
        end = ways.max(0)
        beyond = values.through(two, end, self._images)
        stays = (~one.high[rows]).astype(np.float32)
        bound = values.terms(one, beyond, rows)
        bound += values.second_terms(two, stays, end, np.arange(len(two)))
        if len(ways) > 1:
            # One way is taken: the best of the sums, not the sum of the bests.
            gains = (ways - end).T
            for place, row in enumerate(rows):
                sure = (~two.high & ~one.high[row]).astype(np.float32)
                bound[place] += (sure @ gains).max(1)
        bound += linear.excess(*self._tables.of_pairs(rows, *exits, answers))
        return bound + np.float32(values.extra)

    def rest(self, chain: tuple[int, ...]) -> Rest:
        """All heads behind the third exit of a chain, the last one included.

        Args:
            chain: all exits, four and more; a head of the last one answers last.
        """
        problem = self.problem
        worth = self._plain.score.sum(1, dtype=np.float64)
        worth -= self.rate * (problem.segments_ms + problem.output_ms + problem.head_ms)
        order = np.argsort(worth, kind="stable")
        gated = order[[len(problem.gates[head]) > 0 for head in order]]
        early = tuple(gated[problem.exit_of[gated] == e] for e in chain[3:-1])
        return Rest(early, np.flatnonzero(problem.exit_of == chain[-1]))

    def _free(self, values: Values, rest: Rest) -> np.ndarray:
        """Most an image can be worth in the rest, float32 array of shape (I,)."""
        best = values.ends(rest.lasts).max(0)
        for heads in reversed(rest.early):
            groups = self.groups(int(self.problem.exit_of[heads[0]]))
            own = np.flatnonzero(np.isin(groups.head, heads))
            ways = [values.onward(groups, int(g), best, self._images) for g in own]
            best = np.max(ways, axis=0)
        return best

    def longer(
        self, chain: tuple[int, ...], rest: Rest, rows: np.ndarray
    ) -> np.ndarray:
        """Bounds of groups of a chain's first two exits, with anything behind them.

        Args:
            chain: four exits and more, the one that answers last included.
            rows: groups of the first exit, alike.

        Returns:
            float32 array of shape (n, N_b).
        """
        values, linear, behind = self._behind_two(chain, rows[0])
        ways = self._ways(values, chain[2], rest)
        return self._pairs(values, linear, rows, (chain[0], chain[1]), ways, behind)

    def _behind_two(
        self, chain: tuple[int, ...], row: int
    ) -> tuple[Values, Linear, np.ndarray]:
        """Worths and stand-in for two exits of a longer chain, and who may answer."""
        behind = np.flatnonzero(np.isin(self.problem.exit_of, chain[2:]))
        linear = self.linear(chain[:2], row, behind)
        return Values(self.problem, linear, self.rate), linear, behind

    def _ways(self, values: Values, third: int, rest: Rest) -> np.ndarray:
        """Most an image can be worth behind two exits, per group of the third."""
        free = self._free(values, rest)
        return values.through(self.groups(third), free, self._images)

    def thirds(
        self,
        chain: tuple[int, ...],
        rest: Rest,
        rows: np.ndarray,
        columns: np.ndarray,
        least: float,
    ) -> Thirds | None:
        """What of some pairs of groups may be useful with any group of a third exit.

        Args:
            rows, columns: int64 arrays of shape (n,), groups of the first exit, which
                are alike, and of the second.
        """
        values, linear, behind = self._behind_two(chain, rows[0])
        ways = self._ways(values, chain[2], rest)
        firsts, places = np.unique(rows, return_inverse=True)
        begun = Begun.of(values, self.groups(chain[0]), firsts)
        bound = begun.then(values, self.groups(chain[1]), ways, places, columns)
        exits = chain[0], chain[1]
        excess = linear.excess(*self._tables.of_pairs(rows, *exits, behind, columns))
        if rest.early and rest.settled:
            # Few can answer now, so it is worth to look at each image.
            third = np.flatnonzero(self.problem.exit_of == chain[2])
            few = np.union1d(third, rest.answers)
            pairs = np.column_stack([rows, columns])
            excess = np.minimum(excess, self._sharp_excess(linear, exits, few, pairs))
        bound += (excess + values.extra)[:, None]
        keep = bound.max(1) >= least
        if not keep.any():
            return None
        return Thirds(rows[keep], columns[keep], bound[keep])

    def stand_in(self, chain: tuple[int, ...], row: int) -> Linear:
        """The mIoU's stand-in for sets of groups of three exits and more."""
        answers = np.flatnonzero(np.isin(self.problem.exit_of, chain[3:]))
        return self.linear(chain[:3], row, answers)

    def triples(
        self,
        chain: tuple[int, ...],
        rest: Rest,
        row: int,
        seconds: np.ndarray,
        hopeful: np.ndarray,
        least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of one group of the first exit with pairs of two deeper ones.

        Args:
            row, seconds: the group of the first exit, and those of the second.
            hopeful: bool array of shape (n_seconds, N_c), which pairs to look at.

        Returns:
            groups of the second and of the third exit, and the bound, where it is at
            least ``least``.
        """
        linear = self.stand_in(chain, row)
        values = Values(self.problem, linear, self.rate)
        exits = chain[0], chain[1], chain[2]
        answers = np.flatnonzero(np.isin(self.problem.exit_of, chain[3:]))
        most = linear.excess(*self._tables.with_any_third(row, exits, answers))
        rows, columns, found = self._traded(
            values, exits, rest, row, seconds, hopeful, most + values.extra, least
        )
        excess = np.empty_like(found)
        for part in _chunks(len(rows)):
            sums = self._tables.of_triples(
                row, rows[part], columns[part], exits, answers
            )
            excess[part] = linear.excess(*sums)
        left = np.flatnonzero(found + excess >= least)
        if len(rest.lasts) > 1 and not rest.early:
            # One head answers last: the best of the sums, not the sum of the bests.
            one, two, three = (self.groups(e) for e in exits)
            ends = values.ends(rest.lasts)
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
        sharp = self._sharp_excess(linear, exits, rest.answers, chosen)
        found += np.minimum(excess[left], sharp)
        keep = found >= least
        return rows[keep], columns[keep], found[keep]

    def _traded(
        self,
        values: Values,
        exits: tuple[int, int, int],
        rest: Rest,
        row: int,
        seconds: np.ndarray,
        hopeful: np.ndarray,
        most: np.ndarray,
        least: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What ``triples`` leaves and gives, the excess not yet in the bound.

        Args:
            most: what is to be added at most, per group of the second exit and part of
                the third, shape (N_b, P).
        """
        one, two, three = (self.groups(e) for e in exits)
        most = most[seconds][:, three.part]
        end = self._free(values, rest)
        sure = ~one.high[row]
        last = values.through(three, end, self._images)
        # The first exit, on images that its gates do not agree on.
        open_, stay = one.doubt[row], 1 - one.masks[row]
        own = values.gate_values(one, row)
        beyond = values.through(two, last.max(0), open_)[seconds]
        ahead = (own[:, None] + stay @ beyond.T).max(0)[:, None] + most
        # The two deeper exits, on images that surely come to them: summed per gate of
        # the second first, and what that leaves per gate of the third.
        stays = (~two.high[seconds] & sure).astype(np.float32)
        bound = values.terms(two, last, seconds, sure, hopeful)
        hopeful = bound + stays @ last.T + ahead >= least
        every = np.arange(len(three))
        bound += values.second_terms(three, stays, end, every, hopeful)
        hopeful = bound + ahead >= least
        further = last[:, open_]
        for place in np.flatnonzero(hopeful.any(1)):
            left = np.flatnonzero(hopeful[place])
            onward = values.onward(two, int(seconds[place]), further[left], open_)
            bound[place, left] += (own[:, None] + stay @ onward.T).max(0)
        places, columns = np.nonzero(hopeful & (bound + most >= least))
        found = bound[places, columns] + np.float32(values.extra)
        return seconds[places], columns, found

    def sharper_pairs(
        self,
        exits: tuple[int, int],
        lasts: np.ndarray,
        pairs: np.ndarray,
        bound: np.ndarray,
    ) -> np.ndarray:
        """Bounds of some pairs, each image with its own range of answers.

        Args:
            pairs: int64 array of shape (n, 2), a group of each exit.
            bound: what ``pairs`` says of them, shape (n,).
        """
        sharper = bound.copy()
        first, second = exits
        part = self.groups(first).part[pairs[:, 0]]
        for share in np.unique(part):
            own = part == share
            rows, columns = pairs[own].T
            linear = self.linear(exits, rows[0], lasts)
            sums = self._tables.of_pairs(rows, first, second, lasts, columns)
            sharp = self._sharp_excess(linear, exits, lasts, pairs[own])
            sharper[own] -= np.maximum(linear.excess(*sums) - sharp, 0)
        return sharper

    def _sharp_excess(
        self,
        linear: Linear,
        exits: tuple[int, ...],
        answers: np.ndarray,
        rows: np.ndarray,
    ) -> np.ndarray:
        groups = [self.groups(e) for e in exits]
        base = Base.of(linear, answers)
        return linear.excess(*sums_of(linear, base, groups, rows))


def _chunks(count: int) -> Iterator[slice]:
    """A long array in pieces that fit the caches."""
    for begin in range(0, count, _CHUNK):
        yield slice(begin, begin + _CHUNK)
