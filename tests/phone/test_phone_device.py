"""A phone as a device: figures, inputs, conditions, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from android_bench.adb.reach import find
from android_bench.devices import open_device
from android_bench.errors import BenchError
from android_bench.host.device import HostDevice
from android_bench.measure import measure
from android_bench.operator_profiling import profile_on
from android_bench.operator_records import OperatorProfile
from android_bench.phones.device import AdbDevice
from android_bench.phones.folder import BASE, OLD_S
from android_bench.records import Failure, MeasureSettings, ModelFile, Round
from android_bench.store import Store
from tests.phone_double import (
    BIG_LITTLE,
    OLD,
    RECORDINGS,
    PhoneDouble,
    convolutions,
    load_recorded,
    write_tool,
)
from tests.support.tiers import sampled

Open = Callable[[], AdbDevice]

SHORT = dataclasses.replace(
    MeasureSettings(),
    rounds=2,
    warmup_runs=1,
    warmup_seconds=0.0,
    runs_per_round=5,
    min_seconds_per_round=0.0,
    max_seconds_per_round=5.0,
    max_spread=1e9,
    cooldown_s=0.0,
    timeout_s=60.0,
)


@pytest.fixture
def models(tmp_path: Path) -> list[ModelFile]:
    """Three networks of one, two and three convolutions."""
    found = []
    for count in (1, 2, 3):
        path = tmp_path / f"m{count}.tflite"
        path.write_bytes(convolutions(count))
        found.append(ModelFile.read(path))
    return found


def one_round(device: Any, models: Any, settings: Any = SHORT) -> dict[str, Any]:
    return {m.name: outcome for m, outcome in device.benchmark(models, settings)}


def rest_of(phone: PhoneDouble) -> list[str]:
    return [path.name for path in phone.host_path(BASE).iterdir()]


def test_models_are_measured_and_nothing_stays(
    open_phone: Open, phone_double: PhoneDouble, models: list[ModelFile], tmp_path: Path
) -> None:
    device = open_phone()
    with Store(tmp_path / "p.sqlite") as store:
        rows = measure(device, models, SHORT, store)
        again = store.latest(
            device.describe().fingerprint, SHORT, [m.sha256 for m in models]
        )
    assert [row.failure for row in rows] == [None, None, None]
    for row in rows:
        assert len(row.rounds) == 2
        for taken in row.rounds:
            assert taken.summary is not None and taken.runs >= 5
            assert taken.init_us and taken.init_us > 0
            assert taken.conditions.battery_percent == 87
            assert taken.conditions.other["affinity"] == "80"
            assert taken.conditions.other["delegates"].startswith("TfLiteXNNPack")
        assert again[row.sha256] == row
    device.close()
    assert rest_of(phone_double) == []


def test_operators_are_profiled_and_never_become_latencies(
    open_phone: Open, phone_double: PhoneDouble, models: list[ModelFile], tmp_path: Path
) -> None:
    device = open_phone()
    found: list[OperatorProfile] = []
    with Store(tmp_path / "p.sqlite") as store:
        profile_on(device, models, SHORT, store, found)
        assert store.measurements() == []
        assert store.operator_profiles() == found
    device.close()
    assert [row.failure for row in found] == [None, None, None]
    counts = {row.name: len(row.operators) for row in found}
    assert counts == {"m1": 1, "m2": 2, "m3": 3}
    for row in found:
        assert row.rounds == SHORT.rounds and row.total_us > 0
        for number, operator in enumerate(row.operators):
            assert (operator.kind, operator.node) == ("CONV_2D", number)
            assert operator.delegate == "TfLiteXNNPackDelegate"
            assert operator.share == pytest.approx(1 / len(row.operators), abs=1e-6)
    assert rest_of(phone_double) == []


def test_a_profile_of_a_delegate_that_fell_back_is_a_failure(
    tool_file: Path, models: list[ModelFile], tmp_path: Path
) -> None:
    settings = dataclasses.replace(SHORT, delegate="gpu")
    kind = dataclasses.replace(BIG_LITTLE, delegates={"gpu": "none"})
    found: list[OperatorProfile] = []
    with PhoneDouble(kind) as phone, Store(tmp_path / "p.sqlite") as store:
        with AdbDevice(find(f"tcp:{phone.serial}"), tool_file) as device:
            profile_on(device, models[:1], settings, store, found)
    (row,) = found
    assert row.failure is not None and row.failure.stage == "delegate"


def test_a_phone_describes_itself(open_phone: Open) -> None:
    info = open_phone().describe()
    assert (info.kind, info.model, info.soc) == ("adb", "Mess Doublet 8", "Mess MS8400")
    assert (info.abi, info.os_version, info.cores) == ("arm64-v8a", "Android 14", 8)
    assert info.fingerprint == open_phone().describe().fingerprint


def test_real_inputs_give_the_outputs_of_the_host(
    open_phone: Open, models: list[ModelFile]
) -> None:
    rng = np.random.default_rng(5)
    inputs = [[rng.normal(size=(1, 16, 16, 8)).astype("f4")] for _ in range(3)]
    with HostDevice() as host:
        wanted = [outputs for _, outputs in host.infer(models[1], inputs, SHORT)]
    found = list(open_phone().infer(models[1], inputs, SHORT))
    assert len(found) == 3
    for (latency_us, outputs), right in zip(found, wanted, strict=True):
        assert latency_us > 0
        assert list(outputs) == list(right) == ["result"]
        np.testing.assert_allclose(outputs["result"], right["result"], atol=1e-5)


def test_inputs_that_do_not_fit_are_told(
    open_phone: Open, models: list[ModelFile]
) -> None:
    device = open_phone()
    wrong = [[np.zeros((1, 8, 8, 8), "f4")]]
    with pytest.raises(BenchError, match="failed on input 0 at stage 'input'"):
        list(device.infer(models[0], wrong, SHORT))
    # The device is as good as before.
    assert isinstance(one_round(device, models[:1])["m1"], Round)


@pytest.mark.parametrize(
    ("change", "flag"),
    sampled(
        [
            ({"power_save": True}, "power_save"),
            ({"screen_on": False}, "screen_off"),
            (
                {"battery_level": 9, "battery_status": 3, "powered_by": ()},
                "low_battery",
            ),
            ({"thermal_status": 2}, "throttled"),
            ({"sensor_status": {"skin-therm": 3}}, "throttled"),
            ({"foreign_load": 3.0}, "disturbed"),
        ],
        2,
    ),
)
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_what_spoils_a_figure_is_in_the_row(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    change: dict[str, Any],
    flag: str,
) -> None:
    for name, value in change.items():
        setattr(phone_double.state, name, value)
    # All cores: the double spreads foreign work over them.
    settings = dataclasses.replace(SHORT, min_seconds_per_round=0.5, affinity="none")
    with Store(tmp_path / "p.sqlite") as store:
        (row,) = measure(open_phone(), models[:1], settings, store)
    assert row.flags == (flag,)


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_a_round_waits_for_a_cooler_phone(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def sleep(seconds: float) -> None:
        phone_double.state.thermal_status = 0

    device = open_phone()
    phone_double.state.thermal_status = 3
    monkeypatch.setattr("android_bench.measure.time.sleep", sleep)
    settings = dataclasses.replace(SHORT, rounds=1, cooldown_s=30.0)
    with Store(tmp_path / "p.sqlite") as store:
        (row,) = measure(
            device, models[:1], settings, store, progress=lambda d, p, t: said.append(t)
        )
    assert "cooling down, 30 s at most" in said
    assert row.flags == ()


@pytest.mark.parametrize(
    ("delegate", "does", "told"),
    sampled(
        [
            ("gpu", "full", "TfLiteGpuDelegate"),
            ("gpu", "partial", "TfLiteGpuDelegate"),
            ("gpu", "none", Failure("delegate", "GPU was asked for, but took nothing")),
            ("gpu", "refused", Failure("run", "Failed to apply GPU delegate")),
            ("nnapi", "full", "TfLiteNnapiDelegate"),
            (
                "nnapi",
                "none",
                Failure("delegate", "NNAPI was asked for, but took nothing"),
            ),
            ("xnnpack-off", "full", ""),
        ],
        3,
    ),
)
def test_delegates_are_as_asked_or_a_failure(
    tool_file: Path,
    models: list[ModelFile],
    delegate: str,
    does: str,
    told: str | Failure,
) -> None:
    kind = dataclasses.replace(BIG_LITTLE, delegates={"gpu": does, "nnapi": does})
    settings = dataclasses.replace(SHORT, delegate=delegate)
    with PhoneDouble(kind) as phone:
        with AdbDevice(find(f"tcp:{phone.serial}"), tool_file) as device:
            outcome = one_round(device, models[2:], settings)["m3"]
    if isinstance(told, Failure):
        assert isinstance(outcome, Failure) and outcome.stage == told.stage
        assert told.message in outcome.message
    else:
        assert isinstance(outcome, Round)
        assert told in outcome.conditions.other.get("delegates", "")


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_settings_that_the_phone_cannot_have_are_refused(
    open_phone: Open, models: list[ModelFile]
) -> None:
    device = open_phone()
    for change in ({"threads": 9}, {"affinity": "f00"}, {"delegate": "tpu"}):
        settings = dataclasses.replace(SHORT, **change)
        with pytest.raises(BenchError):
            one_round(device, models, settings)
    assert isinstance(one_round(device, models)["m1"], Round)


@pytest.fixture
def old_name() -> Iterator[tuple[PhoneDouble, str]]:
    with PhoneDouble(OLD) as phone:
        yield phone, f"tcp:{phone.serial}"


def test_an_old_phone_lacks_much_and_is_measured_all_the_same(
    old_name: tuple[PhoneDouble, str], tool_file: Path, models: list[ModelFile]
) -> None:
    phone, name = old_name
    with AdbDevice(find(name), tool_file) as device:
        assert device.describe().abi == "armeabi-v7a"
        outcomes = one_round(device, models)
        assert all(isinstance(outcome, Round) for outcome in outcomes.values())
    assert rest_of(phone) == []


@pytest.mark.parametrize("name", sampled(RECORDINGS, 2))
def test_recorded_phones_are_measured(
    shared_data: Path, name: str, tool_file: Path, models: list[ModelFile]
) -> None:
    kind = load_recorded(shared_data / "device_logs" / "phones", name)
    with PhoneDouble(kind) as phone:
        with AdbDevice(find(f"tcp:{phone.serial}"), tool_file) as device:
            info = device.describe()
            outcome = one_round(device, models[:1])["m1"]
        assert rest_of(phone) == []
    assert isinstance(outcome, Round)
    assert info.model and info.soc != "unknown SoC" and info.os_version
    # This phone was hot when it was recorded; the sensor says so, the phone does not.
    assert bool(outcome.conditions.throttled) is (name == "poco-f6")


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_a_tool_without_medians_gives_means_and_says_so(
    open_phone: Open, phone_double: PhoneDouble, models: list[ModelFile], tmp_path: Path
) -> None:
    phone_double.system.desk.style = "old"
    with Store(tmp_path / "p.sqlite") as store:
        (row,) = measure(open_phone(), models[:1], SHORT, store)
    assert row.flags == ("mean_only",)
    for taken in row.rounds:
        assert taken.summary is not None and taken.summary.median_us is None
        assert taken.samples_us == (taken.summary.mean_us,)
    assert row.p50_ms <= row.p90_ms


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_a_tool_for_other_phones_is_told(
    phone_name: str, tmp_path: Path, models: list[ModelFile]
) -> None:
    tool = write_tool(tmp_path / "other", abi="x86_64")
    with AdbDevice(find(phone_name), tool) as device:
        with pytest.raises(BenchError, match=r"tool .*other does not run on phone"):
            one_round(device, models[:1])


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_left_overs_of_crashed_runs_go_and_nothing_else(
    open_phone: Open, phone_double: PhoneDouble
) -> None:
    folder = phone_double.host_path(BASE)
    names = {
        "mess-0123456789abcdef": OLD_S + 60,
        "mess-00000000000000ff": OLD_S - 60,
        "mess-mine": OLD_S + 60,
        "other": OLD_S + 60,
    }
    for name, age_s in names.items():
        (folder / name).mkdir()
        (folder / name / "file").write_text("x")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    (folder / "mess-ffffffffffffffff").symlink_to("other")
    open_phone().close()
    kept = {*names, "mess-ffffffffffffffff"} - {"mess-0123456789abcdef"}
    assert set(rest_of(phone_double)) == kept


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_an_interrupt_leaves_nothing(
    open_phone: Open, phone_double: PhoneDouble, models: list[ModelFile], tmp_path: Path
) -> None:
    def interrupt(done: int, planned: int, text: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    settings = dataclasses.replace(SHORT, min_seconds_per_round=0.3)
    with Store(tmp_path / "p.sqlite") as store, pytest.raises(KeyboardInterrupt):
        with open_phone() as device:
            measure(device, models, settings, store, progress=interrupt)
    assert rest_of(phone_double) == []


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_a_device_is_opened_by_its_name(
    phone_name: str,
    tool_file: Path,
    models: list[ModelFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MESS_BENCHMARK_MODEL", str(tool_file))
    with open_device(phone_name) as device:
        assert isinstance(one_round(device, models[:1])["m1"], Round)
