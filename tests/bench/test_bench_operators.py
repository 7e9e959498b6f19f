"""Per-operator profiles: from tables to records, their store, and the host's."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from android_bench.errors import BenchError
from android_bench.host.device import HostDevice
from android_bench.logs.op_profile import parse_op_profile
from android_bench.operator_profiling import profile_on, profile_operators
from android_bench.operator_records import (
    OperatorProfile,
    OperatorTime,
    combined,
    operator_times,
)
from android_bench.options import MeasureOptions
from android_bench.phones.flags import check_settings
from android_bench.records import Failure, MeasureSettings, ModelFile
from android_bench.store import Store
from android_bench.tables import operators_table, write_operators_csv

LOGS = Path(__file__).parent / "logs"


def operators_of(text: str, *delegates: str, runs: int = 1) -> tuple[OperatorTime, ...]:
    profile = parse_op_profile(text)
    assert profile is not None
    return operator_times(profile, delegates, runs)


def profile_of(
    *operators: OperatorTime, name: str = "m", **fields: Any
) -> OperatorProfile:
    values: dict[str, Any] = {
        "name": name,
        "sha256": "a" * 64,
        "fingerprint": "fake-1",
        "settings_key": MeasureSettings().key,
        "tool_key": "tool 1",
        "time": "2026-01-02T03:04:05+00:00",
        "operators": operators,
        "rounds": 5 if operators else 0,
    }
    return OperatorProfile(**{**values, **fields})


CONV = OperatorTime("CONV_2D", "conv", 0, "", "", 30.0, 0.75, 1.0)
ADD = OperatorTime("ADD", "sum", 1, "", "", 10.0, 0.25, 1.0)


def test_operators_of_the_tools_tables() -> None:
    found = operators_of((LOGS / "profile.txt").read_text(), "TfLiteXNNPackDelegate")
    main = [o for o in found if o.graph == "Primary graph (name: main)"]
    assert [(o.delegate, o.node, o.name) for o in main] == [
        ("TfLiteXNNPackDelegate", 0, ""),
        ("TfLiteXNNPackDelegate", 1, ""),
        ("", 3, "loop, again"),
    ]
    assert [o.time_us for o in main] == [2000.0, 500.0, 7500.0]
    # What happens once, before the runs, is no operator of a run.
    assert not any(o.kind == "AllocateTensors" for o in found)


def test_parts_of_a_node_are_not_added_to_it() -> None:
    profile = profile_of(*operators_of((LOGS / "profile.txt").read_text()))
    assert len(profile.operators) == 6
    assert profile.total_us == 10_000.0


def test_a_whole_partition_as_one_node_names_its_delegate(
    recorded_logs: dict[str, str],
) -> None:
    (row,) = operators_of(recorded_logs["20"])
    assert (row.kind, row.delegate) == ("TfLiteNnapiDelegate", "TfLiteNnapiDelegate")
    assert (row.name, row.node) == ("MobilenetV1/Predictions/Reshape_1", 31)
    assert row.time_us == pytest.approx(1027)


def test_calls_that_the_tool_adds_up_are_divided_by_the_runs() -> None:
    text = (LOGS / "profile.txt").read_text()
    once = operators_of(text)
    tenth = operators_of(text, runs=10)
    assert [o.time_us for o in tenth] == [pytest.approx(o.time_us / 10) for o in once]
    assert [o.times_called for o in tenth] == [o.times_called / 10 for o in once]


def test_control_flow_is_not_added_to_its_bodies_where_both_are_listed_together() -> (
    None
):
    rows = (
        ("CONV_2D", "1.000", "[Builtin]:0"),
        ("IF", "3.000", "[Builtin]:1"),
        ("Delegate/Add (ND)", "2.000", "[Delegate]:0"),
    )
    text = (
        "===================== Run Order =====================\n"
        " [node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]\n"
        + "".join(
            f"  {kind}  {ms}  {ms}  33.333%  33.333%  0.000  1  {name}\n"
            for kind, ms, name in rows
        )
    )
    parsed = parse_op_profile(text)
    assert parsed is not None
    profile = profile_of(*operator_times(parsed, ("X",), flat=True))
    assert [(o.kind, o.graph) for o in profile.operators] == [
        ("CONV_2D", ""),
        ("IF", "Control flow"),
        ("Add (ND)", ""),
    ]
    assert profile.total_us == 3000.0
    # With headings the bodies are graphs of their own, and the node counts.
    assert profile_of(*operator_times(parsed, ("X",))).total_us == 6000.0


def test_rounds_are_combined_by_their_median() -> None:
    rounds = [
        (dataclasses.replace(CONV, time_us=us), dataclasses.replace(ADD, time_us=10.0))
        for us in (30.0, 300.0, 10.0)
    ]
    found = combined(rounds)
    assert not isinstance(found, Failure)
    assert [o.time_us for o in found] == [30.0, 10.0]
    assert [o.share for o in found] == [0.75, 0.25]


def test_rounds_of_other_operators_are_a_failure() -> None:
    found = combined([(CONV, ADD), (ADD, CONV)])
    assert isinstance(found, Failure) and found.stage == "log"


def test_profiles_come_back_from_the_store(target: Path | str) -> None:
    failed = profile_of(failure=Failure("delegate", "fell back", "tail"))
    with Store(target) as store:
        assert store.operator_profiles() == []
        for row in (profile_of(CONV, ADD), profile_of(ADD), failed):
            store.put_operators(row)
    with Store(target) as store:
        assert store.operator_profiles() == [
            profile_of(CONV, ADD),
            profile_of(ADD),
            failed,
        ]
        newest = store.latest_operators("fake-1", MeasureSettings(), ["a" * 64])
        assert newest == {"a" * 64: profile_of(ADD)}
        other = MeasureSettings(threads=2)
        assert store.latest_operators("fake-1", other, ["a" * 64]) == {}
        assert store.measurements() == []


def test_a_store_of_before_gets_the_tables_when_they_are_needed(
    tmp_path: Path, measurement_of: Callable[..., Any], round_of: Callable[..., Any]
) -> None:
    path = tmp_path / "p.sqlite"

    def tables() -> set[str]:
        engine = sa.create_engine(f"sqlite:///{path}")
        try:
            return set(sa.inspect(engine).get_table_names())
        finally:
            engine.dispose()

    row = measurement_of("m", round_of(5.0))
    with Store(path) as store:
        store.put(row)
    assert not tables() & {"operator_profiles", "operators"}
    with Store(path) as store:
        assert store.operator_profiles() == []
        assert "operators" not in tables()
        store.put_operators(profile_of(CONV))
        assert store.measurements() == [row]
    assert {"operator_profiles", "operators"} <= tables()


def test_a_profile_is_either_operators_or_a_failure() -> None:
    with pytest.raises(BenchError, match="either operators or a failure"):
        profile_of()
    with pytest.raises(BenchError, match="either operators or a failure"):
        profile_of(CONV, failure=Failure("run", "no"))


def test_the_table_has_a_line_per_operator_and_one_per_failure(tmp_path: Path) -> None:
    rows = [profile_of(CONV, ADD), profile_of(failure=Failure("run", "crashed"))]
    table = operators_table(rows)
    assert list(table["kind"])[:2] == ["CONV_2D", "ADD"]
    assert list(table["failed_at"]) == ["", "", "run"]
    write_operators_csv(rows, tmp_path / "o.csv")
    read = pd.read_csv(tmp_path / "o.csv")
    assert list(read["time_us"])[:2] == [30.0, 10.0] and len(read) == 3


class Profiler:
    """A device that plays operators; ``None`` is a failure."""

    def __init__(self, fake: Any, played: dict[str, list[Any]]) -> None:
        self._fake, self._played = fake, played
        self.visits: list[str] = []

    def describe(self) -> Any:
        return self._fake.describe()

    def tool(self) -> Any:
        return self._fake.tool()

    def profile_operators(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Any:
        for model in models:
            self.visits.append(model.name)
            outcome = self._played[model.name].pop(0)
            yield model, outcome or Failure("run", "crashed")


def test_a_failed_model_is_not_visited_again_and_the_stored_is_kept(
    tmp_path: Path, fake_device: Callable[..., Any], model_of: Callable[..., ModelFile]
) -> None:
    models = [model_of("a"), model_of("b")]
    settings = MeasureSettings(rounds=3)
    played: dict[str, list[Any]] = {"a": [(CONV,)] * 3, "b": [(CONV,), None]}
    found: list[OperatorProfile] = []
    steps: list[tuple[int, int]] = []
    with Store(tmp_path / "p.sqlite") as store:
        device: Any = Profiler(fake_device(lambda *_: None), played)
        profile_on(
            device,
            models,
            settings,
            store,
            found,
            progress=lambda done, planned, _: steps.append((done, planned)),
        )
        assert device.visits == ["a", "b", "a", "b", "a"]
        assert [(row.name, row.failed) for row in found] == [("b", True), ("a", False)]
        assert steps[-1] == (5, 5)
        played["b"] = [(ADD,)] * 3
        device.visits.clear()
        found.clear()
        profile_on(device, models, settings, store, found)
        assert device.visits == ["b"] * 3
        assert [(row.name, row.failed) for row in found] == [("a", False), ("b", False)]


def test_the_host_profiles_operators_and_stores_no_latency(
    tflite_files: dict[str, Path], short: MeasureSettings, tmp_path: Path
) -> None:
    store = tmp_path / "p.sqlite"
    (run,) = profile_operators(tflite_files, store=store, settings=short)
    assert run.lost == "" and run.info is not None and run.info.kind == "host"
    conv, two = run.profiles
    assert (conv.name, two.name) == ("conv", "two")
    for profile in (conv, two):
        assert profile.failure is None and profile.rounds == 2
        # Whole microseconds: operators this small may take none.
        whole = 1 if profile.total_us else 0
        shares = sum(o.share for o in profile.main_graph)
        assert shares == pytest.approx(whole, abs=1e-5)
        assert all(o.times_called == 1 for o in profile.main_graph)
    assert any("Convolution" in o.kind for o in conv.operators)
    with Store(store) as opened:
        assert opened.measurements() == []
    (again,) = profile_operators(tflite_files, store=store, settings=short)
    assert again.profiles == run.profiles  # with their time: not profiled again


def test_a_model_that_is_none_is_a_failure_of_its_own(
    tflite_files: dict[str, Path], short: MeasureSettings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"TFL3" * 20)
    files = {"broken": broken, "conv": tflite_files["conv"]}
    (run,) = profile_operators(files, store=tmp_path / "p.sqlite", settings=short)
    assert [profile.failed for profile in run.profiles] == [True, False]


def test_a_litert_without_profiler_is_told_in_one_line(
    tflite_files: dict[str, Path], short: MeasureSettings
) -> None:
    script = (
        "import json, sys\n"
        "def say(x): print('@bench ' + json.dumps(x), flush=True)\n"
        "say({'ready': True})\n"
        "for _ in sys.stdin: say({'error': 'its library lacks X', 'at': 'profiler'})\n"
    )
    model = ModelFile.read(tflite_files["conv"])
    with HostDevice(profiler_command=(sys.executable, "-c", script)) as host:
        with pytest.raises(BenchError, match=r"no operator profile.*lacks X.*phone"):
            list(host.profile_operators([model], short))


@pytest.mark.parametrize(
    "flag",
    [
        "--enable_op_profiling=true",
        "--enable_op_profiling",
        "--op_profiling_output_mode=csv",
        "--profiling_output_csv_file=x.csv",
        "--max_profiling_buffer_entries=9",
    ],
)
def test_latencies_are_never_taken_under_profiling(flag: str) -> None:
    with pytest.raises(BenchError, match="give --operators"):
        MeasureOptions(extra=(flag,)).settings()
    with pytest.raises(BenchError, match="give --operators"):
        check_settings(MeasureSettings(extra=(flag,)))
    MeasureOptions(extra=("--allow_fp16=true",)).settings()
