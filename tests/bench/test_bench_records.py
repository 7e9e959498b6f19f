"""Statistics by hand-counted samples; records through JSON and the store."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.errors import BenchError
from android_bench.records import (
    PRESETS,
    Conditions,
    Failure,
    Measurement,
    MeasureSettings,
    ModelFile,
    Round,
    Summary,
)
from android_bench.store import Store
from mess_tf.core.json_files import from_json, to_json

Make = Callable[..., Any]

NOW = "2026-01-02T03:04:05.678+00:00"

texts = st.text(max_size=20)
maybe = st.none() | st.floats(-1e6, 1e6)
conditions = st.builds(
    Conditions,
    time=texts,
    temperature_c=maybe,
    throttled=st.none() | st.booleans(),
    battery_percent=maybe,
    charging=st.none() | st.booleans(),
    load=maybe,
    foreign_load=maybe,
    governor=st.none() | texts,
    frequencies_khz=st.lists(st.integers(0, 10**7), max_size=3).map(tuple),
    other=st.dictionaries(texts, texts, max_size=2),
)
samples = st.floats(0, 1e12, exclude_min=True, allow_infinity=False)
rounds = st.builds(
    Round,
    samples_us=st.lists(samples, min_size=1, max_size=5).map(tuple),
    conditions=conditions,
    init_us=maybe,
    runs=st.integers(0, 10**6),
    summary=st.none()
    | st.builds(
        Summary,
        count=st.integers(1, 10**6),
        min_us=samples,
        max_us=samples,
        mean_us=samples,
        std_us=samples,
        median_us=st.none() | samples,
        p95_us=st.none() | samples,
    ),
)
round_sets = st.lists(rounds, min_size=1, max_size=3).map(tuple)
common: dict[str, Any] = {
    "name": texts,
    "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "fingerprint": st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    "settings_key": st.builds(
        MeasureSettings,
        threads=st.integers(1, 64),
        seed=st.integers(0, 99),
        affinity=st.sampled_from(["auto", "none", "f0"]),
    ).map(lambda s: s.key),
    "tool_key": st.just("tool 1"),
    "time": texts,
    "set_aside": st.just(()) | round_sets,
    "flags": st.lists(st.sampled_from(["unstable", "throttled"])).map(tuple),
}
measurements = st.builds(
    Measurement, rounds=round_sets, failure=st.none(), **common
) | st.builds(
    Measurement,
    rounds=st.just(()),
    failure=st.builds(Failure, stage=texts, message=texts, log_tail=texts),
    **common,
)


@given(measurements)
def test_measurement_survives_json(measurement: Measurement) -> None:
    text = json.dumps(to_json(measurement))
    assert from_json(json.loads(text), Measurement, "row") == measurement


@given(measurements)
@settings(max_examples=40, deadline=None)
def test_measurement_survives_the_store(measurement: Measurement) -> None:
    with Store("sqlite://") as store:
        store.put(measurement)
        assert store.measurements() == [measurement]


@given(
    st.integers(1, 64), st.integers(1, 99), st.lists(texts, max_size=3), st.floats(0, 9)
)
def test_settings_key_is_read_back_and_tells_settings_apart(
    threads: int, rounds: int, extra: list[str], seconds: float
) -> None:
    chosen = dataclasses.replace(
        MeasureSettings(),
        threads=threads,
        rounds=rounds,
        extra=tuple(extra),
        min_seconds_per_round=seconds,
    )
    assert MeasureSettings.from_key(chosen.key) == chosen
    other = dataclasses.replace(chosen, threads=threads + 1)
    assert other.key != chosen.key


def test_how_long_to_wait_for_an_answer_is_no_part_of_the_key() -> None:
    patient = dataclasses.replace(MeasureSettings(), timeout_s=999.0, cooldown_s=1.0)
    assert patient.key == MeasureSettings().key


def test_figures_of_hand_counted_samples(round_of: Make, measurement_of: Make) -> None:
    first = round_of(1000, 2000, 3000, 4000, 5000)
    second = round_of(10000, 9000, 8000, 7000, 6000)
    row = measurement_of("m", first, second)
    assert row.p50_ms == 5.5
    assert row.p90_ms == 9.0  # nine of ten samples are not above it
    assert row.mean_ms == 5.5
    assert row.spread == pytest.approx((8000 - 3000) / 5500)


def test_spread_is_between_round_medians_not_samples(
    round_of: Make, measurement_of: Make
) -> None:
    calm = [round_of(1, median, 900) for median in (100, 104, 110)]
    assert measurement_of("m", *calm).spread == pytest.approx(10 / 104)


def test_set_aside_rounds_count_in_no_figure(
    round_of: Make, measurement_of: Make
) -> None:
    row = measurement_of("m", round_of(1000), set_aside=(round_of(9000),))
    assert row.p50_ms == row.p90_ms == row.mean_ms == 1.0


@pytest.mark.parametrize("figure", ["p50_ms", "p90_ms", "mean_ms", "spread"])
def test_a_failure_has_no_figure(measurement_of: Make, figure: str) -> None:
    row = measurement_of("broken", failure=Failure("load", "not a flatbuffer"))
    with pytest.raises(BenchError, match="broken has no latency.*'load'"):
        getattr(row, figure)


def test_a_measurement_is_either_rounds_or_failure(
    round_of: Make, measurement_of: Make
) -> None:
    with pytest.raises(BenchError, match="either"):
        measurement_of("m")
    with pytest.raises(BenchError, match="either"):
        measurement_of("m", round_of(1), failure=Failure("run", "x"))


@pytest.mark.parametrize("bad", [(), (0.0,), (1.0, -1.0), (math.nan,), (math.inf,)])
def test_no_round_without_positive_samples(bad: tuple[float, ...]) -> None:
    with pytest.raises(BenchError, match="positive"):
        Round(bad, Conditions("now"))


def test_report_preset_meets_the_single_stream_rules() -> None:
    report = MeasureSettings.preset("report", threads=4)
    assert report.threads == 4
    assert report.rounds * report.runs_per_round >= 1024
    assert report.rounds * report.min_seconds_per_round >= 60


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_keys_of_their_own(name: str) -> None:
    keys = {MeasureSettings.preset(other).key for other in PRESETS}
    assert len(keys) == len(PRESETS)
    assert MeasureSettings.from_key(MeasureSettings.preset(name).key).rounds > 0


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"rounds": 0},
        {"warmup_runs": -1},
        {"max_spread": math.nan},
        {"min_seconds_per_round": 20.0},
        {"timeout_s": 5.0},
    ],
)
def test_bad_settings_name_the_setting(change: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=next(iter(change))):
        dataclasses.replace(MeasureSettings(), **change)


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(BenchError, match="'quik'.*quick, report"):
        MeasureSettings.preset("quik")


def test_model_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"abc")
    model = ModelFile.read(path)
    assert model.name == "a"
    assert model.sha256.startswith("ba7816bf8f01cfea")  # sha256("abc")
    with pytest.raises(BenchError, match="absent.tflite"):
        ModelFile.read(tmp_path / "absent.tflite")


SUMMARY = Summary(
    count=40,
    min_us=90,
    max_us=400,
    mean_us=110,
    std_us=10,
    p5_us=92,
    median_us=100,
    p95_us=150,
)


def test_a_file_name_whose_bytes_are_no_text_is_spelt_out(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.tflite"
    try:
        path.write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert ModelFile.read(path).name == "caf\\udce9"


def test_a_summary_stands_for_samples_without_inventing_any(
    measurement_of: Make,
) -> None:
    slow = dataclasses.replace(SUMMARY, median_us=104.0, p95_us=180.0, mean_us=120.0)
    rounds = [Round.of_summary(s, Conditions(NOW), None) for s in (SUMMARY, slow)]
    row = measurement_of("m", *rounds)
    assert row.p50_ms == pytest.approx(0.102)
    # The true 90th percentile is not told: at most the largest of the 95th.
    assert row.p90_ms == pytest.approx(0.180)
    assert row.mean_ms == pytest.approx(0.115)
    assert row.samples_ms.tolist() == pytest.approx([0.1, 0.104])
    assert [r.runs for r in row.rounds] == [40, 40]


def test_an_old_summary_has_its_mean_and_a_bound() -> None:
    old = dataclasses.replace(SUMMARY, p5_us=None, median_us=None, p95_us=None)
    assert Round.of_summary(old, Conditions(NOW), None).samples_us == (110,)
    # Cantelli: at least 90 % of any runs lie below mean + 3 deviations.
    assert old.at_most_us(0.9) == pytest.approx(110 + 3 * 11)
    assert dataclasses.replace(old, max_us=120.0).at_most_us(0.9) == 120


def test_the_bound_of_a_summary_holds_for_any_runs() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        runs = np.sort(rng.lognormal(3, rng.uniform(0.01, 2), size=rng.integers(1, 60)))
        summary = Summary(
            len(runs), runs[0], runs[-1], runs.mean(), float(int(runs.std()))
        )
        true = np.percentile(runs, 90, method="inverted_cdf")
        assert summary.at_most_us(0.9) >= true * (1 - 1e-12)


def test_a_round_of_a_summary_survives_json(measurement_of: Make) -> None:
    row = measurement_of("m", Round.of_summary(SUMMARY, Conditions(NOW), 5.0))
    assert from_json(json.loads(json.dumps(to_json(row))), Measurement, "row") == row
