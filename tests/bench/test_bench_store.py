"""What a store promises, on each kind of database: keys, newest figures, tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    MeasureSettings,
    Round,
    Summary,
    Tool,
)
from android_bench.store import Store

Make = Callable[..., Any]
Target = Path | str


def test_a_row_is_found_by_its_whole_key_only(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    summary = Summary(9, 1.0, 9.0, 3.0, 2.0, 1.0, 2.0, 9.0)
    told = Round.of_summary(summary, Conditions("now"), 1 / 3)
    row = measurement_of("a", round_of(1.25, 2.5), told, set_aside=(round_of(3.0),))
    with Store(target) as store:
        store.put(row)
    with Store(target) as store:  # as the next process finds it
        assert store.get(row.sha256, "fake-1", MeasureSettings(), "tool 1") == row
        assert store.get(row.sha256, "fake-1", MeasureSettings(), "tool 2") is None
        assert store.get(row.sha256, "fake-2", MeasureSettings()) is None
        assert store.get(row.sha256, "fake-1", MeasureSettings(threads=2)) is None
        assert store.get("0" * 64, "fake-1", MeasureSettings()) is None


def test_tools_that_share_the_beginning_of_their_digest_are_two(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    one, other = (Tool("benchmark_model", "1", "ab" * 31 + end) for end in ("00", "01"))
    row = measurement_of("a", round_of(1.0), tool_key=one.key)
    with Store(target) as store:
        store.put(row)
        assert store.has(row.sha256, "fake-1", MeasureSettings(), one)
        assert not store.has(row.sha256, "fake-1", MeasureSettings(), other)


def test_latencies_are_of_the_newest_row_that_did_not_fail(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    with Store(target) as store:
        store.put(measurement_of("a", round_of(1000.0, 1000.0, 4000.0)))
        store.put(measurement_of("a", round_of(2000.0, 2000.0, 5000.0)))
        store.put(measurement_of("a", failure=Failure("run", "x")))
        store.put(measurement_of("b", failure=Failure("run", "x")))
        a, b = (measurement_of(n, round_of(1.0)).sha256 for n in "ab")
        get = store.latencies_ms
        assert get("fake-1", MeasureSettings(), [a, b]) == {a: 2.0}
        assert get("fake-1", MeasureSettings(), [a], "p90") == {a: 5.0}
        assert get("fake-1", MeasureSettings(), [a], "mean") == {a: 3.0}
        assert len(store.failures()) == 2


def test_more_models_than_one_query_takes(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    rows = [measurement_of(f"m{i}", round_of(float(i + 1))) for i in range(0, 1200, 40)]
    shas = [measurement_of(f"m{i}", round_of(1.0)).sha256 for i in range(1200)]
    with Store(target) as store:
        for row in rows:
            store.put(row)
        found = store.latest("fake-1", MeasureSettings(), shas)
    assert found == {row.sha256: row for row in rows}


def test_frame_has_a_line_per_row_and_nan_for_failures(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    with Store(target) as store:
        assert store.to_frame().empty
        store.put(measurement_of("a", round_of(2000.0), flags=("unstable",)))
        store.put(measurement_of("b", failure=Failure("load", "no flatbuffer")))
        frame = store.to_frame().set_index("name")
    assert frame.loc["a", "p50_ms"] == 2.0
    assert frame.loc["a", "flags"] == "unstable"
    assert frame["p50_ms"].isna().to_dict() == {"a": False, "b": True}
    assert frame.loc["b", "failed_at"] == "load"


def test_devices_are_remembered_once_with_the_newest_description(
    target: Target,
) -> None:
    old = DeviceInfo("host", "host", "f1", "m", "s", "a", "o", 2, {"memory": "1"})
    new = DeviceInfo("host", "host", "f1", "m", "s", "a", "o", 2, {"memory": "2"})
    with Store(target) as store:
        store.put_device(old)
        store.put_device(new)
        assert store.devices() == [new]


def test_latencies_are_never_of_two_tools(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    rows = [measurement_of(name, round_of(1000.0), tool_key="old") for name in "abc"]
    new = [measurement_of(name, round_of(2000.0), tool_key="new") for name in "abc"]
    a, b, c = (row.sha256 for row in rows)
    with Store(target) as store:
        for row in [*rows, *new[:2]]:
            store.put(row)
        # The new tool has not measured all yet: its figures do not mix with the old.
        found = store.latencies_ms("fake-1", MeasureSettings(), [a, b, c])
        assert found == {a: 1.0, b: 1.0, c: 1.0}
        store.put(new[2])
        found = store.latencies_ms("fake-1", MeasureSettings(), [a, b, c])
        assert found == {a: 2.0, b: 2.0, c: 2.0}
        assert store.get(a, "fake-1", MeasureSettings(), "old") == rows[0]
        assert store.get(a, "fake-1", MeasureSettings()) == new[0]


def test_names_and_settings_may_be_long_and_odd(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    long = dataclasses.replace(MeasureSettings(), extra=("--x=" + "y" * 5000,))
    odd = measurement_of(
        "caf\\udce9 'x' \N{SNOWMAN}",
        round_of(1.0),
        settings_key=long.key,
        set_aside=(round_of(*[1.0 / 3] * 20_000),),
    )
    garbage = Failure("log", "x", "\0\x1b[0m\udce9")
    with Store(target) as store:
        store.put(odd)
        store.put(measurement_of("b", failure=garbage))
        first, second = store.measurements()
    assert first == odd
    assert second.failure == garbage


def test_frames_tell_the_device_and_hold_every_raw_sample(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    device = DeviceInfo("adb", "0A1B", "fake-1", "Pixel 8", "G3", "a", "Android 15", 9)
    samples = (1 / 3, 1234567.890123, 2.0)
    row = measurement_of("a", round_of(*samples), set_aside=(round_of(7.0),))
    with Store(target) as store:
        assert store.rounds_frame().empty
        store.put_device(device)
        store.put(row)
        figures, rounds = store.to_frame(), store.rounds_frame()
    assert figures[["device", "model", "soc", "system"]].values[0].tolist() == [
        "0A1B",
        "Pixel 8",
        "G3",
        "Android 15",
    ]
    assert rounds["set_aside"].to_list() == [False, True]
    told = [float(text) for text in str(rounds.loc[0, "samples_us"]).split()]
    assert tuple(told) == samples
    assert rounds["device"].to_list() == ["0A1B"] * 2
