"""The same statistics with their images dealt out to other parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from mess_tf.core.statistics import Statistics

FOLDS = 10
"""Folds of a cross-validation at most."""


def with_parts(statistics: Statistics, parts: tuple[str, ...]) -> Statistics:
    """``statistics`` with these parts, one per image (``calibration``, ``report``)."""
    return dataclasses.replace(statistics, parts=parts)


def leave_groups_out(statistics: Statistics, groups: Collection[str]) -> Statistics:
    """Calibration images of these groups are reported on; the other ones stay."""
    return with_parts(
        statistics,
        tuple(
            "left out" if part != "calibration" else "report" if g in groups else part
            for part, g in zip(statistics.parts, statistics.groups, strict=True)
        ),
    )


def calibration_groups(statistics: Statistics) -> list[str]:
    """Names of the groups that calibration images come from, sorted."""
    pairs = zip(statistics.parts, statistics.groups, strict=True)
    return sorted({group for part, group in pairs if part == "calibration"})


def folds(statistics: Statistics, seed: int) -> list[set[str]]:
    """The calibration's groups, dealt out for cross-validation.

    Returns:
        one group each, of up to ``FOLDS`` groups; of more as many folds, alike in size.
    """
    names = calibration_groups(statistics)
    if len(names) <= FOLDS:
        return [{name} for name in names]
    order = np.random.default_rng(seed).permutation(len(names))
    return [{names[i] for i in order[fold::FOLDS]} for fold in range(FOLDS)]


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
