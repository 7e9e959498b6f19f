"""Ranges of class sums for pairs of groups of gates, for all pairs at once.

What a configuration's images add up to, per class, is what they would add up to at the
last head plus, for each early exit, the differences of the images that leave there.
Those lie between the images that surely leave and those that may: sums over both sets
are matrix products, and bound the differences from above and below.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import ExitGroups
from search.solver.miou_tangent import Linear

Sums = tuple[np.ndarray, np.ndarray]
# Tables of pairs of exits that are kept, of some 50 MB each.
_KEPT_PAIRS = 24


@dataclass(frozen=True, eq=False)
class Base:
    """Class sums if every image went to the end, and per image the end's extremes.

    Attributes:
        low, high: float32 arrays of shape (I, 2C): least and largest parts over the
            heads that may answer last.
        total_low, total_high: float32 arrays of shape (2C,).
    """

    low: np.ndarray
    high: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray

    @classmethod
    def of(cls, linear: Linear, lasts: np.ndarray) -> Base:
        low, high = linear.parts[lasts].min(0), linear.parts[lasts].max(0)
        return cls(low, high, low.sum(0), high.sum(0))

    def differences(self, linear: Linear, head: int) -> tuple[np.ndarray, np.ndarray]:
        """What an image's leaving at ``head`` may add at most and must add at least.

        Returns:
            float32 arrays of shape (I, 4C). Of images that may leave: how far up the
            sums may go, and (negative) how far down. Of those that surely leave: the
            (negative) part that surely pulls down, and the one that pushes up.
        """
        up = linear.parts[head] - self.high
        down = linear.parts[head] - self.low
        may = np.concatenate([np.maximum(up, 0), np.minimum(down, 0)], axis=1)
        sure = np.concatenate([np.minimum(up, 0), np.maximum(down, 0)], axis=1)
        return may, sure


@dataclass(frozen=True, eq=False)
class FirstRanges:
    """Class sums' changes by a first exit, shape (N, 4C): upper 2C, lower 2C."""

    change: np.ndarray

    @classmethod
    def of(cls, linear: Linear, base: Base, groups: ExitGroups) -> FirstRanges:
        change = np.empty((len(groups), 2 * base.low.shape[1]), np.float32)
        for head, own in by_head(groups):
            may, sure = base.differences(linear, head)
            high = groups.high[own].astype(np.float32)
            change[own] = high @ may + groups.low[own].astype(np.float32) @ sure
        return cls(change)


@dataclass(frozen=True, eq=False)
class PairRanges:
    """Changes by exit b after exit a has let its images go.

    Attributes:
        may, sure: float32 arrays of shape (N_a, N_b, 4C): of images that may, and that
            surely, leave at b when only a comes before it; their sum bounds the change.
    """

    may: np.ndarray
    sure: np.ndarray

    @classmethod
    def of(
        cls, linear: Linear, base: Base, first: ExitGroups, second: ExitGroups
    ) -> PairRanges:
        width = 2 * base.low.shape[1]
        may = np.empty((len(first), len(second), width), np.float32)
        sure = np.empty_like(may)
        not_low = (~first.low).astype(np.float32)
        not_high = (~first.high).astype(np.float32)
        for head, own in by_head(second):
            here_may, here_sure = base.differences(linear, head)
            may[:, own] = _masked_sums(not_low, second.high[own], here_may)
            sure[:, own] = _masked_sums(not_high, second.low[own], here_sure)
        return cls(may, sure)


def _masked_sums(
    first: np.ndarray, second: np.ndarray, parts: np.ndarray
) -> np.ndarray:
    """Sums of parts over the images in both masks, shape (N_a, n_b, F)."""
    joint = second[:, :, None] * parts
    images = joint.shape[1]
    columns = joint.transpose(1, 0, 2).reshape(images, -1)
    return (first @ columns).reshape(len(first), len(second), -1)


def by_head(groups: ExitGroups) -> list[tuple[int, slice]]:
    """Each head with its groups, which are neighbours."""
    heads, start = np.unique(groups.head, return_index=True)
    ends = [*start[1:], len(groups)]
    return [
        (int(h), slice(int(s), int(e)))
        for h, s, e in zip(heads, start, ends, strict=True)
    ]


