"""Intervals of class sums for pairs of gate clusters, for all pairs at once.

The class sums of a configuration are those of the last head alone plus, for each early
exit, the differences of the images that leave there. Summed over the images that may
leave, the differences of one sign bound the change from one side; the images that
surely leave contribute theirs in any case. Both are matrix products.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.solver.gate_clusters import GateClusters
from search.solver.miou_tangent import MiouTangent

SumInterval = tuple[np.ndarray, np.ndarray]
"""Least and largest sums of ``MiouTangent.class_terms``, shape (..., 2C) each."""


@dataclass(frozen=True, eq=False)
class LastHeadSums:
    """Class sums if every image came to the end, over the possible last heads.

    Attributes:
        low, high: float32 arrays of shape (I, 2C): least and largest class terms of
            each image over the heads that may answer last.
        total_low, total_high: float32 arrays of shape (2C,), their sums.
    """

    low: np.ndarray
    high: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray

    @classmethod
    def of(cls, tangent: MiouTangent, last_heads: np.ndarray) -> LastHeadSums:
        """For heads that may answer last, int64 array."""
        terms = tangent.class_terms[last_heads]
        low, high = terms.min(0), terms.max(0)
        return cls(low, high, low.sum(0), high.sum(0))

    def differences(self, tangent: MiouTangent, head: int) -> SumInterval:
        """Changes of the class sums when an image leaves at ``head`` instead.

        Returns:
            float32 arrays of shape (I, 4C), raising of the upper ends in the first 2C
            columns and (negative) lowering of the lower ends in the last. The first is
            for images that may leave: by how far they may widen the interval. The
            second is for images that surely leave: by how far they surely narrow it.
        """
        up = tangent.class_terms[head] - self.high
        down = tangent.class_terms[head] - self.low
        widening = np.concatenate([np.maximum(up, 0), np.minimum(down, 0)], axis=1)
        narrowing = np.concatenate([np.minimum(up, 0), np.maximum(down, 0)], axis=1)
        return widening, narrowing

    def shifted(self, change: np.ndarray) -> SumInterval:
        """Class sums with a change of shape (..., 4C) as in ``differences``."""
        width = self.low.shape[1]
        return (
            self.total_low + change[..., width:],
            self.total_high + change[..., :width],
        )


def _first_exit_changes(
    tangent: MiouTangent, last: LastHeadSums, clusters: GateClusters
) -> np.ndarray:
    """Changes of the class sums by each cluster of a first exit, shape (N, 4C)."""
    change = np.empty((len(clusters), 2 * last.low.shape[1]), np.float32)
    for head, same in clusters.by_head():
        widening, narrowing = last.differences(tangent, head)
        any_leaves = clusters.any_leaves[same].astype(np.float32)
        all_leave = clusters.all_leave[same].astype(np.float32)
        change[same] = any_leaves @ widening + all_leave @ narrowing
    return change


@dataclass(frozen=True, eq=False)
class PairChanges:
    """Changes of the class sums by exit b, behind exit a.

    Attributes:
        widening, narrowing: float32 arrays of shape (N_a, N_b, 4C): of images that may,
            and that surely, leave at b when only a is before it; their sum bounds the
            change.
    """

    widening: np.ndarray
    narrowing: np.ndarray

    @classmethod
    def of(
        cls,
        tangent: MiouTangent,
        last: LastHeadSums,
        first: GateClusters,
        second: GateClusters,
    ) -> PairChanges:
        """For all pairs of clusters of two exits."""
        shape = len(first), len(second), 2 * last.low.shape[1]
        widening = np.empty(shape, np.float32)
        narrowing = np.empty_like(widening)
        may_continue = (~first.all_leave).astype(np.float32)
        continues = (~first.any_leaves).astype(np.float32)
        for head, same in second.by_head():
            here_widening, here_narrowing = last.differences(tangent, head)
            widening[:, same] = _sums_over_both(
                may_continue, second.any_leaves[same], here_widening
            )
            narrowing[:, same] = _sums_over_both(
                continues, second.all_leave[same], here_narrowing
            )
        return cls(widening, narrowing)


def _sums_over_both(
    first: np.ndarray, second: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Sums of values over the images in both masks, shape (N_a, n_b, F)."""
    masked = second[:, :, None] * values
    images = masked.shape[1]
    columns = masked.transpose(1, 0, 2).reshape(images, -1)
    return (first @ columns).reshape(len(first), len(second), -1)


