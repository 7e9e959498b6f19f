"""Intervals of class sums, against every head that may answer each image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.solver.class_sum_intervals import image_wise_intervals
from search.solver.gate_clusters import GateClusters
from search.solver.miou_tangent import MiouTangent
from search.solver.pair_intervals import LastHeadSums
from tests.support.search_problems import draw_problem


@pytest.mark.parametrize("early", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_image_wise_intervals_are_the_extremes_of_each_image(
    seed: int, early: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = draw_problem(200 + seed, (2, 2, 2, 2), 20)
    tangent = MiouTangent.tangent_at(
        problem, rng.integers(0, len(problem.heads), problem.images)
    )
    exits = np.unique(problem.exit_of)[:early]
    clusters = [
        GateClusters.build(problem, int(e), int(rng.integers(1, 5))) for e in exits
    ]
    last_heads = np.flatnonzero(problem.exit_of > exits[-1])
    rows = np.array(list(itertools.product(*(range(len(c)) for c in clusters))))
    rows = rng.permutation(rows)[:40]
    last = LastHeadSums.of(tangent, last_heads)
    low, high = image_wise_intervals(tangent, last, clusters, rows)
    for row, least, most in zip(rows, low, high, strict=True):
        expected = _extremes(tangent, clusters, row, last_heads)
        assert least == pytest.approx(expected[0], abs=1e-4)
        assert most == pytest.approx(expected[1], abs=1e-4)


def _extremes(
    tangent: MiouTangent,
    clusters: list[GateClusters],
    row: np.ndarray,
    last_heads: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the least and the largest class terms that each image may have."""
    low = high = np.zeros(())
    for image in range(tangent.class_terms.shape[1]):
        heads: list[int] = []
        for own, cluster in zip(clusters, row, strict=True):
            if own.any_leaves[cluster, image]:
                heads.append(int(own.head[cluster]))
            if own.all_leave[cluster, image]:
                break
        else:
            heads.extend(last_heads.tolist())
        terms = tangent.class_terms[heads, image]
        low, high = low + terms.min(0), high + terms.max(0)
    return low, high


def test_no_tuples_have_no_sums() -> None:
    problem = draw_problem(1, (2, 2, 1), 20)
    tangent = MiouTangent.tangent_at(problem, np.zeros(problem.images, np.int64))
    clusters = [GateClusters.build(problem, e, 2) for e in (1, 2)]
    last = LastHeadSums.of(tangent, np.array([4]))
    low, high = image_wise_intervals(
        tangent, last, clusters, np.zeros((0, 2), np.int64)
    )
    assert low.shape == high.shape == (0, tangent.class_terms.shape[2])
