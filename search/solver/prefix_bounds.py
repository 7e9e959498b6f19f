"""Lagrangian upper bounds for configurations that share their first gate clusters.

All clusters of the next two exits are bounded at once. Each image chooses freely
whether to leave where a cluster's gates disagree on it, but the heads are fixed: the
best of many heads on each single image, which is most of what a looser bound loses,
does not enter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import GateClusters
from search.solver.lagrangian import LagrangianTerms


@dataclass(frozen=True, eq=False)
class _NextExit:
    """A cluster of the next exit for each of n prefixes.

    Attributes:
        clusters: of the exit.
        columns: int64 array of shape (n,), the cluster of each prefix.
        penalties: float64 array of shape (n,), least cost of passing it per image, in
            units of mIoU.
        continuations: float32 array of shape (K, I), Lagrangian value of each image
            per continuation behind it.
    """

    clusters: GateClusters
    columns: np.ndarray
    penalties: np.ndarray
    continuations: np.ndarray


@dataclass(frozen=True, eq=False)
class PrefixState:
    """State of the images behind some clusters of a first exit, R of them.

    Attributes:
        continues: bool array of shape (R, I), the image surely continues.
        undecided: bool array of shape (R, I), it may leave or continue.
        leave_values: float32 array of shape (R, I), Lagrangian value if it leaves.
        penalties: float64 array of shape (R,), least cost of passing the exit per
            image, in units of mIoU.
        decided_sums: float64 array of shape (R,), sum over the images that surely
            leave.
    """

    continues: np.ndarray
    undecided: np.ndarray
    leave_values: np.ndarray
    penalties: np.ndarray
    decided_sums: np.ndarray

    @classmethod
    def after_first_exit(
        cls, terms: LagrangianTerms, clusters: GateClusters, rows: np.ndarray
    ) -> PrefixState:
        """State behind the clusters ``rows``, int64 array of shape (R,)."""
        all_leave, any_leaves = clusters.all_leave[rows], clusters.any_leaves[rows]
        penalties = terms.multiplier_per_image * clusters.min_pass_ms[rows]
        leave_values = terms.leave_values[clusters.head[rows]] - penalties[
            :, None
        ].astype(np.float32)
        decided_sums = leave_values.sum(1, where=all_leave, dtype=np.float64)
        return cls(
            ~any_leaves, any_leaves & ~all_leave, leave_values, penalties, decided_sums
        )

    def bound_with_next_exit(
        self,
        terms: LagrangianTerms,
        clusters: GateClusters,
        continuations: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
    ) -> np.ndarray:
        """Bounds with a cluster of the next exit, for each continuation behind it.

        Args:
            clusters: of the next exit.
            continuations: float32 array of shape (K, I), Lagrangian value of each
                image per continuation.
            rows, columns: int64 arrays of shape (n,): which of the R, and the cluster.

        Returns:
            float32 array of shape (n, K), without ``terms.offset``.
        """
        out = np.empty((len(rows), len(continuations)), np.float32)
        transposed = np.ascontiguousarray(continuations.T)
        penalties = terms.multiplier_per_image * clusters.min_pass_ms[columns]
        next_exit = _NextExit(clusters, columns, penalties, continuations)
        heads = clusters.head[columns]
        for head in np.unique(heads):
            selected = np.flatnonzero(heads == head)
            row, column = rows[selected], columns[selected]
            leave, reaching = terms.leave_values[head], self.continues[row]
            all_leave = (reaching & clusters.all_leave[column]).astype(np.float32)
            free = (reaching & clusters.any_leaves[column]).astype(
                np.float32
            ) - all_leave
            stays = (reaching & ~clusters.any_leaves[column]).astype(np.float32)
            bound = stays @ transposed
            bound += free @ np.maximum(leave[:, None], transposed)
            fixed = self.decided_sums[row] - (
                self.penalties[row] + penalties[selected]
            ) * reaching.sum(1)
            bound += (all_leave @ leave + fixed)[:, None].astype(np.float32)
            out[selected] = bound
        for row in np.unique(rows):
            selected = np.flatnonzero(rows == row)
            if self.undecided[row].any():
                out[selected] += self._undecided_sums(
                    terms, next_exit, int(row), selected
                )
        return out

    def _undecided_sums(
        self,
        terms: LagrangianTerms,
        next_exit: _NextExit,
        row: int,
        selected: np.ndarray,
    ) -> np.ndarray:
        """Sums over the images that cluster ``row`` of the first exit leaves undecided.

        Args:
            selected: int64 array of shape (n,), prefixes of that cluster.

        Returns:
            float32 array of shape (n, K).
        """
        clusters = next_exit.clusters
        images = np.flatnonzero(self.undecided[row])
        behind = np.ascontiguousarray(next_exit.continuations[:, images])
        left = self.leave_values[row, images]
        cluster = next_exit.columns[selected]
        all_leave = clusters.all_leave[np.ix_(cluster, images)].astype(np.float32)
        any_leaves = clusters.any_leaves[np.ix_(cluster, images)].astype(np.float32)
        stays, free = 1 - any_leaves, any_leaves - all_leave
        out = np.empty((len(selected), len(behind)), np.float32)
        heads = clusters.head[cluster]
        for head in np.unique(heads):
            same = np.flatnonzero(heads == head)
            # All clusters of a head are charged the cost of its cheapest one.
            penalty = np.float32(
                self.penalties[row] + next_exit.penalties[selected[same]].min()
            )
            left_gross, leave = left + penalty, terms.leave_values[head, images]
            best = np.maximum(left_gross, behind)
            bound = stays[same] @ best.T
            np.maximum(leave, best, out=best)
            bound += free[same] @ best.T
            leaving = (
                all_leave[same] @ np.maximum(left_gross, leave) - len(images) * penalty
            )
            out[same] = bound + leaving[:, None]
        return out
