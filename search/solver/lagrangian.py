"""Lagrangian values of images at gate clusters: score minus multiplier times latency.

The Lagrangian of a configuration is L = mIoU - m * latency with the multiplier m >= 0
(mIoU per millisecond). With the surrogate it is a sum over the images, and for a set of
configurations (a chain of heads, some gates at each of its early exits, some heads that
may answer last) it is bounded from above by

    L <= constant + remainder
         + sum over the chain's exits k of
               max over the gates g of exit k of
                   sum over the images i that surely reach k, and that some gate of k
                   lets leave, of
                       leave value of i at k          if g lets i leave,
                       continue value of i behind k   if g keeps i and not all gates of
                                                      k agree on i,
                   - m * (pass cost of k with g) * (images that surely reach k) / I
         + max over the last heads of the sum over the images that surely reach them,

where an image's *continue value* is the largest Lagrangian value that it can have
behind the exit. The maximum is taken after summing, so that an image's free choice
counts only where gates of one exit disagree on it. This is the one bound of the solver.
It is evaluated by ``search.solver.node_bounds`` for single nodes with arbitrary gates,
several multipliers and a bound per gate, and by ``search.solver.pairwise_bounds``, with
the sums of this module, for all pairs and triples of clusters at once by matrix
products. ``docs/search.md`` derives it.
"""

from __future__ import annotations

import numpy as np

from search.problem import Problem
from search.solver.gate_clusters import GateClusters
from search.solver.miou_tangent import MiouTangent


