"""What images are worth at groups of gates: score minus rate times latency, summed."""

from __future__ import annotations

import numpy as np

from search.groups import ExitGroups
from search.linear import Linear
from search.problem import Problem


class Values:
    """Sums of mIoU - rate * latency over images, with one linear stand-in.

    Attributes:
        extra: to be added to a sum over all images, so that it bounds from above: the
            constant, and what float32 may lose.
    """

    def __init__(self, problem: Problem, linear: Linear, rate: float) -> None:
        self.problem = problem
        self.factor = rate / problem.images
        leaving = problem.segments_ms + problem.output_ms
        paid = (self.factor * leaving)[:, None].astype(np.float32)
        self.leave = linear.score - paid
        cost = float((leaving + problem.head_ms).max() + problem.head_ms.sum())
        fine = rate * cost * (problem.images + 16) * 1.2e-7
        self.extra = linear.constant + linear.rounding + fine

    def ends(self, lasts: np.ndarray) -> np.ndarray:
        """Value per image of ending at each last head, shape (L, I)."""
        own = (self.factor * self.problem.head_ms[lasts])[:, None]
        return self.leave[lasts] - own.astype(np.float32)

    def through(
        self, groups: ExitGroups, end: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """Most an image can be worth that comes to an exit, per group, (N, n)."""
        leave = self.leave[groups.head][:, images]
        onward = end[..., images]
        best = np.where(groups.high[:, images], np.maximum(leave, onward), onward)
        best = np.where(groups.low[:, images], leave, best)
        return best - (self.factor * groups.least_price)[:, None].astype(np.float32)

    def onward(
        self, groups: ExitGroups, group: int, beyond: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """As ``through``, for one group and several values beyond, shape (..., n)."""
        leave = self.leave[groups.head[group]][images]
        best = np.where(groups.high[group, images], np.maximum(leave, beyond), beyond)
        best = np.where(groups.low[group, images], leave, best)
        return best - np.float32(self.factor * groups.least_price[group])

    def terms(
        self,
        groups: ExitGroups,
        beyond: np.ndarray,
        wanted: np.ndarray,
        here: np.ndarray | None = None,
        where: np.ndarray | None = None,
    ) -> np.ndarray:
        """Best gate of each group over the images that some gate of it lets leave.

        What is kept takes ``beyond``. The price is that of all images that come.

        Args:
            beyond: float32 array of shape (n, I).
            wanted: the groups to look at.
            here: bool array of shape (I,), images that come; None is all.
            where: bool array of the result's shape, what of it is needed; None is all.

        Returns:
            float32 array of shape (n_wanted, n), minus infinity where not needed.
        """
        out = np.full((len(wanted), len(beyond)), -np.inf, np.float32)
        turned = np.ascontiguousarray(beyond.T)
        count = beyond.shape[1] if here is None else int(here.sum())
        for place, group in enumerate(wanted):
            columns = _columns(where, place)
            if columns is None:
                continue
            leave = self.leave[groups.head[group]]
            at, masks, low = groups.doubt[group], groups.masks[group], groups.low[group]
            if here is not None:
                own = here[at]
                at, masks, low = at[own], masks[:, own], low & here
            value = masks @ leave[at] + leave[low].sum(dtype=np.float64)
            value -= count * self.factor * groups.prices(group)
            further = turned[at][:, columns]
            whole = (1 - masks) @ further
            whole += value[:, None].astype(np.float32)
            out[place, columns] = whole.max(0)
        if where is not None:
            out[~where] = -np.inf
        return out

    def second_terms(
        self,
        groups: ExitGroups,
        stays: np.ndarray,
        end: np.ndarray,
        wanted: np.ndarray,
        where: np.ndarray | None = None,
    ) -> np.ndarray:
        """Best gate of each group over the images that stay; kept ones take ``end``.

        Args:
            stays: float32 array of shape (N_a, I), 1 where an image stays.
            end: float32 array of shape (I,).
            wanted: the groups to look at.
            where: bool array of the result's shape, what of it is needed; None is all.

        Returns:
            float32 array of shape (N_a, n_wanted), minus infinity where not needed.
        """
        out = np.full((len(stays), len(wanted)), -np.inf, np.float32)
        kept, counts = stays @ end, stays.sum(1)
        turned = np.ascontiguousarray(stays.T)
        needed = None if where is None else where.T
        for place, group in enumerate(wanted):
            rows = _columns(needed, place)
            if rows is None:
                continue
            gain = self.leave[groups.head[group]] - end
            low, at = np.flatnonzero(groups.low[group]), groups.doubt[group]
            paid = self.factor * groups.prices(group)
            value = (groups.masks[group] * gain[at]) @ turned[at][:, rows]
            value -= np.outer(paid, counts[rows]).astype(np.float32)
            best = value.max(0) + gain[low] @ turned[low][:, rows]
            out[rows, place] = best + kept[rows]
        if where is not None:
            out[~where] = -np.inf
        return out

    def gate_values(self, groups: ExitGroups, group: int) -> np.ndarray:
        """Worth of a group's gates, by those that leave, float32, shape (n_gates,)."""
        leave = self.leave[groups.head[group]]
        value = groups.masks[group] @ leave[groups.doubt[group]]
        paid = self.problem.images * self.factor * groups.prices(group)
        whole = value + leave[groups.low[group]].sum(dtype=np.float64) - paid
        return np.asarray(whole, np.float32)


def _columns(where: np.ndarray | None, place: int) -> slice | np.ndarray | None:
    """Of one row of a table, what to compute; None for nothing.

    Picking more than half of the columns takes longer than computing all.
    """
    if where is None:
        return slice(None)
    found = np.flatnonzero(where[place])
    if not len(found):
        return None
    return slice(None) if 2 * len(found) > where.shape[1] else found
