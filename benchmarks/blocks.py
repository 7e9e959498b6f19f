"""Video sequences cut into shorter ones, where a data set has too few of them."""

from __future__ import annotations

import numpy as np


def blocks(
    groups: tuple[str, ...], images: tuple[str, ...], size: int
) -> tuple[str, ...]:
    """Groups with every longer one cut into contiguous blocks of about ``size``.

    Neighbours on both sides of a cut stay alike: blocks are easier to be left out than
    sequences are.

    Args:
        groups: of every image.
        images: names, in each group's order of time when sorted.
        size: images of a block.
    """
    result = list(groups)
    for group in set(groups):
        members = sorted(
            (i for i, own in enumerate(groups) if own == group), key=images.__getitem__
        )
        count = max(1, round(len(members) / size))
        for number, part in enumerate(np.array_split(members, count)):
            for image in part:
                result[image] = f"{group}_{number}"
    return tuple(result)
