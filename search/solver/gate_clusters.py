"""Clusters of one exit's gates that let similar sets of images leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.problem import Problem


@dataclass(frozen=True, eq=False)
class GateClusters:
    """Clusters of one exit's gates; all gates of a cluster belong to one head.

    Attributes:
        exit_index: 1-based.
        head: int64 array of shape (N,), head of each cluster.
        share_bucket: int64 array of shape (N,), interval of the share of images that
            its gates let leave, from 0 (of ``clusters_per_head`` equal ones).
        gates: per cluster, int64 array of gate indices of that head.
        start: int64 array of shape (N,), offset of each cluster's first gate in the
            concatenation of all clusters' gates.
        all_leave, any_leaves: bool arrays of shape (N, I): all gates, or any gate, let
            the image leave.
        undecided: per cluster, int64 array of the images that some but not all of its
            gates let leave, and
        undecided_masks: bool array of shape (n_gates, n_undecided), True where the
            gate does.
        pass_ms: float64 array, cost of passing the exit with each of the concatenated
            gates (head and decision).
        min_pass_ms: float64 array of shape (N,), minimum over each cluster.
    """

    exit_index: int
    head: np.ndarray
    share_bucket: np.ndarray
    gates: tuple[np.ndarray, ...]
    start: np.ndarray
    all_leave: np.ndarray
    any_leaves: np.ndarray
    undecided: tuple[np.ndarray, ...]
    undecided_masks: tuple[np.ndarray, ...]
    pass_ms: np.ndarray
    min_pass_ms: np.ndarray

    def __len__(self) -> int:
        return len(self.gates)

    def gate_slice(self, cluster: int) -> slice:
        """Range of a cluster's gates in the concatenation of all clusters' gates."""
        first = int(self.start[cluster])
        return slice(first, first + len(self.gates[cluster]))

    def by_head(self) -> list[tuple[int, slice]]:
        """Each head with the range of its clusters."""
        heads, start = np.unique(self.head, return_index=True)
        stop = [*start[1:], len(self)]
        return [
            (int(head), slice(int(first), int(end)))
            for head, first, end in zip(heads, start, stop, strict=True)
        ]

    @classmethod
    def build(
        cls, problem: Problem, exit_index: int, clusters_per_head: int
    ) -> GateClusters:
        """Clusters of each head's gates by the share of images that leave."""
        heads, buckets, gates = [], [], []
        for head in np.flatnonzero(problem.exit_of == exit_index):
            head_gates = problem.gates[head]
            if not len(head_gates):
                continue
            bucket = (head_gates.masks.mean(1) * clusters_per_head).astype(int)
            for value in np.unique(bucket):
                heads.append(int(head))
                buckets.append(int(value))
                gates.append(np.flatnonzero(bucket == value))
        masks = [problem.gates[h].masks[g] for h, g in zip(heads, gates, strict=True)]
        pass_ms = [
            problem.head_ms[h] + problem.gates[h].decision_ms[g]
            for h, g in zip(heads, gates, strict=True)
        ]
        empty = np.zeros((0, problem.images), bool)
        all_leave = np.array([m.all(0) for m in masks]) if masks else empty
        any_leaves = np.array([m.any(0) for m in masks]) if masks else empty
        undecided = tuple(np.flatnonzero(row) for row in any_leaves & ~all_leave)
        return cls(
            exit_index=exit_index,
            head=np.array(heads, np.int64),
            share_bucket=np.array(buckets, np.int64),
            gates=tuple(gates),
            start=np.cumsum([0, *(len(g) for g in gates)])[:-1],
            all_leave=all_leave,
            any_leaves=any_leaves,
            undecided=undecided,
            undecided_masks=tuple(
                mask[:, images] for mask, images in zip(masks, undecided, strict=True)
            ),
            pass_ms=np.concatenate(pass_ms) if pass_ms else np.zeros(0),
            min_pass_ms=np.array([ms.min() for ms in pass_ms]),
        )
