"""Nodes of the branch and bound, and which images leave at which exit in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.problem import Problem
from search.solver.miou_tangent import MiouTangent


@dataclass(frozen=True, eq=False)
class Node:
    """A set of configurations: a chain of early heads, their gates, and last heads.

    Attributes:
        heads: early heads, in order of depth.
        gates: per early head, int64 array of the gate indices that are left.
        last_heads: int64 array of heads of which one answers last, deeper than the
            early ones.
        bound: lower bound of the objective (ms, or minus the mIoU) over the set.
        tangent: surrogate of the mIoU that bounds it.
    """

    heads: tuple[int, ...]
    gates: tuple[np.ndarray, ...]
    last_heads: np.ndarray
    bound: float
    tangent: MiouTangent

    @property
    def size(self) -> int:
        """Number of configurations."""
        size = len(self.last_heads)
        for gates in self.gates:
            size *= len(gates)
        return size

    def branch(self, problem: Problem) -> list[Node]:
        """Two halves, by the longest list of gates or last heads.

        Gates are halved by the number of images that leave: masks with similar numbers
        differ on fewer images, so that the halves' bounds are tighter.
        """
        sizes = [*(len(gates) for gates in self.gates), len(self.last_heads)]
        position = int(np.argmax(sizes))
        if position == len(self.gates):
            half = len(self.last_heads) // 2
            return [
                replace(self, last_heads=heads)
                for heads in (self.last_heads[:half], self.last_heads[half:])
            ]
        gates = self.gates[position]
        leaving = problem.gates[self.heads[position]].masks[gates].sum(1)
        order = gates[np.argsort(leaving, kind="stable")]
        half = len(order) // 2
        before, after = self.gates[:position], self.gates[position + 1 :]
        return [
            replace(self, gates=(*before, part, *after))
            for part in (order[:half], order[half:])
        ]


@dataclass(frozen=True, eq=False)
class ExitImageSets:
    """Images that may, and that surely do, reach and leave each exit of B nodes.

    The nodes have the same number of early heads. Lists of gates are padded to the
    longest, G.

    Attributes:
        masks: per early head, bool array of shape (B, G, I), images that leave by gate.
        is_gate: per early head, bool array of shape (B, G), False where padded.
        pass_ms: per early head, cost of passing it by gate, shape (B, G).
        all_leave, any_leaves: bool arrays of shape (n_early, B, I): all gates, or any
            gate, let the image leave.
        surely_reach, may_reach: bool arrays of shape (n_early + 1, B, I), images that
            surely, or possibly, reach an exit; the last row is for the last head.
    """

    masks: list[np.ndarray]
    is_gate: list[np.ndarray]
    pass_ms: list[np.ndarray]
    all_leave: np.ndarray
    any_leaves: np.ndarray
    surely_reach: np.ndarray
    may_reach: np.ndarray

    @classmethod
    def of(cls, problem: Problem, nodes: Sequence[Node]) -> ExitImageSets:
        """Sets of nodes with the same number of early heads, at least one node."""
        early, images = len(nodes[0].heads), problem.images
        masks, is_gate, pass_ms = [], [], []
        all_leave, any_leaves = (
            np.zeros((early, len(nodes), images), bool) for _ in range(2)
        )
        surely_reach, may_reach = (
            np.ones((early + 1, len(nodes), images), bool) for _ in range(2)
        )
        for position in range(early):
            counts = np.array([len(node.gates[position]) for node in nodes])
            known = np.arange(counts.max()) < counts[:, None]
            mask = np.zeros((*known.shape, images), bool)
            cost_ms = np.zeros(known.shape)
            for row, node in enumerate(nodes):
                head, gates = node.heads[position], node.gates[position]
                head_gates = problem.gates[head]
                np.take(head_gates.masks, gates, axis=0, out=mask[row, : len(gates)])
                cost_ms[row, : len(gates)] = head_gates.decision_ms[gates]
                cost_ms[row] += problem.head_ms[head]
            all_leave[position] = (mask | ~known[:, :, None]).all(1)
            any_leaves[position] = mask.any(1)
            surely_reach[position + 1] = surely_reach[position] & ~any_leaves[position]
            may_reach[position + 1] = may_reach[position] & ~all_leave[position]
            masks.append(mask)
            is_gate.append(known)
            pass_ms.append(cost_ms)
        return cls(
            masks, is_gate, pass_ms, all_leave, any_leaves, surely_reach, may_reach
        )

    def min_pass_ms(self, position: int) -> np.ndarray:
        """Least cost of passing an early head, shape (B,)."""
        is_gate = self.is_gate[position]
        return np.asarray(self.pass_ms[position].min(1, where=is_gate, initial=np.inf))
