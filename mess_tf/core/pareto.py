"""The Pareto filter: what no other point beats or equals in both figures."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_indices(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that are not dominated, in order of rising cost.

    A point is dominated by one that costs no more and is worth no less; of points equal
    in both, the first stays.

    Args:
        costs: smaller is better, e.g. milliseconds.
        values: larger is better, e.g. mIoU; as many as ``costs``.
    """
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not front or values[index] > values[front[-1]]:
            front.append(index)
    return front
