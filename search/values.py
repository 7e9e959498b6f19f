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
    ) -> np.ndarray:
        """Best gate of each group over some images, the others taking ``beyond``.

        Args:
            beyond: float32 array of shape (n, I).
            wanted: the groups to look at, in order.

        Returns:
            float32 array of shape (n_wanted, n).
        """
        out = np.empty((len(wanted), len(beyond)), np.float32)
        further = np.ascontiguousarray(beyond[:, images].T)
        for head, places in _by_head(groups, wanted):
            masks, price, start = self._gates(groups, wanted[places], images)
            value = masks @ self._leave[head][images]
            paid = len(images) * self._factor * price
            value = (value - paid.astype(np.float32))[:, None] + (1 - masks) @ further
            out[places] = np.maximum.reduceat(value, start, axis=0)
        return out

    def second_terms(
        self,
        groups: ExitGroups,
        stays: np.ndarray,
        end: np.ndarray,
        images: np.ndarray,
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Best gate of each group over the images that stay before.

        Args:
            stays: float32 array of shape (N_a, n_images).
            wanted: the groups to look at, in order.

        Returns:
            float32 array of shape (N_a, n_wanted).
        """
        out = np.empty((len(stays), len(wanted)), np.float32)
        onward = end[images]
        for head, places in _by_head(groups, wanted):
            masks, price, start = self._gates(groups, wanted[places], images)
            value = masks * (self._leave[head][images] - onward) + onward
            value -= (self._factor * price)[:, None].astype(np.float32)
            out[:, places] = np.maximum.reduceat(stays @ value.T, start, axis=1)
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


def _by_head(groups: ExitGroups, wanted: np.ndarray) -> list[tuple[int, slice]]:
    """Each head with the places of its groups in ``wanted``, which are neighbours."""
    heads, start = np.unique(groups.head[wanted], return_index=True)
    return [
        (int(head), slice(int(begin), int(end)))
        for head, begin, end in zip(
            heads, start, [*start[1:], len(wanted)], strict=True
        )
    ]
