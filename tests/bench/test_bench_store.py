"""The store: round trips, newest figure, failures, two writers, broken targets."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.errors import BenchError
from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    MeasureSettings,
    Round,
    Summary,
)
from android_bench.store import Store

Make = Callable[..., Any]
Target = Path | str

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """An empty place for a store on each kind of database."""
    if request.param == "sqlite":
        return tmp_path / "p.sqlite"
    url: str = request.getfixturevalue("empty_postgresql")
    return url


def test_rows_are_there_for_the_next_process(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    row = measurement_of("a", round_of(1.25, 2.5), round_of(3.0))
    with Store(tmp_path / "deep" / "p.sqlite") as store:
        store.put(row)
    with Store(f"sqlite:///{tmp_path}/deep/p.sqlite") as store:
        assert store.get(row.sha256, "fake-1", MeasureSettings(), "tool 1") == row
        assert store.get(row.sha256, "fake-1", MeasureSettings(), "tool 2") is None
        assert store.get(row.sha256, "fake-2", MeasureSettings()) is None
        assert store.get(row.sha256, "fake-1", MeasureSettings(threads=2)) is None


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


WRITER = """
import json, sys
from android_bench.records import DeviceInfo, Measurement
from android_bench.store import Store
target, start, row = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
store = Store(target)
store.put_device(DeviceInfo("host", "host", "f1", "m", "s", "a", "o", 2))
for number in range(start, start + 40):
    store.put(Measurement.from_json({**row, "name": f"m{number}"}))
"""


def test_two_processes_write_one_store_that_they_also_race_to_make(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    row = json.dumps(measurement_of("m", round_of(1.0, 2.0), round_of(3.0)).as_json())
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target), str(start), row], cwd=ROOT
        )
        for start in (0, 1000)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with Store(target) as store:
        rows = store.measurements()
        assert len(store.devices()) == 1
    assert {r.name for r in rows} == {f"m{s + i}" for s in (0, 1000) for i in range(40)}
    assert all(len(r.rounds) == 2 for r in rows)


def test_a_reader_does_not_make_a_store(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="p.sqlite; run `mess profile` first"):
        Store(tmp_path / "p.sqlite", must_exist=True)
    assert not (tmp_path / "p.sqlite").exists()
    Store(tmp_path / "p.sqlite").close()
    Store(tmp_path / "p.sqlite", must_exist=True).close()


def test_a_target_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("this is no database, and long enough to be read as one" * 20)
    (tmp_path / "file").write_text("")
    for target in (
        text,
        tmp_path,
        tmp_path / "file" / "p.sqlite",
        "nosuchdb://host/x",
        "nonsense://",
    ):
        with pytest.raises(BenchError) as caught:
            Store(target)
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_store_from_before_summaries_is_read_and_written(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    path = tmp_path / "p.sqlite"
    with Store(path) as store:
        store.put(measurement_of("a", round_of(1.0)))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE rounds DROP COLUMN summary")
    connection.close()
    summary = Summary(9, 1.0, 9.0, 3.0, 2.0, 1.0, 2.0, 9.0)
    row = measurement_of("b", Round.of_summary(summary, Conditions("now"), None))
    with Store(path) as store:
        store.put(row)
        assert [r.name for r in store.measurements()] == ["a", "b"]
        assert store.get(row.sha256, "fake-1", MeasureSettings()) == row


def test_a_missing_driver_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BenchError, match=r"'psycopg'.*pip install mess-tf\[postgres"):
        Store("postgresql://nobody@127.0.0.1:1/none")


def test_a_server_that_does_not_answer_is_one_clear_line() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(BenchError, match=r"cannot be used: .*refused"):
        Store("postgresql://nobody@127.0.0.1:1/none")
