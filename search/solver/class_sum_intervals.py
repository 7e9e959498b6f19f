"""Intervals of class sums where each image takes one of its possible heads.

The tables of ``search.solver.pair_intervals`` add up what each exit may change, so an
image that is undecided at two exits is counted with both. Here an image's class terms
lie between the least and the largest over the heads that may answer it. That takes a
pass over the images for each tuple of clusters, so it is done only for tuples that the
tables do not prune.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import GateClusters
from search.solver.miou_tangent import MiouTangent
from search.solver.pair_intervals import LastHeadSums, SumInterval


@dataclass(frozen=True, eq=False)
class PrefixSums:
    """Class terms of the images behind some exits, one cluster of each.

    Attributes:
        continuing: int64 array of shape (n,), images that may continue.
        low, high: float32 arrays of shape (n, 2C), least and largest class terms over
            the heads that may have answered them; infinite where none may.
        left_low, left_high: float32 arrays of shape (2C,), sums over the other images.
    """

    continuing: np.ndarray
    low: np.ndarray
    high: np.ndarray
    left_low: np.ndarray
    left_high: np.ndarray

    @classmethod
    def empty(cls, images: int, width: int) -> PrefixSums:
        """Before the first exit; ``width`` is 2C."""
        none = np.full((images, width), np.inf, np.float32)
        zero = np.zeros(width, np.float32)
        return cls(np.arange(images), none, -none, zero, zero)

    def extended(
        self, tangent: MiouTangent, clusters: GateClusters, cluster: int
    ) -> PrefixSums:
        """Behind one more exit, with a cluster of it."""
        terms = tangent.class_terms[clusters.head[cluster]][self.continuing]
        may_leave = clusters.any_leaves[cluster, self.continuing][:, None]
        low = np.where(may_leave, np.minimum(self.low, terms), self.low)
        high = np.where(may_leave, np.maximum(self.high, terms), self.high)
        left = clusters.all_leave[cluster, self.continuing]
        return PrefixSums(
            self.continuing[~left],
            low[~left],
            high[~left],
            self.left_low + low[left].sum(0),
            self.left_high + high[left].sum(0),
        )

    def with_last_heads(self, last: LastHeadSums) -> SumInterval:
        """Least and largest class terms of the continuing images, (n, 2C) each."""
        low, high = last.low[self.continuing], last.high[self.continuing]
        return np.minimum(self.low, low), np.maximum(self.high, high)

    def completed(
        self,
        tangent: MiouTangent,
        with_last: SumInterval,
        clusters: GateClusters,
        selected: np.ndarray,
    ) -> SumInterval:
        """Class sums with each of some clusters of one head, and then a last head.

        Args:
            with_last: result of ``with_last_heads``.
            selected: int64 array of shape (k,), clusters of one head.

        Returns:
            shape (k, 2C) each.
        """
        terms = tangent.class_terms[clusters.head[selected[0]]][self.continuing]
        index = np.ix_(selected, self.continuing)
        leaves = clusters.all_leave[index].astype(np.float32)
        stays = 1 - clusters.any_leaves[index].astype(np.float32)
        undecided = 1 - leaves - stays
        sums = []
        for pick, before, behind, left in (
            (np.minimum, self.low, with_last[0], self.left_low),
            (np.maximum, self.high, with_last[1], self.left_high),
        ):
            here = pick(before, terms)
            either = pick(here, behind)
            sums.append(leaves @ here + stays @ behind + undecided @ either + left)
        return sums[0], sums[1]


def image_wise_intervals(
    tangent: MiouTangent,
    last: LastHeadSums,
    clusters: Sequence[GateClusters],
    rows: np.ndarray,
) -> SumInterval:
    """Intervals of the class sums of tuples of clusters.

    Args:
        clusters: of each early exit of the chain, in order of depth.
        rows: int64 array of shape (n, n_exits), a cluster of each exit.

    Returns:
        shape (n, 2C) each.
    """
    width = last.low.shape[1]
    low, high = (np.empty((len(rows), width), np.float32) for _ in range(2))
    if not len(rows):
        return low, high
    heads = clusters[-1].head[rows[:, -1]]
    # Tuples with equal first clusters are neighbours in this order, so that only the
    # exits that differ from the tuple before are computed.
    stack: list[tuple[int, PrefixSums]] = []
    start = PrefixSums.empty(len(last.low), width)
    with_last = start.with_last_heads(last)
    order = np.lexsort((heads, *rows[:, -2::-1].T))
    keys = np.column_stack([rows[order, :-1], heads[order]])
    first = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    for same in np.split(order, first[1:]):
        prefix_clusters = rows[same[0], :-1]
        shared = 0
        while shared < len(stack) and stack[shared][0] == prefix_clusters[shared]:
            shared += 1
        del stack[shared:]
        for position in range(shared, len(prefix_clusters)):
            before = stack[-1][1] if stack else start
            cluster = int(prefix_clusters[position])
            extended = before.extended(tangent, clusters[position], cluster)
            stack.append((cluster, extended))
        prefix = stack[-1][1] if stack else start
        if shared < len(prefix_clusters):
            with_last = prefix.with_last_heads(last)
        low[same], high[same] = prefix.completed(
            tangent, with_last, clusters[-1], rows[same, -1]
        )
    return low, high