class RangeTables:
    """Ranges of class sums for groups of one, two and three exits.

    Args of its methods: ``lasts`` are the heads that may answer last. All give the
    least and the largest sums of ``Linear.parts``, shape (..., 2C) each.
    """

    def __init__(
        self, linear: Linear, images: int, groups: Callable[[int], ExitGroups]
    ) -> None:
        """``groups``: gives an exit's groups."""
        self.linear = linear
        self.images = images
        self.groups = groups
        self._bases: dict[bytes, Base] = {}
        self._firsts: dict[tuple[bytes, int], FirstRanges] = {}
        self._pairs: dict[tuple[bytes, int, int], PairRanges] = {}
        self._lock = threading.Lock()
        self._extremes: dict[tuple[bytes, int, int], np.ndarray] = {}

    def of_first(self, first: int, lasts: np.ndarray) -> Sums:
        """Per group of one exit, shape (N, 2C)."""
        return _summed(self.base(lasts), self._first(lasts, first).change)

    def of_pairs(
        self,
        rows: np.ndarray,
        first: int,
        second: int,
        lasts: np.ndarray,
        columns: np.ndarray | None = None,
    ) -> Sums:
        """Some groups of the first exit with all of the second, shape (n, N, 2C).

        With ``columns`` each has one of the second beside it, shape (n, 2C).
        """
        pair = self._pair(lasts, first, second)
        change = self._first(lasts, first).change[rows]
        if columns is None:
            change = change[:, None] + pair.may[rows] + pair.sure[rows]
        else:
            change = change + pair.may[rows, columns] + pair.sure[rows, columns]
        return _summed(self.base(lasts), change)

    def of_triples(
        self,
        row: int,
        rows: np.ndarray,
        columns: np.ndarray,
        exits: tuple[int, int, int],
        lasts: np.ndarray,
    ) -> Sums:
        """One group of the first exit with pairs of the others, shape (n, 2C)."""
        base = self.base(lasts)
        width = base.low.shape[1]
        a_b = self._pair(lasts, exits[0], exits[1])
        b_c = self._pair(lasts, exits[1], exits[2])
        other = self._pair(lasts, exits[0], exits[2]).may[row][columns]
        change = self._first(lasts, exits[0]).change[row] + a_b.may[row] + a_b.sure[row]
        # Who may leave third stays at the first and at the second exit.
        may = b_c.may[rows, columns]
        np.minimum(may[:, :width], other[:, :width], out=may[:, :width])
        np.maximum(may[:, width:], other[:, width:], out=may[:, width:])
        sure = b_c.sure[rows, columns] - self._lost(row, exits, lasts)[rows]
        np.minimum(sure[:, :width], 0, out=sure[:, :width])
        np.maximum(sure[:, width:], 0, out=sure[:, width:])
        return _summed(base, change[rows] + may + sure)

    def with_any_third(
        self, row: int, exits: tuple[int, int, int], lasts: np.ndarray
    ) -> Sums:
        """One group of the first exit, each of the second, any third of a part.

        Returns:
            shape (N, n_parts, 2C) each.
        """
        key = lasts.tobytes(), exits[1], exits[2]
        part = self.groups(exits[2]).part
        if key not in self._extremes:
            self._extremes[key] = _widest(
                self._pair(lasts, exits[1], exits[2]).may, part
            )
        pair = self._pair(lasts, exits[0], exits[1])
        change = self._first(lasts, exits[0]).change[row]
        change = change + pair.may[row] + pair.sure[row]
        # Who may leave third stays at the first and at the second exit.
        other = _widest(self._pair(lasts, exits[0], exits[2]).may[row][None], part)
        third, width = self._extremes[key].copy(), other.shape[2] // 2
        np.minimum(third[..., :width], other[..., :width], out=third[..., :width])
        np.maximum(third[..., width:], other[..., width:], out=third[..., width:])
        return _summed(self.base(lasts), change[:, None] + third)

    def _lost(
        self, row: int, exits: tuple[int, int, int], lasts: np.ndarray
    ) -> np.ndarray:
        """Of what surely leaves third, the part that the first may have taken.

        Sure leavers behind the second exit alone are too many by those that the first
        lets leave and the second does not; any head of the third may be theirs.
        """
        one, two = self.groups(exits[0]), self.groups(exits[1])
        key = lasts.tobytes(), exits[2], 0
        if key not in self._extremes:
            base = self.base(lasts)
            width = base.low.shape[1]
            most = np.zeros((self.images, 2 * width), np.float32)
            for head, _ in by_head(self.groups(exits[2])):
                _, sure = base.differences(self.linear, head)
                np.minimum(most[:, :width], sure[:, :width], out=most[:, :width])
                np.maximum(most[:, width:], sure[:, width:], out=most[:, width:])
            self._extremes[key] = most
        taken = (one.high[row] & ~two.high).astype(np.float32)
        return np.asarray(taken @ self._extremes[key])

    def base(self, lasts: np.ndarray) -> Base:
        """Of the heads that may answer last."""
        key = lasts.tobytes()
        if key not in self._bases:
            self._bases[key] = Base.of(self.linear, lasts)
        return self._bases[key]

    def _first(self, lasts: np.ndarray, first: int) -> FirstRanges:
        key = lasts.tobytes(), first
        if key not in self._firsts:
            base = self.base(lasts)
            self._firsts[key] = FirstRanges.of(self.linear, base, self.groups(first))
        return self._firsts[key]

    def _pair(self, lasts: np.ndarray, first: int, second: int) -> PairRanges:
        key = lasts.tobytes(), first, second
        with self._lock:
            if key not in self._pairs:
                while len(self._pairs) >= _KEPT_PAIRS:
                    del self._pairs[next(iter(self._pairs))]
                base = self.base(lasts)
                self._pairs[key] = PairRanges.of(
                    self.linear, base, self.groups(first), self.groups(second)
                )
            return self._pairs[key]


def _widest(may: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The most that any group of a part may change sums, (N, N_c, 4C) to (N, P, 4C)."""
    width = may.shape[2] // 2
    out = np.empty((len(may), part.max(initial=-1) + 1, 2 * width), np.float32)
    for p in range(out.shape[1]):
        own = may[:, part == p]
        out[:, p, :width] = own[:, :, :width].max(1, initial=0.0)
        out[:, p, width:] = own[:, :, width:].min(1, initial=0.0)
    return out


def _summed(base: Base, change: np.ndarray) -> Sums:
    """Least and largest class sums from the changes (upper half, lower half)."""
    width = base.low.shape[1]
    return base.total_low + change[..., width:], base.total_high + change[..., :width]
