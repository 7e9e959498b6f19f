"""Ranges of class sums where each image takes one of the answers it may get.

The tables in ``search.solver.pair_intervals`` add up what each exit may change, so an
image in doubt at two exits is counted with both. Here an image's parts lie between the
least and the largest of the answers it may get. That takes a pass over the images for
each set of groups, so it is done for what the tables leave only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import ExitGroups
from search.solver.miou_tangent import Linear
from search.solver.pair_intervals import Base, Sums


@dataclass(frozen=True, eq=False)
class Prefix:
    """What images may have got at the exits so far.

    Attributes:
        on: int64 array of shape (n,), images that may go on.
        low, high: float32 arrays of shape (n, 2C), least and largest parts among the
            answers that they may have got; infinite where they surely go on.
        gone_low, gone_high: float32 arrays of shape (2C,), sums over the others.
    """

    on: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gone_low: np.ndarray
    gone_high: np.ndarray

    @classmethod
    def empty(cls, images: int, width: int) -> Prefix:
        """Before the first exit."""
        none = np.full((images, width), np.inf, np.float32)
        zero = np.zeros(width, np.float32)
        return cls(np.arange(images), none, -none, zero, zero)

    def after(self, linear: Linear, groups: ExitGroups, group: int) -> Prefix:
        """With one more group of gates."""
        parts = linear.parts[groups.head[group]][self.on]
        may = groups.high[group, self.on][:, None]
        low = np.where(may, np.minimum(self.low, parts), self.low)
        high = np.where(may, np.maximum(self.high, parts), self.high)
        gone = groups.low[group, self.on]
        return Prefix(
            self.on[~gone],
            low[~gone],
            high[~gone],
            self.gone_low + low[gone].sum(0),
            self.gone_high + high[gone].sum(0),
        )

    def ends(self, base: Base) -> Sums:
        """Least and largest answers of those that go on and come to a last head."""
        low, high = base.low[self.on], base.high[self.on]
        return np.minimum(self.low, low), np.maximum(self.high, high)

    def ended(
        self, linear: Linear, ends: Sums, groups: ExitGroups, own: np.ndarray
    ) -> Sums:
        """With each of some groups of one head, and then a last head.

        Args:
            ends: what ``ends`` gives.
            own: the groups, int64 array of shape (k,).

        Returns:
            least and largest sums, shape (k, 2C) each.
        """
        parts = linear.parts[groups.head[own[0]]][self.on]
        leave = groups.low[np.ix_(own, self.on)].astype(np.float32)
        stay = 1 - groups.high[np.ix_(own, self.on)].astype(np.float32)
        doubt = 1 - leave - stay
        sums = []
        for pick, so_far, beyond, gone in (
            (np.minimum, self.low, ends[0], self.gone_low),
            (np.maximum, self.high, ends[1], self.gone_high),
        ):
            here = pick(so_far, parts)
            either = pick(here, beyond)
            sums.append(leave @ here + stay @ beyond + doubt @ either + gone)
        return sums[0], sums[1]


def sums_of(
    linear: Linear, base: Base, groups: Sequence[ExitGroups], rows: np.ndarray
) -> Sums:
    """Ranges of the class sums of sets of groups.

    Args:
        groups: of each exit of the chain, in order of depth.
        rows: int64 array of shape (n, n_exits), a group of each exit.

    Returns:
        least and largest sums of ``Linear.parts``, shape (n, 2C) each.
    """
    width = base.low.shape[1]
    low, high = (np.empty((len(rows), width), np.float32) for _ in range(2))
    heads = groups[-1].head[rows[:, -1]]
    known: list[tuple[int, Prefix]] = []
    start = Prefix.empty(len(base.low), width)
    ends = start.ends(base)
    order = np.lexsort((heads, *rows[:, -2::-1].T))
    keys = np.column_stack([rows[order, :-1], heads[order]])
    if not len(rows):
        return low, high
    first = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    for own in np.split(order, first[1:]):
        beginning = rows[own[0], :-1]
        same = 0
        while same < len(known) and known[same][0] == beginning[same]:
            same += 1
        del known[same:]
        for place in range(same, len(beginning)):
            before = known[-1][1] if known else start
            group = int(beginning[place])
            known.append((group, before.after(linear, groups[place], group)))
        prefix = known[-1][1] if known else start
        if same < len(beginning):
            ends = prefix.ends(base)
        low[own], high[own] = prefix.ended(linear, ends, groups[-1], rows[own, -1])
    return low, high
