"""Ranges of class sums for pairs of groups of gates, for all pairs at once.

What a configuration's images add up to, per class, is what they would add up to at the
last head plus, for each early exit, the differences of the images that leave there.
Those lie between the images that surely leave and those that may: sums over both sets
are matrix products, and bound the differences from above and below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.groups import ExitGroups
from search.linear import Linear


@dataclass(frozen=True, eq=False)
class Base:
    """Class sums if every image went to the end, and per image the end's extremes.

    Attributes:
        low, high: float32 arrays of shape (I, 2C): least and largest parts over the
            heads that may answer last.
        total_low, total_high: float32 arrays of shape (2C,).
    """

    low: np.ndarray
    high: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray

    @classmethod
    def of(cls, linear: Linear, lasts: np.ndarray) -> Base:
        low, high = linear.parts[lasts].min(0), linear.parts[lasts].max(0)
        return cls(low, high, low.sum(0), high.sum(0))

    def differences(
        self, linear: Linear, head: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What an image's leaving at ``head`` may add at most and must add at least.

        Returns:
            float32 arrays of shape (I, 4C). Of images that may leave: how far up the
            sums may go, and (negative) how far down. Of those that surely leave: the
            (negative) part that surely pulls down, and the one that pushes up.
        """
        up = linear.parts[head] - self.high
        down = linear.parts[head] - self.low
        may = np.concatenate([np.maximum(up, 0), np.minimum(down, 0)], axis=1)
        sure = np.concatenate([np.minimum(up, 0), np.maximum(down, 0)], axis=1)
        return may, sure


@dataclass(frozen=True, eq=False)
class FirstRanges:
    """Class sums' changes by a first exit, shape (N, 4C): upper 2C, lower 2C."""

    change: np.ndarray

    @classmethod
    def of(cls, linear: Linear, base: Base, groups: ExitGroups) -> FirstRanges:
        change = np.empty((len(groups), 2 * base.low.shape[1]), np.float32)
        for head, own in by_head(groups):
            may, sure = base.differences(linear, head)
            high = groups.high[own].astype(np.float32)
            change[own] = high @ may + groups.low[own].astype(np.float32) @ sure
        return cls(change)


@dataclass(frozen=True, eq=False)
class PairRanges:
    """Changes by exit b after exit a has let its images go.

    Attributes:
        may, sure: float32 arrays of shape (N_a, N_b, 4C): of images that may, and that
            surely, leave at b when only a comes before it; their sum bounds the change.
    """

    may: np.ndarray
    sure: np.ndarray

    @classmethod
    def of(
        cls, linear: Linear, base: Base, first: ExitGroups, second: ExitGroups
    ) -> PairRanges:
        width = 2 * base.low.shape[1]
        may = np.empty((len(first), len(second), width), np.float32)
        sure = np.empty_like(may)
        not_low = (~first.low).astype(np.float32)
        not_high = (~first.high).astype(np.float32)
        for head, own in by_head(second):
            here_may, here_sure = base.differences(linear, head)
            may[:, own] = _masked_sums(not_low, second.high[own], here_may)
            sure[:, own] = _masked_sums(not_high, second.low[own], here_sure)
        return cls(may, sure)


def _masked_sums(first: np.ndarray, second: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Sums of parts over the images in both masks, shape (N_a, n_b, F)."""
    joint = second[:, :, None] * parts
    images = joint.shape[1]
    columns = joint.transpose(1, 0, 2).reshape(images, -1)
    return (first @ columns).reshape(len(first), len(second), -1)


def by_head(groups: ExitGroups) -> list[tuple[int, slice]]:
    """Each head with its groups, which are neighbours."""
    heads, start = np.unique(groups.head, return_index=True)
    ends = [*start[1:], len(groups)]
    return [
        (int(h), slice(int(s), int(e)))
        for h, s, e in zip(heads, start, ends, strict=True)
    ]


def row_span(groups: ExitGroups, own: slice) -> slice:
    """Rows of a head's gates among all the exit's gates."""
    stop = own.stop
    end = len(groups.price) if stop == len(groups) else int(groups.start[stop])
    return slice(int(groups.start[own.start]), end)
