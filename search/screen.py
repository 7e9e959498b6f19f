"""First bounds for all pairs and triples of groups of gates, by matrix products.

The bound is that of ``search.bounds``, for one exchange rate, and for all groups of the
exits involved at once: what is settled is summed per gate, and the best gate taken after
summing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.groups import ExitGroups
from search.linear import Linear
from search.problem import Problem
from search.ranges import Base, FirstRanges, PairRanges, by_head, row_span


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

    def __init__(self, problem: Problem, linear: Linear, rate: float, parts: int) -> None:
        """``parts``: groups per head, at most."""
        self.problem = problem
        self.linear = linear
        self.rate = rate
        per_image = rate / problem.images
        leaving = problem.segments_ms + problem.output_ms
        self._factor = per_image
        self._leave = linear.score - (per_image * leaving)[:, None].astype(np.float32)
        self._parts = parts
        self._groups: dict[int, ExitGroups] = {}
        self._bases: dict[bytes, Base] = {}
        self._firsts: dict[tuple[bytes, int], FirstRanges] = {}
        self._pairs: dict[tuple[bytes, int, int], PairRanges] = {}
        self._extremes: dict[tuple[bytes, int, int], np.ndarray] = {}
        cost = float((leaving + problem.head_ms).max() + problem.head_ms.sum())
        fine = rate * cost * (problem.images + 16) * 1.2e-7
        self._extra = linear.constant + linear.rounding + fine

    def groups(self, exit_index: int) -> ExitGroups:
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
        groups = self.groups(first)
        ends = self._ends(lasts)
        value = self._first_terms(groups, ends)
        for column, last in enumerate(lasts):
            base = self._base(np.array([last]))
            change = self._first(np.array([last]), first).change
            slack = self.linear.excess(*_summed(base, change))
            bound = value[:, column] + slack + self._extra
            for group in np.flatnonzero(bound >= least):
                yield int(group), int(last), float(bound[group])

    def pairs(self, first: int, second: int, tail: Tail) -> np.ndarray:
        """Bounds of all pairs of groups of two exits, shape (N_a, N_b)."""
        one, two = self.groups(first), self.groups(second)
        ends = self._ends(tail.lasts)
        end = ends.max(0)
        beyond = self._through(two, end, slice(None))
        stays = (~one.high).astype(np.float32)
        bound = self._first_terms(one, beyond) - stays @ beyond.T
        bound += self._second_terms(two, stays, end, slice(None))
        if not tail.more and len(tail.lasts) > 1:
            gains = (ends - end).T
            for row in range(len(one)):
                sure = (~two.high & ~one.high[row]).astype(np.float32)
                bound[row] += (sure @ gains).max(1)
        base = self._base(tail.lasts)
        pair = self._pair(tail.lasts, first, second)
        changes = self._first(tail.lasts, first).change
        for row in range(len(one)):
            change = changes[row] + pair.may[row] + pair.sure[row]
            bound[row] += self.linear.excess(*_summed(base, change))
        return bound + self._extra

    def triples(
        self, row: int, exits: tuple[int, int, int], tail: Tail, least: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of one group of the first exit with all pairs of two deeper ones.

        Returns:
            groups of the second and of the third exit, and the bound, where it is at
            least ``least``.
        """
        one, two, three = (self.groups(e) for e in exits)
        ends = self._ends(tail.lasts)
        end = ends.max(0)
        sure = np.flatnonzero(~one.high[row])
        open_ = np.flatnonzero(one.high[row] & ~one.low[row])
        ceiling = self._slack_by_second(row, exits, tail) + self._extra
        last = self._through(three, end, slice(None))
        # The two deeper exits, on images that surely come to them.
        bound = self._second_exit_terms(two, last, sure)
        stays = (~two.high[:, sure]).astype(np.float32)
        bound -= stays @ last[:, sure].T
        bound += self._second_terms(three, stays, end, sure)
        # The first exit, on images that its gates do not agree on.
        own = self._gate_values(one, row)
        stay = 1 - self._group_masks(one, row)[:, open_]
        far = last[:, open_].max(0)
        for second in range(len(two)):
            top = self._onward(two, second, far, open_)
            best = float((own + stay @ top).max())
            if bound[second].max() + best + ceiling[second] < least:
                bound[second] = -np.inf
                continue
            onward = self._onward(two, second, last[:, open_], open_)
            bound[second] += (own[:, None] + stay @ onward.T).max(0)
        rows, columns = np.nonzero(bound + ceiling[:, None] >= least)
        if not len(rows):
            return rows, columns, np.zeros(0)
        value = bound[rows, columns] + self._extra
        value += self._slack_of(row, rows, columns, exits, tail)
        keep = value >= least
        return rows[keep], columns[keep], value[keep]

    # --- Values -------------------------------------------------------------------

    def _ends(self, lasts: np.ndarray) -> np.ndarray:
        """Value per image of ending at each last head, shape (L, I)."""
        own = (self._factor * self.problem.head_ms[lasts])[:, None]
        return self._leave[lasts] - own.astype(np.float32)

    def _through(
        self, groups: ExitGroups, end: np.ndarray, images: np.ndarray | slice
    ) -> np.ndarray:
        """Most an image can be worth that comes to an exit, per group, (N, n)."""
        leave = self._leave[groups.head][:, images]
        onward = end[..., images]
        best = np.where(groups.high[:, images], np.maximum(leave, onward), onward)
        best = np.where(groups.low[:, images], leave, best)
        return best - (self._factor * groups.least_price)[:, None].astype(np.float32)

    def _onward(
        self, groups: ExitGroups, group: int, beyond: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """As ``_through``, for one group and several values beyond, shape (..., n)."""
        leave = self._leave[groups.head[group]][images]
        best = np.where(groups.high[group, images], np.maximum(leave, beyond), beyond)
        best = np.where(groups.low[group, images], leave, best)
        return best - np.float32(self._factor * groups.least_price[group])

    def _first_terms(self, groups: ExitGroups, beyond: np.ndarray) -> np.ndarray:
        """Best gate of each group when all others take ``beyond``, shape (N, n)."""
        out = np.empty((len(groups), len(beyond)), np.float32)
        images = self.problem.images
        for head, own in by_head(groups):
            rows = row_span(groups, own)
            masks = self._head_masks(groups, own)
            value = masks @ self._leave[head]
            value -= (images * self._factor * groups.price[rows]).astype(np.float32)
            value = value[:, None] + (1 - masks) @ beyond.T
            start = groups.start[own] - rows.start
            out[own] = np.maximum.reduceat(value, start, axis=0)
        return out

    def _second_exit_terms(
        self, groups: ExitGroups, beyond: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """As ``_first_terms``, over some images only."""
        out = np.empty((len(groups), len(beyond)), np.float32)
        further = np.ascontiguousarray(beyond[:, images].T)
        for head, own in by_head(groups):
            rows = row_span(groups, own)
            masks = self._head_masks(groups, own)[:, images]
            value = masks @ self._leave[head][images]
            paid = len(images) * self._factor * groups.price[rows]
            value = (value - paid.astype(np.float32))[:, None] + (1 - masks) @ further
            start = groups.start[own] - rows.start
            out[own] = np.maximum.reduceat(value, start, axis=0)
        return out

    def _second_terms(
        self,
        groups: ExitGroups,
        stays: np.ndarray,
        end: np.ndarray,
        images: np.ndarray | slice,
    ) -> np.ndarray:
        """Best gate of each group over the images that stay before, shape (N_a, N).

        Args:
            stays: float32 array of shape (N_a, n_images).
        """
        out = np.empty((len(stays), len(groups)), np.float32)
        onward = end[images]
        for head, own in by_head(groups):
            rows = row_span(groups, own)
            masks = self._head_masks(groups, own)[:, images]
            value = masks * (self._leave[head][images] - onward) + onward
            value -= (self._factor * groups.price[rows])[:, None].astype(np.float32)
            start = groups.start[own] - rows.start
            out[:, own] = np.maximum.reduceat(stays @ value.T, start, axis=1)
        return out

    def _gate_values(self, groups: ExitGroups, group: int) -> np.ndarray:
        """Worth of a group's gates, by those that leave, shape (n_gates,)."""
        masks = self._group_masks(groups, group)
        first = int(groups.start[group])
        price = groups.price[first : first + len(masks)]
        value = masks @ self._leave[groups.head[group]]
        paid = self.problem.images * self._factor * price
        return np.asarray(value - paid.astype(np.float32))

    def _head_masks(self, groups: ExitGroups, own: slice) -> np.ndarray:
        order = np.concatenate(groups.gates[own])
        head = groups.head[own.start]
        return self.problem.gates[head].masks[order].astype(np.float32)

    def _group_masks(self, groups: ExitGroups, group: int) -> np.ndarray:
        own = self.problem.gates[groups.head[group]]
        return own.masks[groups.gates[group]].astype(np.float32)

    # --- Ranges of the class sums -------------------------------------------------

    def _base(self, lasts: np.ndarray) -> Base:
        key = lasts.tobytes()
        if key not in self._bases:
            self._bases[key] = Base.of(self.linear, lasts)
        return self._bases[key]

    def _first(self, lasts: np.ndarray, first: int) -> FirstRanges:
        key = lasts.tobytes(), first
        if key not in self._firsts:
            base = self._base(lasts)
            self._firsts[key] = FirstRanges.of(self.linear, base, self.groups(first))
        return self._firsts[key]

    def _pair(self, lasts: np.ndarray, first: int, second: int) -> PairRanges:
        key = lasts.tobytes(), first, second
        if key not in self._pairs:
            if self._pairs and next(iter(self._pairs))[0] != key[0]:
                self._pairs.clear()
            self._pairs[key] = PairRanges.of(
                self.linear, self._base(lasts), self.groups(first), self.groups(second)
            )
        return self._pairs[key]

    def _lost(self, row: int, exits: tuple[int, int, int], tail: Tail) -> np.ndarray:
        """Of what surely leaves third, the part that the first may have taken.

        Sure leavers behind the second exit alone are too many by those that the first
        lets leave and the second does not; any head of the third may be theirs.
        """
        one, two = self.groups(exits[0]), self.groups(exits[1])
        key = tail.lasts.tobytes(), exits[2], 0
        if key not in self._extremes:
            base = self._base(tail.lasts)
            width = base.low.shape[1]
            most = np.zeros((self.problem.images, 2 * width), np.float32)
            for head, _ in by_head(self.groups(exits[2])):
                _, sure = base.differences(self.linear, head)
                np.minimum(most[:, :width], sure[:, :width], out=most[:, :width])
                np.maximum(most[:, width:], sure[:, width:], out=most[:, width:])
            self._extremes[key] = most
        taken = (one.high[row] & ~two.high).astype(np.float32)
        return np.asarray(taken @ self._extremes[key])

    def _slack_of(
        self,
        row: int,
        rows: np.ndarray,
        columns: np.ndarray,
        exits: tuple[int, int, int],
        tail: Tail,
    ) -> np.ndarray:
        """Excess of single triples, shape (n,)."""
        base = self._base(tail.lasts)
        width = base.low.shape[1]
        a_b = self._pair(tail.lasts, exits[0], exits[1])
        a_c = self._pair(tail.lasts, exits[0], exits[2]).may[row]
        b_c = self._pair(tail.lasts, exits[1], exits[2])
        lost = self._lost(row, exits, tail)
        before = self._first(tail.lasts, exits[0]).change[row]
        before = before + a_b.may[row] + a_b.sure[row]
        out = np.empty(len(rows), np.float32)
        step = 1 << 14
        for begin in range(0, len(rows), step):
            second, third = rows[begin : begin + step], columns[begin : begin + step]
            may, other = b_c.may[second, third], a_c[third]
            np.minimum(may[:, :width], other[:, :width], out=may[:, :width])
            np.maximum(may[:, width:], other[:, width:], out=may[:, width:])
            sure = b_c.sure[second, third] - lost[second]
            np.minimum(sure[:, :width], 0, out=sure[:, :width])
            np.maximum(sure[:, width:], 0, out=sure[:, width:])
            change = before[second] + may + sure
            out[begin : begin + step] = self.linear.excess(*_summed(base, change))
        return out

    def _slack_by_second(
        self, row: int, exits: tuple[int, int, int], tail: Tail
    ) -> np.ndarray:
        """Excess with any group of the third exit, shape (N_b,)."""
        base = self._base(tail.lasts)
        width = base.low.shape[1]
        a_b = self._pair(tail.lasts, exits[0], exits[1])
        key = tail.lasts.tobytes(), exits[1], exits[2]
        if key not in self._extremes:
            may = self._pair(tail.lasts, exits[1], exits[2]).may
            high, low = may[:, :, :width].max(1), may[:, :, width:].min(1)
            self._extremes[key] = np.concatenate([high, low], axis=1)
        change = self._first(tail.lasts, exits[0]).change[row] + a_b.may[row]
        change = change + a_b.sure[row] + self._extremes[key]
        return np.asarray(self.linear.excess(*_summed(base, change)))


def _summed(base: Base, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest class sums from the changes (upper half, lower half)."""
    width = base.low.shape[1]
    return base.total_low + change[..., width:], base.total_high + change[..., :width]
