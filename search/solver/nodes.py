"""Sets of configurations that are bounded, split and listed; where images may leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.problem import Problem
from search.solver.miou_tangent import Linear


@dataclass(frozen=True, eq=False)
class Node:
    """A chain of heads, the gates still possible at each, and the heads that may end.

    Attributes:
        heads: early heads, in order of depth.
        gates: per early head, int64 array of gate indices.
        lasts: int64 array: heads of which one answers last, deeper than the others.
        bound: no configuration in here has a lower value (ms, or minus the mIoU).
        linear: the stand-in for the mIoU that bounds it.
    """

    heads: tuple[int, ...]
    gates: tuple[np.ndarray, ...]
    lasts: np.ndarray
    bound: float
    linear: Linear

    @property
    def size(self) -> int:
        """Number of configurations in here."""
        size = len(self.lasts)
        for gates in self.gates:
            size *= len(gates)
        return size


@dataclass(frozen=True, eq=False)
class Places:
    """Which images may leave where, in B nodes with as many early heads.

    Lists of gates are as long as the longest, G; what a node lacks is in ``there``.

    Attributes:
        masks: per early head, bool array of shape (B, G, I).
        there: per early head, bool array of shape (B, G).
        prices: per early head, what passing it costs per gate, ms, shape (B, G).
        low, high: bool arrays of shape (n_early, B, I): all, or any, let the image
            leave.
        sure, may: bool arrays of shape (n_early + 1, B, I): the image gets here.
    """

    masks: list[np.ndarray]
    there: list[np.ndarray]
    prices: list[np.ndarray]
    low: np.ndarray
    high: np.ndarray
    sure: np.ndarray
    may: np.ndarray

    @classmethod
    def of(cls, problem: Problem, nodes: Sequence[Node]) -> Places:
        early, images = len(nodes[0].heads), problem.images
        masks, there, prices = [], [], []
        low, high = (np.zeros((early, len(nodes), images), bool) for _ in range(2))
        sure, may = (np.ones((early + 1, len(nodes), images), bool) for _ in range(2))
        for place in range(early):
            counts = np.array([len(node.gates[place]) for node in nodes])
            known = np.arange(counts.max()) < counts[:, None]
            mask = np.zeros((*known.shape, images), bool)
            price = np.zeros(known.shape)
            for row, node in enumerate(nodes):
                head, gates = node.heads[place], node.gates[place]
                own = problem.gates[head]
                np.take(own.masks, gates, axis=0, out=mask[row, : len(gates)])
                price[row, : len(gates)] = own.decision_ms[gates]
                price[row] += problem.head_ms[head]
            low[place] = (mask | ~known[:, :, None]).all(1)
            high[place] = mask.any(1)
            sure[place + 1] = sure[place] & ~high[place]
            may[place + 1] = may[place] & ~low[place]
            masks.append(mask)
            there.append(known)
            prices.append(price)
        return cls(masks, there, prices, low, high, sure, may)

    def least_price(self, place: int) -> np.ndarray:
        """Of passing an early head, ms, shape (B,)."""
        there = self.there[place]
        return np.asarray(self.prices[place].min(1, where=there, initial=np.inf))
