"""The worked example of ``docs/search.md``, by the solver's code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.problem import Gates, Problem
from search.solver.branch_and_bound import BranchAndBound
from search.solver.enumeration import evaluate_batch
from search.solver.lagrangian import LagrangianTerms
from search.solver.miou_tangent import MiouTangent
from search.solver.options import SolverOptions
from search.solver.pairwise_bounds import PrefixRelaxation
from search.solver.target import Target

MULTIPLIER = 0.05
MIN_MIOU = 0.88


@pytest.fixture
def problem() -> Problem:
    """Two exits with one head each, images A, B and C, two classes."""
    none = np.zeros(0)
    return Problem(
        heads=((1, "fcn"), (2, "fcn")),
        exit_of=np.array([1, 2]),
        segments_ms=np.array([2.0, 6.0]),
        head_ms=np.array([1.0, 1.0]),
        output_ms=np.zeros(2),
        segments_bytes=np.zeros(2),
        head_bytes=np.zeros(2),
        gates=(
            Gates(
                masks=np.array([[True, False, False], [True, True, False]]),
                policies=("mean", "mean"),
                thresholds=np.array([0.9, 0.8]),
                decision_ms=np.array([0.5, 0.5]),
                decision_bytes=np.zeros(2),
                grid_size=2,
                parameters={"mean": ()},
            ),
            Gates(np.zeros((0, 3), bool), (), none, none, none, 0),
        ),
        intersection=np.array(
            [[[8, 4], [6, 2], [3, 2]], [[8, 4], [7, 4], [6, 5]]], np.float32
        ),
        union=np.array(
            [[[8, 4], [8, 4], [8, 8]], [[8, 4], [8, 4], [8, 6]]], np.float32
        ),
        labelled=np.array([True, True]),
        reference=1,
        reference_miou=(21 / 24 + 13 / 14) / 2,
    )


@pytest.fixture
def tangent(problem: Problem) -> MiouTangent:
    return MiouTangent.tangent_at(problem, np.array([1, 1, 1]))


def test_exact_figures(problem: Problem) -> None:
    both = evaluate_batch(problem, (0, 1), np.array([[0], [1]]), math.inf)
    assert both.latency_ms == pytest.approx([6.8333, 5.1667], abs=1e-4)
    assert both.miou == pytest.approx([0.9018, 0.8095], abs=1e-4)
    alone = evaluate_batch(problem, (1,), np.zeros((1, 0), np.int64), math.inf)
    assert (alone.latency_ms[0], alone.miou[0]) == pytest.approx((7, 0.9018), abs=1e-4)


def test_surrogate_plus_remainder_is_the_miou(tangent: MiouTangent) -> None:
    assert tangent.constant == pytest.approx(0.9018, abs=1e-4)
    assert tangent.score[0] == pytest.approx([0, -0.0923, -0.2360], abs=1e-4)
    assert tangent.score[1] == pytest.approx([0, 0, 0], abs=1e-7)
    surrogate = tangent.constant + tangent.score[0].sum()
    assert surrogate == pytest.approx(0.5736, abs=1e-4)
    sums = tangent.class_terms[0].sum(0)
    assert sums[1] == pytest.approx(-0.4898, abs=1e-4)
    remainder = tangent.remainder_bound(sums, sums)
    assert remainder == pytest.approx(0.0306, abs=1e-4)
    assert surrogate + remainder == pytest.approx((17 / 24 + 8 / 16) / 2, abs=1e-6)


def test_bound_of_the_cluster(problem: Problem, tangent: MiouTangent) -> None:
    terms = LagrangianTerms(problem, tangent, MULTIPLIER)
    assert terms.leave_values[0, :2] == pytest.approx([-0.0333, -0.1256], abs=1e-4)
    assert terms.terminal_values(np.array([1])) == pytest.approx(-0.1167, abs=1e-4)
    options = SolverOptions(clusters_per_head=1)
    relaxation = PrefixRelaxation(problem, tangent, MULTIPLIER, options)
    clusters = relaxation.clusters(1)
    sums = terms.leaving_gate_sums(clusters, 0)
    # g1 keeps B, which takes its value at exit 2.
    assert sums + [-0.1167, 0] == pytest.approx([-0.2250, -0.2339], abs=1e-4)
    ((cluster, last_head, bound),) = relaxation.single_exit_bounds(
        1, np.array([1]), -math.inf
    )
    assert (cluster, last_head) == (0, 1)
    assert bound == pytest.approx(0.5601, abs=1e-4)
    assert (MIN_MIOU - bound) / MULTIPLIER == pytest.approx(6.398, abs=1e-2)


def test_optimum_is_the_first_gate(problem: Problem) -> None:
    optimum = BranchAndBound(problem, Target(True, MIN_MIOU), 1, math.inf).run()
    assert optimum.proven and optimum.incumbent is not None
    assert (optimum.incumbent.heads, optimum.incumbent.gates) == ((0, 1), (0,))
    assert optimum.bound == pytest.approx(6.8333, abs=1e-4)