class LagrangianTerms:
    """Sums of mIoU - multiplier * latency over images, with one surrogate.

    Attributes:
        multiplier_per_image: multiplier / I, so that sums of milliseconds over images
            times this are in units of mIoU.
        leave_values: float32 array of shape (H, I), Lagrangian value of an image that
            leaves at a head, without the costs of passing exits.
        offset: to be added to a sum over all images, so that it bounds L from above:
            the surrogate's constant, and what float32 may lose.
    """

    def __init__(
        self, problem: Problem, tangent: MiouTangent, multiplier: float
    ) -> None:
        self.problem = problem
        self.multiplier_per_image = multiplier / problem.images
        leave_ms = problem.segments_ms + problem.output_ms
        penalty = (self.multiplier_per_image * leave_ms)[:, None].astype(np.float32)
        self.leave_values = tangent.score - penalty
        longest_ms = float((leave_ms + problem.head_ms).max() + problem.head_ms.sum())
        rounding = multiplier * longest_ms * (problem.images + 16) * 1.2e-7
        self.offset = tangent.constant + tangent.rounding_error + rounding

    def terminal_values(self, last_heads: np.ndarray) -> np.ndarray:
        """Value per image of being answered by each last head, shape (L, I)."""
        penalty = (self.multiplier_per_image * self.problem.head_ms[last_heads])[
            :, None
        ]
        return self.leave_values[last_heads] - penalty.astype(np.float32)

    def after_exit(
        self, clusters: GateClusters, continue_values: np.ndarray, images: np.ndarray
    ) -> np.ndarray:
        """Largest value of each image that reaches an exit, per cluster, (N, n).

        Args:
            continue_values: float32 array of shape (I,), values behind the exit.
            images: int64 array of shape (n,).
        """
        leave = self.leave_values[clusters.head][:, images]
        behind = continue_values[..., images]
        best = np.where(
            clusters.any_leaves[:, images], np.maximum(leave, behind), behind
        )
        best = np.where(clusters.all_leave[:, images], leave, best)
        penalty = (self.multiplier_per_image * clusters.min_pass_ms)[:, None]
        return best - penalty.astype(np.float32)

    def after_cluster(
        self,
        clusters: GateClusters,
        cluster: int,
        continue_values: np.ndarray,
        images: np.ndarray,
    ) -> np.ndarray:
        """As ``after_exit``, for one cluster and many continue values, shape (..., n).

        Args:
            continue_values: float32 array of shape (..., n), for ``images`` only.
        """
        leave = self.leave_values[clusters.head[cluster]][images]
        best = np.where(
            clusters.any_leaves[cluster, images],
            np.maximum(leave, continue_values),
            continue_values,
        )
        best = np.where(clusters.all_leave[cluster, images], leave, best)
        return best - np.float32(
            self.multiplier_per_image * clusters.min_pass_ms[cluster]
        )

    def best_gate_sums(
        self,
        clusters: GateClusters,
        continue_values: np.ndarray,
        selected: np.ndarray,
        reaching: np.ndarray | None = None,
        needed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Maximum over a cluster's gates of the sum over images that any lets leave.

        Images that the gate keeps take ``continue_values``. Passing is paid by all
        images that reach the exit.

        Args:
            continue_values: float32 array of shape (n, I).
            selected: int64 array of cluster indices.
            reaching: bool array of shape (I,), images that surely reach the exit; None
                is all.
            needed: bool array of the result's shape, entries to compute; None is all.

        Returns:
            float32 array of shape (n_selected, n), minus infinity where not needed.
        """
        leave = self.leave_values[clusters.head[selected]]
        all_leave = clusters.all_leave[selected]
        count = continue_values.shape[1]
        if reaching is not None:
            all_leave, count = all_leave & reaching, int(reaching.sum())
        decided = leave.sum(1, where=all_leave, dtype=np.float64)
        penalty = count * self.multiplier_per_image * clusters.pass_ms
        out = np.full((len(selected), len(continue_values)), -np.inf, np.float32)
        transposed = np.ascontiguousarray(continue_values.T)
        for row, cluster in enumerate(selected):
            images = clusters.undecided[cluster]
            masks = clusters.undecided_masks[cluster]
            if reaching is not None:
                reached = reaching[images]
                images, masks = images[reached], masks[:, reached]
            gate_sums = masks @ leave[row, images] + decided[row]
            gate_sums -= penalty[clusters.gate_slice(cluster)]
            columns = _needed_columns(needed, row)
            if columns is not None:
                sums = (1 - masks) @ transposed[images][:, columns]
                sums += gate_sums[:, None].astype(np.float32)
                out[row, columns] = sums.max(0)
        if needed is not None:
            out[~needed] = -np.inf
        return out

    def best_second_gate_sums(
        self,
        clusters: GateClusters,
        reaching: np.ndarray,
        continue_values: np.ndarray,
        selected: np.ndarray,
        needed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Maximum over a cluster's gates of the sum over all images that reach it.

        Images that the gate keeps take ``continue_values``.

        Args:
            reaching: float32 array of shape (N_a, I), 1 where an image surely reaches
                the exit, per cluster of an exit before.
            continue_values: float32 array of shape (I,).
            selected: int64 array of cluster indices.
            needed: bool array of the result's shape, entries to compute; None is all.

        Returns:
            float32 array of shape (N_a, n_selected), minus infinity where not needed.
        """
        gain = self.leave_values[clusters.head[selected]] - continue_values
        decided = reaching @ (gain * clusters.all_leave[selected]).T
        decided += (reaching @ continue_values)[:, None]
        counts = reaching.sum(1)
        penalty = (self.multiplier_per_image * clusters.pass_ms).astype(np.float32)
        out = np.full((len(selected), len(reaching)), -np.inf, np.float32)
        transposed = np.ascontiguousarray(reaching.T)
        needed_rows = None if needed is None else needed.T
        for row, cluster in enumerate(selected):
            columns = _needed_columns(needed_rows, row)
            if columns is not None:
                images = clusters.undecided[cluster]
                gate_penalty = penalty[clusters.gate_slice(cluster)]
                gate_gain = clusters.undecided_masks[cluster] * gain[row, images]
                sums = gate_gain @ transposed[images][:, columns]
                sums -= gate_penalty[:, None] * counts[columns]
                out[row, columns] = sums.max(0)
        if needed_rows is not None:
            out[~needed_rows] = -np.inf
        return decided + out.T

    def leaving_gate_sums(self, clusters: GateClusters, cluster: int) -> np.ndarray:
        """Sum over the images that each gate lets leave, float32, shape (n_gates,).

        All images reach the exit and pay for passing it.
        """
        leave = self.leave_values[clusters.head[cluster]]
        undecided = (
            clusters.undecided_masks[cluster] @ leave[clusters.undecided[cluster]]
        )
        pass_ms = clusters.pass_ms[clusters.gate_slice(cluster)]
        penalty = self.problem.images * self.multiplier_per_image * pass_ms
        decided = leave[clusters.all_leave[cluster]].sum(dtype=np.float64)
        return np.asarray(undecided + decided - penalty, np.float32)


def _needed_columns(needed: np.ndarray | None, row: int) -> slice | np.ndarray | None:
    """Columns of one row of a table to compute; None for none.

    Picking more than half of the columns takes longer than computing all.
    """
    if needed is None:
        return slice(None)
    columns = np.flatnonzero(needed[row])
    if not len(columns):
        return None
    return slice(None) if 2 * len(columns) > needed.shape[1] else columns
