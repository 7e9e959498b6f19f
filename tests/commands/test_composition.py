"""What probes say about putting pieces together, on a hand-counted case."""

from __future__ import annotations

import dataclasses

import pytest

from mess_tf.compiling.latency_composition import compose_latencies, probe_policy
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec

SPEC = SupernetSpec(
    backbone="mobilenet_v2",
    backbone_options={},
    output_stride=16,
    image_height=32,
    image_width=32,
    classes=("a", "b"),
    ignore_label=255,
    exit_points=(ExitPoint(1, "x", 4, 8, 1), ExitPoint(2, "y", 8, 8, 2)),
    heads=((HeadSpec(), HeadSpec("dlb")), (HeadSpec(),)),
    output_stride_of_logits=4,
    head_options={},
    preprocessing=Preprocessing(),
)
PIECES = {
    "segment_1": 2.0,
    "segment_2": 3.0,
    "head_1_fcn_r1_b0": 1.0,
    "head_1_dlb_r1_b0": 4.0,
    "head_2_fcn_r1_b0": 1.0,
    "decision_eq7_8x8": 0.1,
    "decision_mean_8x8": 0.2,
    "decision_eq7_4x4": 0.05,
    "output_4x4": 0.5,
    # The whole network takes 6.6 ms beside the output step, its pieces 6.
    "probe_whole": 7.1,
    "probe_branch_1": 8.8,
}


def test_segments_and_heads_are_scaled_and_branches_priced() -> None:
    result = compose_latencies(PIECES, SPEC)
    assert result["segment_1"] == pytest.approx(2.2)
    assert result["head_1_dlb_r1_b0"] == pytest.approx(4.4)
    assert result["decision_mean_8x8"] == 0.2
    assert result["output_4x4"] == 0.5
    # 8.8 - 7.1 for everything asked, less the head (1.1) and the decision (0.1).
    assert result["branch_1"] == pytest.approx(0.5)
    assert not [name for name in result if name.startswith("probe_")]
    sums = sum(result[n] for n in ("segment_1", "segment_2", "head_2_fcn_r1_b0"))
    assert sums + 0.5 == pytest.approx(PIECES["probe_whole"])


def test_the_ratio_is_the_median_of_several_networks() -> None:
    point = (ExitPoint(3, "z", 8, 8, 3),)
    one, two = SPEC.heads
    spec = dataclasses.replace(
        SPEC, exit_points=(*SPEC.exit_points, *point), heads=(one, one, two)
    )
    pieces = {
        **PIECES,
        "segment_3": 1.0,
        "head_3_fcn_r1_b0": 1.0,
        "decision_eq7_4x4": 0.05,
        "probe_branch_2": 9.0,
        "probe_whole": 8.3,  # 7.8 beside the output step, its pieces 7: 1.114
        "probe_single_1": 3.6,  # 3 of pieces: 1.2
        "probe_single_2": 6.26,  # 5.76 beside the output step, 6 of pieces: 0.96
    }
    assert compose_latencies(pieces, spec)["segment_1"] == pytest.approx(2.0 * 7.8 / 7)
    del pieces["probe_single_1"]  # of an even number, the mean of the middle two
    ratio = (7.8 / 7 + 0.96) / 2
    assert compose_latencies(pieces, spec)["segment_1"] == pytest.approx(2.0 * ratio)


def test_the_ratio_is_taken_round_by_round() -> None:
    # The machine is slower by half in the second round: 6.6 / 6 in both, but 1.15 from
    # the medians.
    whole = ("output_4x4", "segment_1", "segment_2", "head_2_fcn_r1_b0")
    rounds_ms = {name: (PIECES[name], 1.5 * PIECES[name]) for name in whole}
    rounds_ms["probe_whole"] = (7.1, 1.5 * 7.1)
    disturbed = {**PIECES, "probe_whole": 7.4}
    result = compose_latencies(disturbed, SPEC, rounds_ms)
    assert result["segment_1"] == pytest.approx(2.2)
    del rounds_ms["segment_2"]
    result = compose_latencies(disturbed, SPEC, rounds_ms)
    assert result["segment_1"] == pytest.approx(2.3)


def test_a_branch_never_gives_time_back() -> None:
    assert compose_latencies({**PIECES, "probe_branch_1": 7.0}, SPEC)["branch_1"] == 0.0


def test_what_a_branch_costs_is_taken_round_by_round() -> None:
    # Beyond the whole network 1.8, 1.6 and 1.9 ms, less head and decision (1.2); the
    # medians differ by 1.7.
    rounds_ms: dict[str, tuple[float, ...]] = {
        "probe_whole": (7.1, 9.0, 6.9),
        "probe_branch_1": (8.9, 10.6, 8.8),
    }
    assert compose_latencies(PIECES, SPEC, rounds_ms)["branch_1"] == pytest.approx(0.6)
    rounds_ms["probe_whole"] = (7.1, 9.0)
    assert compose_latencies(PIECES, SPEC, rounds_ms)["branch_1"] == pytest.approx(0.5)


def test_without_probes_nothing_is_corrected() -> None:
    plain = {k: v for k, v in PIECES.items() if not k.startswith("probe_")}
    assert compose_latencies(plain, SPEC) == plain


def test_the_probes_policy_does_not_depend_on_order() -> None:
    assert probe_policy(["mean", "eq7+9", "eq7"]) == "eq7"