class ClassSumIntervals:
    """Intervals of class sums for clusters of one, two and three exits, with caches.

    Of all methods, ``last_heads`` are the heads that may answer last, int64 array.
    """

    def __init__(
        self,
        tangent: MiouTangent,
        images: int,
        clusters: Callable[[int], GateClusters],
        cached_pair_tables: int,
    ) -> None:
        """Empty caches.

        Args:
            clusters: returns the clusters of an exit index.
            cached_pair_tables: tables of pairs of exits held at once.
        """
        self.tangent = tangent
        self.images = images
        self.clusters = clusters
        self._cached_pair_tables = cached_pair_tables
        self._last: dict[bytes, LastHeadSums] = {}
        self._firsts: dict[tuple[bytes, int], np.ndarray] = {}
        self._pairs: dict[tuple[bytes, int, int], PairChanges] = {}
        self._lock = threading.Lock()
        self._extremes: dict[tuple[bytes, int, int], np.ndarray] = {}

    def single_exit(self, first: int, last_heads: np.ndarray) -> SumInterval:
        """Per cluster of one exit, shape (N, 2C)."""
        return self.last_head_sums(last_heads).shifted(self._first(last_heads, first))

    def pairs(
        self,
        rows: np.ndarray,
        first: int,
        second: int,
        last_heads: np.ndarray,
        columns: np.ndarray | None = None,
    ) -> SumInterval:
        """Some clusters of the first exit with all of the second, shape (n, N, 2C).

        With ``columns`` each is paired with one cluster of the second, shape (n, 2C).
        """
        pair = self._pair(last_heads, first, second)
        change = self._first(last_heads, first)[rows]
        if columns is None:
            change = change[:, None] + pair.widening[rows] + pair.narrowing[rows]
        else:
            change = (
                change + pair.widening[rows, columns] + pair.narrowing[rows, columns]
            )
        return self.last_head_sums(last_heads).shifted(change)

    def triples(
        self,
        row: int,
        rows: np.ndarray,
        columns: np.ndarray,
        exits: tuple[int, int, int],
        last_heads: np.ndarray,
    ) -> SumInterval:
        """One cluster of the first exit with pairs of the others, shape (n, 2C)."""
        last = self.last_head_sums(last_heads)
        width = last.low.shape[1]
        a_b = self._pair(last_heads, exits[0], exits[1])
        b_c = self._pair(last_heads, exits[1], exits[2])
        a_c = self._pair(last_heads, exits[0], exits[2]).widening[row][columns]
        change = (
            self._first(last_heads, exits[0])[row]
            + a_b.widening[row]
            + a_b.narrowing[row]
        )
        # An image that may leave third may continue at the first and at the second.
        widening = b_c.widening[rows, columns]
        np.minimum(widening[:, :width], a_c[:, :width], out=widening[:, :width])
        np.maximum(widening[:, width:], a_c[:, width:], out=widening[:, width:])
        narrowing = (
            b_c.narrowing[rows, columns]
            - self._left_before_third(row, exits, last_heads)[rows]
        )
        np.minimum(narrowing[:, :width], 0, out=narrowing[:, :width])
        np.maximum(narrowing[:, width:], 0, out=narrowing[:, width:])
        return last.shifted(change[rows] + widening + narrowing)

    def any_third(
        self, row: int, exits: tuple[int, int, int], last_heads: np.ndarray
    ) -> SumInterval:
        """One cluster of the first exit, each of the second, any of a share bucket.

        Returns:
            shape (N, n_buckets, 2C) each, buckets of the third exit's clusters.
        """
        key = last_heads.tobytes(), exits[1], exits[2]
        bucket = self.clusters(exits[2]).share_bucket
        if key not in self._extremes:
            self._extremes[key] = _widest_per_bucket(
                self._pair(last_heads, exits[1], exits[2]).widening, bucket
            )
        pair = self._pair(last_heads, exits[0], exits[1])
        change = self._first(last_heads, exits[0])[row]
        change = change + pair.widening[row] + pair.narrowing[row]
        # An image that may leave third may continue at the first and at the second.
        a_c = _widest_per_bucket(
            self._pair(last_heads, exits[0], exits[2]).widening[row][None], bucket
        )
        third, width = self._extremes[key].copy(), a_c.shape[2] // 2
        np.minimum(third[..., :width], a_c[..., :width], out=third[..., :width])
        np.maximum(third[..., width:], a_c[..., width:], out=third[..., width:])
        return self.last_head_sums(last_heads).shifted(change[:, None] + third)

    def _left_before_third(
        self, row: int, exits: tuple[int, int, int], last_heads: np.ndarray
    ) -> np.ndarray:
        """Narrowing by the third exit that images leaving at the first may undo.

        The sums over images that surely leave behind the second exit alone include
        those that the first lets leave and the second does not; any head of the third
        may be theirs. Shape (N_b, 4C).
        """
        first, second = self.clusters(exits[0]), self.clusters(exits[1])
        key = last_heads.tobytes(), exits[2], 0
        if key not in self._extremes:
            last = self.last_head_sums(last_heads)
            width = last.low.shape[1]
            most = np.zeros((self.images, 2 * width), np.float32)
            for head, _ in self.clusters(exits[2]).by_head():
                _, narrowing = last.differences(self.tangent, head)
                np.minimum(most[:, :width], narrowing[:, :width], out=most[:, :width])
                np.maximum(most[:, width:], narrowing[:, width:], out=most[:, width:])
            self._extremes[key] = most
        may_be_gone = (first.any_leaves[row] & ~second.any_leaves).astype(np.float32)
        return np.asarray(may_be_gone @ self._extremes[key])

    def last_head_sums(self, last_heads: np.ndarray) -> LastHeadSums:
        """Class sums of the heads that may answer last, cached."""
        key = last_heads.tobytes()
        if key not in self._last:
            self._last[key] = LastHeadSums.of(self.tangent, last_heads)
        return self._last[key]

    def _first(self, last_heads: np.ndarray, first: int) -> np.ndarray:
        key = last_heads.tobytes(), first
        if key not in self._firsts:
            self._firsts[key] = _first_exit_changes(
                self.tangent, self.last_head_sums(last_heads), self.clusters(first)
            )
        return self._firsts[key]

    def _pair(self, last_heads: np.ndarray, first: int, second: int) -> PairChanges:
        key = last_heads.tobytes(), first, second
        with self._lock:
            if key not in self._pairs:
                while len(self._pairs) >= self._cached_pair_tables:
                    del self._pairs[next(iter(self._pairs))]
                self._pairs[key] = PairChanges.of(
                    self.tangent,
                    self.last_head_sums(last_heads),
                    self.clusters(first),
                    self.clusters(second),
                )
            return self._pairs[key]


def _widest_per_bucket(widening: np.ndarray, bucket: np.ndarray) -> np.ndarray:
    """Largest change by any cluster of a share bucket, (N, N_c, 4C) to (N, P, 4C)."""
    width = widening.shape[2] // 2
    out = np.empty((len(widening), bucket.max(initial=-1) + 1, 2 * width), np.float32)
    for value in range(out.shape[1]):
        same = widening[:, bucket == value]
        out[:, value, :width] = same[:, :, :width].max(1, initial=0.0)
        out[:, value, width:] = same[:, :, width:].min(1, initial=0.0)
    return out
