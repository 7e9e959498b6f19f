"""What images are worth at groups of gates: score minus rate times latency, summed."""

from __future__ import annotations

from collections.abc import Iterator

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
        self._factor = rate / problem.images
        leaving = problem.segments_ms + problem.output_ms
        paid = (self._factor * leaving)[:, None].astype(np.float32)
        self._leave = linear.score - paid
        cost = float((leaving + problem.head_ms).max() + problem.head_ms.sum())
        fine = rate * cost * (problem.images + 16) * 1.2e-7
        self.extra = linear.constant + linear.rounding + fine

    def ends(self, lasts: np.ndarray) -> np.ndarray:
        """Value per image of ending at each last head, shape (L, I)."""
        own = (self._factor * self.problem.head_ms[lasts])[:, None]
        return self._leave[lasts] - own.astype(np.float32)

    def through(
        self, groups: ExitGroups, end: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """Most an image can be worth that comes to an exit, per group, (N, n)."""
        leave = self._leave[groups.head][:, images]
        onward = end[..., images]
        best = np.where(groups.high[:, images], np.maximum(leave, onward), onward)
        best = np.where(groups.low[:, images], leave, best)
        return best - (self._factor * groups.least_price)[:, None].astype(np.float32)

    def onward(
        self, groups: ExitGroups, group: int, beyond: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """As ``through``, for one group and several values beyond, shape (..., n)."""
        leave = self._leave[groups.head[group]][images]
        best = np.where(groups.high[group, images], np.maximum(leave, beyond), beyond)
        best = np.where(groups.low[group, images], leave, best)
        return best - np.float32(self._factor * groups.least_price[group])

    def terms(
        self,
        groups: ExitGroups,
        beyond: np.ndarray,
        images: np.ndarray,
        wanted: np.ndarray,
        where: np.ndarray | None = None,
    ) -> np.ndarray:
        """Best gate of each group over some images, the others taking ``beyond``.

        Args:
            beyond: float32 array of shape (n, I).
            wanted: the groups to look at, in order.
            where: bool array of the result's shape, what of it is needed; None is all.

        Returns:
            float32 array of shape (n_wanted, n), minus infinity where not needed.
        """
        out = np.full((len(wanted), len(beyond)), -np.inf, np.float32)
        further = np.ascontiguousarray(beyond[:, images].T)
        for head, places, columns in _blocks(groups, wanted, where):
            masks, price, start = self._gates(groups, wanted[places], images)
            value = masks @ self._leave[head][images]
            value -= (len(images) * self._factor * price).astype(np.float32)
            whole = value[:, None] + (1 - masks) @ further[:, columns]
            out[places, columns] = np.maximum.reduceat(whole, start, axis=0)
        return out

    def second_terms(
        self,
        groups: ExitGroups,
        stays: np.ndarray,
        end: np.ndarray,
        images: np.ndarray,
        wanted: np.ndarray,
        where: np.ndarray | None = None,
    ) -> np.ndarray:
        """Best gate of each group over the images that stay before.

        Args:
            stays: float32 array of shape (N_a, n_images).
            wanted: the groups to look at, in order.
            where: bool array of the result's shape, what of it is needed; None is all.

        Returns:
            float32 array of shape (N_a, n_wanted), minus infinity where not needed.
        """
        out = np.full((len(stays), len(wanted)), -np.inf, np.float32)
        onward = end[images]
        kept, counts = stays @ onward, stays.sum(1)
        turned = None if where is None else where.T
        for head, places, rows in _blocks(groups, wanted, turned):
            masks, price, start = self._gates(groups, wanted[places], images)
            value = (stays[rows] * (self._leave[head][images] - onward)) @ masks.T
            value -= np.outer(counts[rows], self._factor * price).astype(np.float32)
            best = np.maximum.reduceat(value, start, axis=1)
            out[rows, places] = best + kept[rows][:, None]
        return out

    def gate_values(self, groups: ExitGroups, group: int) -> np.ndarray:
        """Worth of a group's gates, by those that leave, shape (n_gates,)."""
        masks = self.group_masks(groups, group)
        first = int(groups.start[group])
        price = groups.price[first : first + len(masks)]
        value = masks @ self._leave[groups.head[group]]
        paid = self.problem.images * self._factor * price
        return np.asarray(value - paid.astype(np.float32))

    def _gates(
        self, groups: ExitGroups, own: np.ndarray, images: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of some groups of one head: masks of the gates, prices, where each begins."""
        gates = [groups.gates[group] for group in own]
        counts = [len(rows) for rows in gates]
        masks = self.problem.gates[groups.head[own[0]]].masks[np.concatenate(gates)]
        if len(images) < masks.shape[1]:
            masks = masks[:, images]
        begins = zip(groups.start[own], counts, strict=True)
        price = [groups.price[begin : begin + count] for begin, count in begins]
        start = np.cumsum([0, *counts])[:-1]
        return masks.astype(np.float32), np.concatenate(price), start

    def group_masks(self, groups: ExitGroups, group: int) -> np.ndarray:
        own = self.problem.gates[groups.head[group]]
        return own.masks[groups.gates[group]].astype(np.float32)


def _blocks(
    groups: ExitGroups, wanted: np.ndarray, where: np.ndarray | None
) -> Iterator[tuple[int, slice, slice | np.ndarray]]:
    """What of a table (n_wanted, n) is computed at once: rows of one head, columns.

    All rows of a head with all columns, or each row with the columns it needs.
    """
    if where is not None:
        for place in np.flatnonzero(where.any(1)):
            own = slice(int(place), int(place) + 1)
            yield int(groups.head[wanted[place]]), own, np.flatnonzero(where[place])
        return
    heads, start = np.unique(groups.head[wanted], return_index=True)
    ends = [*start[1:], len(wanted)]
    for head, begin, end in zip(heads, start, ends, strict=True):
        yield int(head), slice(int(begin), int(end)), slice(None)
