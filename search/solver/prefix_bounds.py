"""Chains that have begun: which images go on, which may, and what they are worth.

From there all groups of the next two exits are bounded at once. Each image is free to
leave or to go on where a group's gates disagree, but the heads are fixed: how lucky
many heads are on single images, which is most of what a looser bound loses, does not
come in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import ExitGroups
from search.solver.lagrangian import Values


@dataclass(frozen=True, eq=False)
class Begun:
    """Behind some groups of a first exit, R of them.

    Attributes:
        sure, doubt: bool arrays of shape (R, I): the image surely goes on; may do so.
        left: float32 array of shape (R, I), what an image is worth that leaves.
        paid: float64 array of shape (R,), price of passing, in units of worth.
        settled: float64 array of shape (R,), sum over the images that surely leave.
    """

    sure: np.ndarray
    doubt: np.ndarray
    left: np.ndarray
    paid: np.ndarray
    settled: np.ndarray

    @classmethod
    def of(cls, values: Values, groups: ExitGroups, rows: np.ndarray) -> Begun:
        """``rows``: the groups, int64 array of shape (R,)."""
        low, high = groups.low[rows], groups.high[rows]
        paid = values.factor * groups.least_price[rows]
        left = values.leave[groups.head[rows]] - paid[:, None].astype(np.float32)
        settled = left.sum(1, where=low, dtype=np.float64)
        return cls(~high, high & ~low, left, paid, settled)

    def then(
        self,
        values: Values,
        groups: ExitGroups,
        ways: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
    ) -> np.ndarray:
        """Bounds with a group of the next exit, and each way to go on behind it.

        Args:
            ways: float32 array of shape (K, I), worth of the images per way.
            rows, columns: int64 arrays of shape (n,): which of the R, with which group.

        Returns:
            float32 array of shape (n, K), what ``values`` adds not yet in it.
        """
        out = np.empty((len(rows), len(ways)), np.float32)
        turned = np.ascontiguousarray(ways.T)
        price = values.factor * groups.least_price[columns]
        heads = groups.head[columns]
        for head in np.unique(heads):
            own = np.flatnonzero(heads == head)
            row, column = rows[own], columns[own]
            leave, known = values.leave[head], self.sure[row]
            low = (known & groups.low[column]).astype(np.float32)
            open_ = (known & groups.high[column]).astype(np.float32) - low
            stays = (known & ~groups.high[column]).astype(np.float32)
            bound = stays @ turned
            bound += open_ @ np.maximum(leave[:, None], turned)
            fix = self.settled[row] - (self.paid[row] + price[own]) * known.sum(1)
            bound += (low @ leave + fix)[:, None].astype(np.float32)
            out[own] = bound
        for row in np.unique(rows):
            own = np.flatnonzero(rows == row)
            self._add_doubtful(values, groups, ways, int(row), columns, price, own, out)
        return out

    def _add_doubtful(
        self,
        values: Values,
        groups: ExitGroups,
        ways: np.ndarray,
        row: int,
        columns: np.ndarray,
        price: np.ndarray,
        own: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Adds the images that may have left to what ``then`` gives.

        Args:
            groups, ways, columns: as in ``then``.
            price: of passing the groups ``columns``, in units of worth.
            own: places in ``out`` of this row.
        """
        at = np.flatnonzero(self.doubt[row])
        if not len(at):
            return
        onward, left = np.ascontiguousarray(ways[:, at]), self.left[row, at]
        group = columns[own]
        gone = groups.low[np.ix_(group, at)].astype(np.float32)
        high = groups.high[np.ix_(group, at)].astype(np.float32)
        stays, open_ = 1 - high, high - gone
        heads = groups.head[group]
        for head in np.unique(heads):
            here = np.flatnonzero(heads == head)
            # The dearer groups of a head are bounded as if they cost what its
            # cheapest does.
            due = np.float32(self.paid[row] + price[own[here]].min())
            worth, leave = left + due, values.leave[head, at]
            best = np.maximum(worth, onward)
            bound = stays[here] @ best.T
            np.maximum(leave, best, out=best)
            bound += open_[here] @ best.T
            final = gone[here] @ np.maximum(worth, leave) - len(at) * due
            out[own[here]] += bound + final[:, None]
