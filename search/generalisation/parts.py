"""The same statistics with their images dealt out to other parts."""

from __future__ import annotations

import dataclasses

import numpy as np

from mess_tf.core.statistics import Statistics


def with_parts(statistics: Statistics, parts: tuple[str, ...]) -> Statistics:
    """``statistics`` with these parts, one per image (``calibration``, ``report``)."""
    return dataclasses.replace(statistics, parts=parts)


def leave_group_out(statistics: Statistics, group: str) -> Statistics:
    """Calibration images of one group are reported on; the others stay, no others."""
    return with_parts(
        statistics,
        tuple(
            "left out" if part != "calibration" else "report" if g == group else part
            for part, g in zip(statistics.parts, statistics.groups, strict=True)
        ),
    )


def calibration_groups(statistics: Statistics) -> list[str]:
    """Names of the groups that calibration images come from, sorted."""
    pairs = zip(statistics.parts, statistics.groups, strict=True)
    return sorted({group for part, group in pairs if part == "calibration"})


def split_groups_in_half(
    statistics: Statistics, seed: int
) -> tuple[Statistics, np.ndarray]:
    """Deals half of the calibration's groups out for testing.

    Returns:
        the statistics with only the other half as calibration, and the indices of the
        images to test on.
    """
    names = calibration_groups(statistics)
    order = np.random.default_rng(seed).permutation(len(names))
    testing = {names[i] for i in order[: len(names) // 2]}
    at = [
        part == "calibration" and group in testing
        for part, group in zip(statistics.parts, statistics.groups, strict=True)
    ]
    parts = tuple(
        "testing" if test else part
        for test, part in zip(at, statistics.parts, strict=True)
    )
    return with_parts(statistics, parts), np.flatnonzero(at)
