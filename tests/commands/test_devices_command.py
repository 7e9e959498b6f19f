"""`mess devices` and `mess profile` on several devices, with phones played."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from android_bench import records
from android_bench.errors import BenchError
from android_bench.many import DeviceRun
from android_bench.options import MeasureOptions
from android_bench.phones.listing import PhoneListing
from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    Measurement,
    MeasureSettings,
    Round,
)
from mess_tf.commands import devices as devices_command
from mess_tf.commands import profile as profile_command
from mess_tf.core.errors import UsageError

PIXEL = PhoneListing(
    name="server:0A1B",
    serial="0A1B",
    transport="server",
    state="device",
    advice="measure on it: mess profile ... --device server:0A1B",
    model="Pixel 8",
    soc="Tensor G3",
    android="15",
    abi="arm64-v8a",
    cores=3,
    core_max_khz=(1_704_000, None, 2_914_000),
    gpu="Mali-G715",
    battery_percent=81.0,
    charging=True,
    temperature_c=31.25,
    thermal_status=0,
)
LOCKED = PhoneListing("usb:C3", "C3", "usb", "unauthorized", "tap Allow on the phone")
INFO = DeviceInfo("adb", "C3", "f", "Pixel 8", "soc", "abi", "os", 8)


def test_devices_tells_what_each_is_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("android_bench.devices.list_phones", lambda: [PIXEL, LOCKED])
    result = devices_command.devices()
    host, pixel, locked = result["devices"]
    assert host["name"] == "host" and host["cores"] >= 1
    assert pixel["core_max_khz"] == (1_704_000, None, 2_914_000)
    assert host.keys() == pixel.keys() == locked.keys()
    text = devices_command.render(result)
    assert (
        "server:0A1B (device)\n"
        "  Pixel 8, Tensor G3, Android 15, arm64-v8a, 3 cores (1x1.70, 1x2.91 GHz),"
        " GPU Mali-G715\n"
        "  battery 81 %, charging, 31.2 degrees Celsius, thermal status none\n"
        "  measure on it: mess profile ... --device server:0A1B\n"
        "usb:C3 (unauthorized)\n"
        "  tap Allow on the phone"
    ) in text


def measured(name: str, **fields: Any) -> Measurement:
    values: dict[str, Any] = {
        "name": name,
        "sha256": name * 64,
        "fingerprint": "f",
        "settings_key": MeasureSettings().key,
        "tool_key": "t",
        "rounds": (Round((1000.0, 2000.0, 3000.0), Conditions("now"), runs=3),),
        "time": "now",
    }
    return Measurement(**{**values, **fields})


RUNS = [
    DeviceRun("usb:A1", INFO, (measured("a"), measured("b", flags=("throttled",)))),
    DeviceRun(
        "usb:B2",
        dataclasses.replace(INFO, model="Mate 20"),
        (measured("a", rounds=(), failure=Failure("delegate", "fell back")),),
        "Phone usb:B2 is gone: plug it in again.",
    ),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the measuring package; it answers ``RUNS``."""
    calls: dict[str, Any] = {"runs": RUNS}

    def profile(models: Any, devices: Any, **options: Any) -> list[DeviceRun]:
        calls.update(options, models=models, devices=devices)
        return calls["runs"]

    monkeypatch.setattr("mess_tf.commands.profile.profile_files", profile)
    return calls


def test_profile_tells_each_devices_fate(tmp_path: Path, asked: dict[str, Any]) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    table = tmp_path / "out.csv"
    options = MeasureOptions(delegate="gpu", extra=("--x=1",), cooldown_s=5.0)
    result = profile_command.profile(model, options, device=["all"], csv=table)
    assert asked["devices"] == ("all",)
    assert asked["settings"] == MeasureSettings(
        delegate="gpu", affinity="auto", extra=("--x=1",), cooldown_s=5.0
    )
    assert [(d["name"], d["measured"], d["failed"]) for d in result["devices"]] == [
        ("usb:A1", 2, 0),
        ("usb:B2", 0, 1),
    ]
    stages = [row["stage"] for row in result["failed_measurements"]]
    assert stages == ["delegate", "device"]  # a lost device is a failure too: exit 3
    text = profile_command.render(result)
    assert "usb:A1 b: p50 2.000 ms, p90 3.000 ms, rounds spread 0.0% throttled" in text
    assert (
        "device  model    measured  flagged  failed\n"
        "usb:A1  Pixel 8         2        1       0\n"
        "usb:B2  Mate 20         0        0       1\n"
        "  1 throttled: the device slowed itself down, being hot\n"
        "  They are stored and used; on a calm device --fresh measures again.\n"
        "  usb:B2 was lost: Phone usb:B2 is gone: plug it in again.\n"
        "  failed on usb:B2: a (delegate): fell back\n"
        f"Stored in {model}.profiles.sqlite\n"
        f"Tables: {table}, {tmp_path / 'out.rounds.csv'}"
    ) in text
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [(r["name"], r["p50_ms"], r["failed_at"]) for r in lines] == [
        ("a", "2.0", ""),
        ("b", "2.0", ""),
        ("a", "", "delegate"),
    ]
    with table.with_name("out.rounds.csv").open() as file:
        rounds = list(csv.DictReader(file))
    assert [r["samples_us"] for r in rounds] == ["1000.0 2000.0 3000.0"] * 2


def test_every_flag_of_a_measurement_has_a_meaning() -> None:
    known = {
        value
        for name, value in vars(records).items()
        if name.isupper() and isinstance(value, str)
    }
    assert set(profile_command._MEANING) == known


def test_the_recipe_names_the_device_where_none_is_given(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    profile_command.profile(model)
    assert asked["devices"] == ("host",)
    assert asked["settings"] == MeasureSettings()
    profile_command.profile(model, device="usb:A1")
    assert asked["devices"] == ("usb:A1",)


def test_a_table_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    with pytest.raises(BenchError, match=r"absent/x\.csv cannot be written"):
        profile_command.profile(model, csv=tmp_path / "absent" / "x.csv")
    assert "devices" not in asked


def test_the_password_of_a_store_is_not_shown(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    result = profile_command.profile(model, store="postgresql://u:geheim@h/d")
    assert asked["store"] == "postgresql://u:geheim@h/d"
    assert result["store"] == "postgresql://u:***@h/d"


def test_a_single_file_takes_no_precision(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    with pytest.raises(UsageError, match="leave --precision out"):
        profile_command.profile(model, precision="int8")
    assert "devices" not in asked
