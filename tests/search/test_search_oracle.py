"""The exact search against a brute force that shares no code with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mess_tf.core.statistics import part_images
from search.evaluation import final_configuration
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.resources import Resources
from search.run import InfeasibleError, search
from search.solver.options import DEFAULT_OPTIONS, SolverOptions
from tests.support.search_problems import (
    all_configurations,
    plain_figures,
    plain_takes,
    stopped_clock,
    tiny_bytes,
    tiny_latencies,
    tiny_spec,
    tiny_statistics,
)
from tests.support.tiers import sampled

EPSILON = 1e-9


def draw_case(seed, exits=3, heads=2, images=6, levels=5):
    rng = np.random.default_rng(seed)
    spec = tiny_spec(tuple(rng.integers(1, heads + 1, exits + 1).tolist()))
    statistics = tiny_statistics(spec, rng, images, 3, 2, levels)
    return rng, spec, statistics, tiny_latencies(spec, rng)


def brute_force(statistics, spec, latency_ms, early, sizes=(), peaks=()):
    """Mean latency, p90, mIoU, size and peak memory of every configuration."""
    images = part_images(statistics, "calibration").tolist()
    rows = [
        (
            *plain_figures(statistics, spec, latency_ms, c, images),
            *plain_takes(spec, dict(sizes), dict(peaks), c),
        )
        for c in all_configurations(statistics, spec, early)
    ]
    return np.array(rows)


def draw_requirement(rng, rows):
    """A requirement near what can be had, so that it binds and sometimes fails."""
    latencies, miou = rows[:, 0], rows[:, 2]
    limits: dict[str, Any] = {}
    if rng.random() < 0.6:
        limits["max_drop_pp"] = float(rng.uniform(-4, 12))
    if rng.random() < 0.3:
        limits["min_miou"] = float(rng.choice(miou))
    if rng.random() < 0.5:
        limits["max_latency_ms"] = float(rng.choice(latencies))
    if rng.random() < 0.4:
        limits["max_p90_ms"] = float(rng.choice(rows[:, 1]))
    if rng.random() < 0.3:
        limits["max_size_mb"] = float(rng.choice(rows[:, 3]))
    if rng.random() < 0.3:
        limits["max_memory_mb"] = float(rng.choice(rows[:, 4]))
    objective = rng.choice(["latency", "accuracy", None])
    return Requirement(**limits, objective=objective)


def check(seed, early, solver=DEFAULT_OPTIONS, **size):
    rng, spec, statistics, latency_ms = draw_case(seed, **size)
    sizes, peaks = tiny_bytes(spec, rng)
    rows = brute_force(statistics, spec, latency_ms, early, sizes, peaks)
    calibration = part_images(statistics, "calibration").tolist()
    reference = plain_figures(
        statistics, spec, latency_ms, final_configuration(spec), calibration
    )[2]
    requirement = draw_requirement(rng, rows)
    allowed = np.array(
        [
            all(requirement.met(m, reference, latency, p90, mb, peak).values())
            for latency, p90, m, mb, peak in rows
        ]
    )
    call = (
        statistics,
        spec,
        latency_ms,
        requirement,
        SearchParameters(max_early_exits=early, time_limit_s=60.0, solver=solver),
    )
    resources = Resources(sizes, peaks)
    if not allowed.any():
        with pytest.raises(InfeasibleError):
            search(*call, resources=resources)
        return
    result = search(*call, resources=resources)
    column, best = (0, min) if requirement.goal == "latency" else (2, max)
    wanted = best(rows[allowed, column])
    assert result.value == pytest.approx(wanted, abs=EPSILON)
    assert result.proven and result.gap == 0
    chosen = result.configuration
    own = (
        *plain_figures(statistics, spec, latency_ms, chosen, calibration),
        *plain_takes(spec, sizes, peaks, chosen),
    )
    seen = result.calibration
    told = (seen.mean_ms, seen.p90_ms, seen.miou, seen.size_mb, seen.memory_mb)
    assert own == pytest.approx(told, abs=EPSILON)
    assert all(seen.met.values())
    if requirement.max_memory_mb is None:
        assert result.space_size == len(rows)


@pytest.mark.slow
@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(seed=st.integers(0, 2**32 - 1), early=st.integers(0, 2))
def test_optimum_equals_brute_force_with_up_to_two_early_exits(seed, early):
    check(seed, early, exits=2, images=5, levels=4)


@pytest.mark.parametrize("early", [0, 1, 2])
@pytest.mark.parametrize("seed", range(7))
def test_optimum_equals_brute_force_for_a_few_draws(seed, early):
    check(seed, early, exits=2, images=5, levels=4)


@pytest.mark.parametrize("seed", sampled(range(200), 12))
def test_optimum_equals_brute_force_with_three_early_exits(seed):
    check(seed, 3, heads=1, images=6, levels=4)


@pytest.mark.parametrize("seed", sampled(range(1000, 1150), 8))
def test_optimum_equals_brute_force_with_four_early_exits(seed):
    check(seed, 4, exits=4, heads=1, images=5, levels=3)


@pytest.mark.parametrize("leaf", [1, 7])
@pytest.mark.parametrize("seed", sampled(range(100, 250), 5))
def test_optimum_is_the_same_when_nodes_are_branched_on_to_the_end(seed, leaf):
    # Without a heuristic the incumbent is a single exit, so that little is pruned.
    solver = SolverOptions(leaf_size=leaf, bisection_steps=0, max_sweeps=0)
    check(seed, 2, solver, exits=2, images=6, levels=5)


@pytest.mark.parametrize("seed", sampled(range(30), 8))
def test_time_limit_gives_a_bound_that_holds(seed):
    rng, spec, statistics, latency_ms = draw_case(seed, exits=2, images=7)
    rows = brute_force(statistics, spec, latency_ms, 2)
    # A clock that ends the search after a few looks, whatever the machine's speed.
    solver = SolverOptions(
        leaf_size=3,
        bisection_steps=0,
        max_sweeps=0,
        clock=stopped_clock(2 + int(rng.integers(0, 16))),
    )
    goal = "latency" if seed % 2 else "accuracy"
    floor = -math.inf
    limits: dict[str, Any] = {"objective": goal}
    if goal == "latency":
        # A single exit keeps it, so that something stands before the clock stops.
        single = rows[: len(statistics.heads), 2].max()
        limits["min_miou"] = floor = min(float(np.quantile(rows[:, 2], 0.9)), single)
    result = search(
        statistics,
        spec,
        latency_ms,
        Requirement(**limits),
        SearchParameters(max_early_exits=2, solver=solver),
    )
    kept = rows[rows[:, 2] >= floor - 1e-11]
    if goal == "latency":
        assert result.bound <= kept[:, 0].min() + EPSILON
        assert result.bound <= result.value
        assert result.value >= kept[:, 0].min() - EPSILON
    else:
        assert result.bound >= kept[:, 2].max() - EPSILON
        assert result.bound >= result.value
    assert result.gap == pytest.approx(abs(result.value - result.bound))
    if result.proven:
        assert result.gap == 0
