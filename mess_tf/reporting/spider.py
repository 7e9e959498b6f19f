"""Where the points of a spider chart lie: one spoke per class, the IoU as radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

MOST_SPOKES = 24
"""More names than that cannot be read around a circle."""


def spokes(curves: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[int]:
    """Classes that have a spoke: those that occur, in their order, at most 24.

    Of more, those between whose curves the difference is largest: there is most to see.

    Args:
        curves: float64 arrays of shape (C,) by name, NaN where a class does not occur.
        classes: names of the C classes.
    """
    table = np.stack(list(curves.values()))
    there = [c for c in range(len(classes)) if np.isfinite(table[:, c]).any()]
    if len(there) <= MOST_SPOKES:
        return there
    spread = np.nanmax(table[:, there], axis=0) - np.nanmin(table[:, there], axis=0)
    largest = np.argsort(-spread, kind="stable")[:MOST_SPOKES]
    return sorted(there[i] for i in largest.tolist())


def angles(count: int) -> np.ndarray:
    """float64 array of shape (count,): radians from the top, clockwise."""
    return 2 * np.pi * np.arange(count) / max(count, 1)
