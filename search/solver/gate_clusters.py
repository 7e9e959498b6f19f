"""Gates of one exit, all heads together, in groups that let alike images leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.problem import Problem


@dataclass(frozen=True, eq=False)
class ExitGroups:
    """An exit's gates in order of group; a group belongs to one head.

    Attributes:
        exit: 1-based.
        head: int64 array of shape (N,), head of each group.
        part: int64 array of shape (N,), which share of the images its gates let leave,
            counted in fifths (or what ``parts`` says) from 0.
        gates: per group, int64 array of gate indices of that head.
        start: int64 array of shape (N,), place of each group's first gate when all
            groups' gates stand in a row.
        low, high: bool arrays of shape (N, I): all, or any, gate lets the image leave.
        doubt: per group, int64 array of the images that only some of its gates let
            leave, and
        masks: bool array of shape (n_gates, n_doubt), True where a gate does.
        price: float64 array, what passing costs with each of those gates, ms.
        least_price: float64 array of shape (N,), the least of each group.
    """

    exit: int
    head: np.ndarray
    part: np.ndarray
    gates: tuple[np.ndarray, ...]
    start: np.ndarray
    low: np.ndarray
    high: np.ndarray
    doubt: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]
    price: np.ndarray
    least_price: np.ndarray

    def __len__(self) -> int:
        return len(self.gates)

    def place(self, group: int) -> slice:
        """Where a group's gates stand when all groups' gates stand in a row."""
        first = int(self.start[group])
        return slice(first, first + len(self.gates[group]))

    @classmethod
    def at(cls, problem: Problem, exit_index: int, parts: int) -> ExitGroups:
        """Groups each head's gates by the share of images they let leave.

        Args:
            parts: groups per head, at most.
        """
        heads, places, gates = [], [], []
        for head in np.flatnonzero(problem.exit_of == exit_index):
            own = problem.gates[head]
            if not len(own):
                continue
            part = (own.masks.mean(1) * parts).astype(int)
            for value in np.unique(part):
                heads.append(int(head))
                places.append(int(value))
                gates.append(np.flatnonzero(part == value))
        masks = [problem.gates[h].masks[g] for h, g in zip(heads, gates, strict=True)]
        price = [
            problem.head_ms[h] + problem.gates[h].decision_ms[g]
            for h, g in zip(heads, gates, strict=True)
        ]
        empty = np.zeros((0, problem.images), bool)
        low = np.array([m.all(0) for m in masks]) if masks else empty
        high = np.array([m.any(0) for m in masks]) if masks else empty
        doubt = tuple(np.flatnonzero(row) for row in high & ~low)
        return cls(
            exit=exit_index,
            head=np.array(heads, np.int64),
            part=np.array(places, np.int64),
            gates=tuple(gates),
            start=np.cumsum([0, *(len(g) for g in gates)])[:-1],
            low=low,
            high=high,
            doubt=doubt,
            masks=tuple(m[:, images] for m, images in zip(masks, doubt, strict=True)),
            price=np.concatenate(price) if price else np.zeros(0),
            least_price=np.array([p.min() for p in price]),
        )
