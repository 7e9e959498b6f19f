"""Quantiles by rank, the Pareto filter, and the first exit that lets an image leave."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.pareto import pareto_indices
from mess_tf.core.quantiles import quantile, quantile_rank
from mess_tf.core.routing import exit_rates, first_exit

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_the_quantile_is_the_value_of_its_rank(q: float) -> None:
    for count in range(1, 400):
        values = np.arange(1.0, count + 1)
        assert quantile(values, q) == quantile_rank(q, count)
        assert (values <= quantile(values, q)).mean() >= q - 1e-12


def test_rounding_moves_no_rank() -> None:
    assert 0.55 * 100 > 55
    assert quantile_rank(0.55, 100) == quantile(np.arange(1.0, 101.0), 0.55) == 55


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_the_quantiles_in_use_are_those_of_the_inverted_distribution(q: float) -> None:
    rng = np.random.default_rng(0)
    for count in range(1, 300):
        values = rng.normal(size=count)
        assert quantile(values, q) == np.quantile(values, q, method="inverted_cdf")


def test_a_quantile_is_never_interpolated() -> None:
    latency_ms = np.arange(1.0, 13.0)
    assert quantile(latency_ms, 0.9) == 11.0
    assert np.quantile(latency_ms, 0.9) == pytest.approx(10.9)


def test_figures_take_quantiles_from_the_core_alone() -> None:
    calls = re.compile(r"np\.(quantile|percentile)\(")
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("mess_tf", "search")
        for path in (ROOT / folder).rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8"))
    }
    assert users == set()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)
)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    front = pareto_indices([p[0] for p in points], [p[1] for p in points])
    wanted = {
        p
        for p in points
        if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)
    }
    assert [points[i] for i in front] == sorted(wanted)
    assert all(points.index(points[i]) == i for i in front)  # the first of equal ones


def test_an_image_leaves_at_the_first_exit_that_lets_it() -> None:
    leaves = np.array([[1, 0, 0, 1], [1, 1, 0, 0]], bool)
    assert first_exit(leaves).tolist() == [0, 1, 2, 0]
    assert first_exit(np.zeros((0, 3), bool)).tolist() == [0, 0, 0]
    assert first_exit(np.stack([leaves, ~leaves])).tolist() == [
        [0, 1, 2, 0],
        [2, 0, 0, 1],
    ]
    assert exit_rates(np.array([0, 1, 2, 0]), 4) == (0.5, 0.25, 0.25, 0.0)
    assert exit_rates(np.zeros(0, int), 2) == (0.0, 0.0)
