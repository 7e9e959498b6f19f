"""Ranges of class sums: against every way the images may go."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.solver.class_sum_intervals import sums_of
from search.solver.gate_clusters import ExitGroups
from search.solver.miou_tangent import Linear
from search.solver.pair_intervals import Base
from tests.search.test_search_screening import draw_problem


@pytest.mark.parametrize("early", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_ranges_hold_every_configuration_and_are_reached_image_by_image(seed, early):
    rng = np.random.default_rng(seed)
    problem = draw_problem(200 + seed, (2, 2, 2, 2), 20)
    linear = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    exits = np.unique(problem.exit_of)[:early]
    groups = [ExitGroups.at(problem, int(e), int(rng.integers(1, 5))) for e in exits]
    lasts = np.flatnonzero(problem.exit_of > exits[-1])
    rows = np.array(list(itertools.product(*(range(len(g)) for g in groups))))
    rows = rng.permutation(rows)[:40]
    low, high = sums_of(linear, Base.of(linear, lasts), groups, rows)
    for row, least, most in zip(rows, low, high, strict=True):
        wanted = _extremes(linear, groups, row, lasts)
        assert least == pytest.approx(wanted[0], abs=1e-4)
        assert most == pytest.approx(wanted[1], abs=1e-4)


def _extremes(
    linear: Linear, groups: list[ExitGroups], row: np.ndarray, lasts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Per image the least and the largest part it may get, summed."""
    low = high = np.zeros(())
    for image in range(linear.parts.shape[1]):
        may = []
        for own, group in zip(groups, row, strict=True):
            if own.high[group, image]:
                may.append(own.head[group])
            if own.low[group, image]:
                break
        else:
            may.extend(lasts)
        parts = linear.parts[may, image]
        low, high = low + parts.min(0), high + parts.max(0)
    return low, high


def test_no_groups_have_no_sums():
    problem = draw_problem(1, (2, 2, 1), 20)
    linear = Linear.at(problem, np.zeros(problem.images, np.int64))
    groups = [ExitGroups.at(problem, e, 2) for e in (1, 2)]
    base = Base.of(linear, np.array([4]))
    low, high = sums_of(linear, base, groups, np.zeros((0, 2), np.int64))
    assert low.shape == high.shape == (0, linear.parts.shape[2])
