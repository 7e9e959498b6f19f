"""Cost and accuracy by hand, thresholds, requirements, records and front."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.latency import PathLatency, UnmeasuredPieceError
from mess_tf.core.quantiles import quantile
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from mess_tf.core.statistics import Statistics, part_images
from search.evaluation import RoutedEvaluation
from search.infeasible import _p90_of
from search.parameters import SearchParameters
from search.pareto import load_pareto, pareto_front, save_pareto
from search.problem import Problem, choose_thresholds
from search.requirement import Requirement
from search.result import load_results, save_results
from search.run import InfeasibleError, search
from search.solver.branch_and_bound import BranchAndBound, Progress
from search.solver.options import SolverOptions
from search.solver.target import Target
from tests.support.search_problems import (
    plain_figures,
    stopped_clock,
    tiny_latencies,
    tiny_spec,
    tiny_statistics,
)

FCN = "fcn_r1_b0"
LATENCY_MS = {
    "segment_1": 1.0,
    "segment_2": 10.0,
    "segment_3": 100.0,
    f"head_1_{FCN}": 0.1,
    f"head_2_{FCN}": 0.2,
    f"head_3_{FCN}": 0.4,
    "decision_mean_8x12": 0.01,
    "decision_mean_4x6": 0.02,
    "decision_eq7_4x6": 0.05,
    "output_4x6": 0.003,
}


def hand_made() -> Statistics:
    """Four images of ten pixels, two classes, three exits with one head each.

    Head 1 is right on images 0 and 1 only, head 2 on 0, 1, 2, head 3 on all; a wrong
    head predicts the other class everywhere.
    """
    true = np.array([[10, 0], [0, 10], [10, 0], [0, 10]])
    right = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    predicted = np.where(right[:, :, None], true[:, None], 10 - true[:, None])
    both = np.minimum(predicted, true[:, None])
    confidence = np.array(
        [[0.9, 0.9, 0.5], [0.8, 0.9, 0.5], [0.4, 0.7, 0.5]] + [[0.2] * 3]
    )
    return Statistics(
        images=("a", "b", "c", "d") * 2,
        groups=("s", "s", "t", "t", "u", "u", "v", "v"),
        parts=("calibration",) * 4 + ("report",) * 4,
        heads=tuple((e, FCN) for e in (1, 2, 3)),
        classes=("x", "y"),
        true_area=np.tile(true, (2, 1)),
        predicted_area=np.tile(predicted, (2, 1, 1)),
        intersection=np.tile(both, (2, 1, 1)),
        confidence={
            "mean": np.tile(confidence, (2, 1)).astype(np.float32),
            "eq7@0.9": np.full((8, 3), np.nan, np.float32),
        },
        source="hand",
    )


SPEC = tiny_spec((1, 1, 1), classes=2)
CHAIN = Configuration(
    (
        ExitChoice(1, FCN, "mean", 0.85),
        ExitChoice(2, FCN, "mean", 0.6),
        ExitChoice(3, FCN),
    )
)


def test_unfired_heads_and_decisions_are_paid_and_the_output_grid_is_free():
    paths = PathLatency(SPEC, LATENCY_MS).path_ms(CHAIN)
    # Exit 1 has the output's own grid (8x12); 2 and 3 must be resized.
    assert paths == pytest.approx(
        [
            1 + 0.1 + 0.01,
            11 + 0.1 + 0.01 + 0.2 + 0.02 + 0.003,
            111 + 0.1 + 0.01 + 0.2 + 0.02 + 0.4 + 0.003,
        ]
    )


def test_terms_by_kind_sum_to_the_latency_of_each_path():
    latency = PathLatency(SPEC, LATENCY_MS)
    terms = latency.terms_ms(CHAIN)
    assert terms == pytest.approx(
        np.array(
            [
                [1, 0.1, 0.01, 0],
                [11, 0.3, 0.03, 0.003],
                [111, 0.7, 0.03, 0.003],
            ]
        )
    )
    assert terms.sum(1) == pytest.approx(latency.path_ms(CHAIN))
    assert latency.mean_ms(CHAIN, (0.25, 0.5, 0.25)) == pytest.approx(
        latency.image_ms(CHAIN, np.array([0, 1, 1, 2])).mean()
    )


def test_a_policy_of_the_last_exit_is_neither_asked_nor_paid():
    last = dataclasses.replace(CHAIN.exits[-1], policy="mean", threshold=2.0)
    chain = Configuration((*CHAIN.exits[:-1], last))
    latency = PathLatency(SPEC, LATENCY_MS)
    assert latency.path_ms(chain).tolist() == latency.path_ms(CHAIN).tolist()
    positions = [
        exit_position_per_image(hand_made(), c).tolist() for c in (chain, CHAIN)
    ]
    assert positions[0] == positions[1]


def test_a_piece_without_a_latency_is_named():
    rest = {k: v for k, v in LATENCY_MS.items() if k != "decision_mean_4x6"}
    with pytest.raises(UnmeasuredPieceError, match="'decision_mean_4x6'"):
        PathLatency(SPEC, rest).terms_ms(CHAIN)


def test_an_image_right_at_the_threshold_leaves():
    statistics = hand_made()
    at = float(statistics.confidence["mean"][1, 0])
    chain = Configuration((ExitChoice(1, FCN, "mean", at), ExitChoice(3, FCN)))
    assert exit_position_per_image(statistics, chain).tolist() == [0, 0, 1, 1] * 2


def test_the_p90_of_an_unmet_requirement_is_that_of_its_configuration():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        spec = tiny_spec((2, 2, 2))
        statistics = tiny_statistics(spec, rng, 12, 4)
        latency_ms = tiny_latencies(spec, rng)
        problem = Problem.build(statistics, spec, latency_ms)
        heads = (int(rng.integers(2)), 2 + int(rng.integers(2)), 4)
        if not all(len(problem.gates[head]) for head in heads[:-1]):
            continue
        gates = tuple(int(rng.integers(len(problem.gates[h]))) for h in heads[:-1])
        configuration = problem.configuration(heads, gates)
        evaluation = RoutedEvaluation.of(statistics, spec, latency_ms, configuration)
        images = part_images(statistics, "calibration")
        wanted = evaluation.figures(images, Requirement()).p90_ms
        assert _p90_of(problem, heads, gates) == pytest.approx(wanted)


def test_figures_of_a_chain_by_hand():
    evaluation = RoutedEvaluation.of(hand_made(), SPEC, LATENCY_MS, CHAIN)
    assert evaluation.positions.tolist() == [0, 1, 1, 2] * 2
    figures = evaluation.figures(np.arange(4), Requirement(max_latency_ms=33))
    assert figures.mean_ms == pytest.approx((1.11 + 2 * 11.333 + 111.733) / 4)
    assert figures.p50_ms == pytest.approx(11.333)
    assert figures.p90_ms == pytest.approx(111.733)
    assert figures.exit_rates == (0.25, 0.5, 0.25)
    assert figures.miou == 1 and figures.drop_pp == 0
    assert figures.met == {"max_latency_ms": False}


def test_miou_sums_over_images_before_it_divides():
    # Head 2 everywhere: class x: 20 of union 30; class y: 10 of union 20.
    evaluation = RoutedEvaluation.of(
        hand_made(), SPEC, LATENCY_MS, Configuration((ExitChoice(2, FCN),))
    )
    figures = evaluation.figures(np.arange(4), Requirement())
    assert figures.miou == pytest.approx((20 / 30 + 10 / 20) / 2)
    assert figures.drop_pp == pytest.approx(100 * (1 - (20 / 30 + 10 / 20) / 2))


def test_class_that_nobody_has_is_left_out_and_one_only_predicted_counts_zero():
    assert mean_iou_of_sums(np.array([5, 0, 0]), np.array([10, 0, 4])) == pytest.approx(
        0.25
    )
    assert np.isnan(mean_iou_of_sums(np.zeros(2), np.zeros(2)))


def test_search_finds_the_hand_made_optimum():
    result = search(hand_made(), SPEC, LATENCY_MS, Requirement(max_drop_pp=0))
    # Images 0 and 1 may leave at exit 1, 2 at exit 2; 3 must go on.
    assert result.calibration.exit_rates == (0.5, 0.25, 0.25)
    assert result.calibration.drop_pp == 0 and result.proven and result.gap == 0
    assert result.best_static.configuration == Configuration((ExitChoice(3, FCN),))
    assert result.reference.calibration.mean_ms == pytest.approx(111.403)
    assert result.report.images == 4
    assert result.intervals["drop_pp"].low <= 0 <= result.intervals["drop_pp"].high


def test_equal_masks_keep_the_cheaper_decision():
    statistics = hand_made()
    mean = statistics.confidence["mean"]
    twin = {"eq7@0.9": mean, "mean": mean}
    prices = {**LATENCY_MS, "decision_eq7_8x12": 0.5}
    problem = Problem.build(
        dataclasses.replace(statistics, confidence=twin), SPEC, prices
    )
    assert set(problem.gates[0].policies) == {"mean"}
    assert len(problem.gates[0]) == 3 and problem.gates[0].grid_size == 6


def test_budgeted_setting_keeps_one_exit_and_no_decision():
    result = search(
        hand_made(),
        SPEC,
        LATENCY_MS,
        Requirement(max_latency_ms=50),
        SearchParameters(setting="budgeted"),
    )
    assert result.configuration == Configuration((ExitChoice(2, FCN),))
    assert result.space_size == 3 and result.proven


def test_p90_limit_binds_where_the_mean_does_not():
    # Exit 3 may answer no image: with four images the 90th percentile is the slowest.
    requirement = Requirement(max_p90_ms=20, objective="accuracy")
    result = search(hand_made(), SPEC, LATENCY_MS, requirement)
    assert result.configuration.exits[-1].exit == 2
    assert result.calibration.p90_ms <= 20


def test_infeasible_requirement_names_the_nearest_feasible_ones():
    requirement = Requirement(max_drop_pp=0, max_latency_ms=5)
    with pytest.raises(InfeasibleError) as error:
        search(hand_made(), SPEC, LATENCY_MS, requirement)
    message = str(error.value)
    # 0 and 1 leave at exit 1, 2 at exit 2, 3 at exit 3: the cheapest with no drop.
    least = (2 * 1.11 + 11.333 + 111.733) / 4
    assert f"{least:.3f} ms" in message and "drop" in message and "\n" not in message


def test_time_that_passes_before_anything_is_found_is_told_apart() -> None:
    # The first look sets the deadline, which has passed at the second.
    parameters = SearchParameters(solver=SolverOptions(clock=stopped_clock(1)))
    # Only a mix of exits keeps both limits.
    requirement = Requirement(max_drop_pp=0, max_latency_ms=60)
    with pytest.raises(MessError, match="nor shown not to exist") as error:
        search(hand_made(), SPEC, LATENCY_MS, requirement, parameters)
    assert not isinstance(error.value, InfeasibleError)


def test_missing_piece_is_named():
    rest = {k: v for k, v in LATENCY_MS.items() if k != "decision_mean_4x6"}
    with pytest.raises(MessError, match="decision_mean_4x6"):
        search(hand_made(), SPEC, rest, Requirement(max_drop_pp=0))
    with pytest.raises(MessError, match="output_4x6"):
        search(
            hand_made(),
            SPEC,
            {k: v for k, v in LATENCY_MS.items() if k != "output_4x6"},
            Requirement(max_drop_pp=0),
        )


@pytest.mark.parametrize("seed", range(8))
def test_report_images_change_nothing_in_the_choice(seed):
    rng = np.random.default_rng(seed)
    spec = tiny_spec((2, 2, 1))
    statistics = tiny_statistics(spec, rng, 8, 6)
    latency_ms = tiny_latencies(spec, rng)
    report = np.array(statistics.parts) == "report"
    confidence = {k: v.copy() for k, v in statistics.confidence.items()}
    for values in confidence.values():
        values[report] = rng.random(values[report].shape)
    other = dataclasses.replace(
        statistics,
        true_area=np.where(report[:, None], 50, statistics.true_area),
        predicted_area=np.where(report[:, None, None], 50, statistics.predicted_area),
        intersection=np.where(report[:, None, None], 7, statistics.intersection),
        confidence=confidence,
    )
    first, second = (
        search(s, spec, latency_ms, Requirement(max_drop_pp=2))
        for s in (statistics, other)
    )
    assert first.configuration == second.configuration
    assert first.calibration == second.calibration
    assert (first.value, first.bound) == (second.value, second.bound)
    assert first.report != second.report


def test_reported_figures_are_those_of_the_report_images():
    rng = np.random.default_rng(5)
    spec = tiny_spec((2, 2, 1))
    statistics = tiny_statistics(spec, rng, 8, 7)
    latency_ms = tiny_latencies(spec, rng)
    result = search(statistics, spec, latency_ms, Requirement(max_drop_pp=3))
    images = part_images(statistics, "report").tolist()
    own = plain_figures(statistics, spec, latency_ms, result.configuration, images)
    report = result.report
    assert (report.mean_ms, report.p90_ms, report.miou) == pytest.approx(own)


def test_bootstrap_draws_whole_groups_and_is_seeded():
    statistics, report = hand_made(), np.arange(4, 8)
    evaluation = RoutedEvaluation.of(statistics, SPEC, LATENCY_MS, CHAIN)
    first = evaluation.bootstrap(report, statistics.groups, seed=1)
    assert first == evaluation.bootstrap(report, statistics.groups, seed=1)
    # Two groups: their own means are the extremes a resample can have.
    means = [(1.11 + 11.333) / 2, (11.333 + 111.733) / 2]
    assert (first["mean_ms"].low, first["mean_ms"].high) == pytest.approx(means)
    assert evaluation.bootstrap(report[:2], statistics.groups, seed=1) == {}


def test_thresholds_lie_midway_and_leave_out_all_and_none():
    values = np.array([0.2, 0.2, 0.4, 0.9, 0.4 + 1e-9])
    assert choose_thresholds(values, 10) == pytest.approx([0.65, 0.3])
    assert len(choose_thresholds(np.full(5, 0.5), 10)) == 0
    # 719 and 717 of 784 cells: an image with 718 lies at the threshold and leaves.
    cells = np.array([719, 717], np.float32) / np.float32(784)
    (middle,) = choose_thresholds(cells.astype(np.float64), 10)
    assert np.float32(718) / np.float32(784) >= middle == np.float32(middle)
    many = choose_thresholds(np.linspace(0, 1, 101), 9)
    leaving = [(np.linspace(0, 1, 101) >= t).sum() for t in many]
    assert leaving == pytest.approx([10, 20, 30, 40, 50, 61, 71, 81, 91], abs=1)


def test_quantile_is_the_least_value_that_enough_do_not_exceed():
    assert quantile(np.arange(1.0, 11.0), 0.9) == 9
    assert quantile(np.arange(1.0, 12.0), 0.9) == 10


def test_confidence_that_is_missing_for_one_image_is_an_error():
    statistics = hand_made()
    statistics.confidence["mean"][6, 0] = np.nan
    with pytest.raises(MessError, match="'c'"):
        search(statistics, SPEC, LATENCY_MS, Requirement(max_drop_pp=0))


@pytest.mark.parametrize(
    ("limits", "goal"),
    [
        ({}, "latency"),
        ({"max_drop_pp": 1}, "latency"),
        ({"max_latency_ms": 5}, "accuracy"),
        ({"max_p90_ms": 5}, "accuracy"),
        ({"max_p90_ms": 5, "min_miou": 0.5}, "latency"),
    ],
)
def test_objective_follows_from_the_limits(limits, goal):
    assert Requirement(**limits).goal == goal


@pytest.mark.parametrize(
    "limits",
    [{"min_miou": 55.0}, {"max_latency_ms": -1.0}, {"max_drop_pp": float("nan")}],
)
def test_senseless_requirement_is_refused(limits):
    with pytest.raises(MessError, match=next(iter(limits))):
        Requirement(**limits)


def test_results_survive_the_file(tmp_path: Path):
    results = [
        search(hand_made(), SPEC, LATENCY_MS, Requirement(max_drop_pp=d), name=f"pp{d}")
        for d in (0, 20)
    ]
    save_results(tmp_path / "chosen.json", results)
    assert list(load_results(tmp_path / "chosen.json")) == results
    with pytest.raises(MessError, match="pp0"):
        save_results(tmp_path / "chosen.json", [results[0], results[0]])
    with pytest.raises(MessError, match="mess search"):
        load_results(tmp_path / "missing.json")


def test_progress_of_a_front_tells_the_time_of_all_of_it() -> None:
    rng = np.random.default_rng(33)
    spec = tiny_spec((2, 2, 2))
    statistics = tiny_statistics(spec, rng, 10, 4)
    latency_ms = tiny_latencies(spec, rng)
    told: list[float] = []
    pareto_front(
        statistics,
        spec,
        latency_ms,
        SearchParameters(
            max_early_exits=2, solver=SolverOptions(progress_interval_s=0.0)
        ),
        points=4,
        progress=lambda state: told.append(state.elapsed_s),
    )
    assert len(told) > 4
    assert told == sorted(told)


def test_front_rises_and_every_point_is_the_best_within_its_budget(tmp_path: Path):
    rng = np.random.default_rng(33)
    spec = tiny_spec((2, 2, 2))
    statistics = tiny_statistics(spec, rng, 10, 4)
    latency_ms = tiny_latencies(spec, rng)
    front = pareto_front(
        statistics,
        spec,
        latency_ms,
        SearchParameters(time_limit_s=60, max_early_exits=2),
        points=6,
    )
    seen = [p.outcome.calibration for p in front]
    assert len(front) >= 3 and all(p.proven for p in front)
    assert all(a.mean_ms < b.mean_ms for a, b in zip(seen, seen[1:], strict=False))
    assert all(a.miou < b.miou for a, b in zip(seen, seen[1:], strict=False))
    problem = Problem.build(statistics, spec, latency_ms)
    for point, figures in zip(front, seen, strict=True):
        target = Target(False, 0.0, point.budget_ms)
        best = BranchAndBound(problem, target, 2, float("inf")).run().incumbent
        assert best is not None
        assert best.miou == pytest.approx(figures.miou)
        assert figures.mean_ms <= point.budget_ms + 1e-9
    save_pareto(tmp_path / "pareto.csv", front)
    rows = load_pareto(tmp_path / "pareto.csv")
    assert [r["exits"] for r in rows] == [p.outcome.configuration for p in front]
    assert [r["miou"] for r in rows] == [f.miou for f in seen]


def test_progress_states_value_and_bound() -> None:
    reported: list[Progress] = []
    rng = np.random.default_rng(33)
    spec = tiny_spec((2, 2, 2))
    statistics = tiny_statistics(spec, rng, 10, 4)
    latency_ms = tiny_latencies(spec, rng)
    requirement = Requirement(max_drop_pp=0)
    result = search(
        statistics,
        spec,
        latency_ms,
        requirement,
        SearchParameters(solver=SolverOptions(progress_interval_s=0.0)),
        progress=reported.append,
    )
    assert reported and all(p.bound <= result.value + 1e-9 for p in reported)
    assert all(p.value is None or p.value >= result.value for p in reported)


def test_search_needs_neither_tensorflow_nor_adb():
    code = (
        "import sys, search.run, search.pareto, search.result;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('tensorflow', 'keras', 'ai_edge_litert', 'adb_shell', 'adbutils',"
        " 'matplotlib', 'sklearn')])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_fitted_policys_numbers_travel_with_the_choice(tmp_path: Path):
    statistics = hand_made()
    numbers = np.array([[0.1, 2.5], [7, 8], [9, 9]], np.float32)
    fitted = dataclasses.replace(
        statistics,
        confidence={"cbt@0.9": statistics.confidence["mean"]},
        parameters={"cbt": numbers},
    )
    fitted.save(tmp_path / "s.npz")
    prices = {name.replace("mean", "cbt"): ms for name, ms in LATENCY_MS.items()}
    again = Statistics.load(tmp_path / "s.npz")
    result = search(again, SPEC, prices, Requirement(max_drop_pp=0))
    save_results(tmp_path / "chosen.json", [result])
    (loaded,) = load_results(tmp_path / "chosen.json")
    assert loaded == result
    first, second, last = loaded.configuration.exits
    assert first.parameters == tuple(numbers[0].tolist())
    assert second.parameters == tuple(numbers[1].tolist())
    assert last.parameters == ()
