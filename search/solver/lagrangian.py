"""What images are worth at groups of gates: score minus rate times latency, summed."""

from __future__ import annotations

import numpy as np

from search.problem import Problem
from search.solver.gate_clusters import ExitGroups
from search.solver.miou_tangent import Linear


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
        leave, low = self.leave[groups.head[wanted]], groups.low[wanted]
        count = beyond.shape[1]
        if here is not None:
            low, count = low & here, int(here.sum())
        settled = leave.sum(1, where=low, dtype=np.float64)
        paid = count * self.factor * groups.price
        out = np.full((len(wanted), len(beyond)), -np.inf, np.float32)
        turned = np.ascontiguousarray(beyond.T)
        for place, group in enumerate(wanted):
            at, masks = groups.doubt[group], groups.masks[group]
            if here is not None:
                own = here[at]
                at, masks = at[own], masks[:, own]
            value = masks @ leave[place, at] + settled[place]
            value -= paid[groups.place(group)]
            columns = _columns(where, place)
            if columns is not None:
                whole = (1 - masks) @ turned[at][:, columns]
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
        gain = self.leave[groups.head[wanted]] - end
        settled = stays @ (gain * groups.low[wanted]).T
        settled += (stays @ end)[:, None]
        counts, price = stays.sum(1), (self.factor * groups.price).astype(np.float32)
        out = np.full((len(wanted), len(stays)), -np.inf, np.float32)
        turned = np.ascontiguousarray(stays.T)
        needed = None if where is None else where.T
        for place, group in enumerate(wanted):
            rows = _columns(needed, place)
            if rows is not None:
                at, paid = groups.doubt[group], price[groups.place(group)]
                worth = groups.masks[group] * gain[place, at]
                value = worth @ turned[at][:, rows]
                value -= paid[:, None] * counts[rows]
                out[place, rows] = value.max(0)
        if needed is not None:
            out[~needed] = -np.inf
        return settled + out.T

    def gate_values(self, groups: ExitGroups, group: int) -> np.ndarray:
        """Worth of a group's gates, by those that leave, float32, shape (n_gates,)."""
        leave = self.leave[groups.head[group]]
        value = groups.masks[group] @ leave[groups.doubt[group]]
        price = groups.price[groups.place(group)]
        paid = self.problem.images * self.factor * price
        whole = value + leave[groups.low[group]].sum(dtype=np.float64) - paid
        return np.asarray(whole, np.float32)


def _columns(where: np.ndarray | None, row: int) -> slice | np.ndarray | None:
    """Of one row of a table, what to compute; None for nothing.

    Picking more than half of the columns takes longer than computing all.
    """
    if where is None:
        return slice(None)
    found = np.flatnonzero(where[row])
    if not len(found):
        return None
    return slice(None) if 2 * len(found) > where.shape[1] else found
