"""`mess profile --operators`: what it tells, writes and refuses."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from android_bench.errors import BenchError
from android_bench.operator_profiling import OperatorRun
from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.options import MeasureOptions
from android_bench.records import DeviceInfo, Failure, MeasureSettings
from mess_tf.commands import profile as profile_command
from mess_tf.core.errors import UsageError

INFO = DeviceInfo("adb", "C3", "f", "Pixel 8", "soc", "abi", "os", 8)
CONV = OperatorTime("Convolution (NHWC, F32) IGEMM", "", 0, "", "X", 90.0, 0.9, 1.0)
ADD = OperatorTime("ADD", "sum", 1, "", "", 10.0, 0.1, 1.0)


def profiled(name: str, *operators: OperatorTime, **fields: Any) -> OperatorProfile:
    values: dict[str, Any] = {
        "name": name,
        "sha256": name * 8,
        "fingerprint": "f",
        "settings_key": MeasureSettings().key,
        "tool_key": "t",
        "time": "now",
        "operators": operators,
        "rounds": 5,
    }
    return OperatorProfile(**{**values, **fields})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the measuring package, which answers two devices."""
    calls: dict[str, Any] = {}
    slow = dataclasses.replace(CONV, kind="Convolution (NHWC, QC8) IGEMM", time_us=120)
    runs = [
        OperatorRun(
            "usb:A1",
            INFO,
            (profiled("float32/s", CONV, ADD), profiled("int8/s", slow, ADD)),
        ),
        OperatorRun(
            "usb:B2",
            INFO,
            (profiled("float32/s", failure=Failure("run", "crashed"), rounds=0),),
            "Phone usb:B2 is gone: plug it in again.",
        ),
    ]

    def play(models: Any, devices: Any, **options: Any) -> list[OperatorRun]:
        calls.update(options, models=models, devices=devices)
        return runs

    path = "mess_tf.commands.operator_profiles.profile_operators"
    monkeypatch.setattr(path, play)
    monkeypatch.setattr(
        "mess_tf.commands.profile.profile_files",
        lambda *_, **__: pytest.fail("latencies were measured"),
    )
    return calls


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"x")
    return path


def test_operators_are_told_instead_of_latencies(
    model: Path, asked: dict[str, Any]
) -> None:
    table = model.with_name("o.csv")
    result = profile_command.profile(
        model, MeasureOptions(threads=2), device="all", csv=table, operators=True
    )
    assert asked["devices"] == ("all",)
    assert asked["settings"] == MeasureSettings(threads=2)
    assert result["measured"] == []
    assert [row["total_us"] for row in result["operators"]] == [100.0, 130.0]
    (slow,) = result["slower_in_int8"]
    assert (slow["piece"], slow["family"]) == ("s", "Convolution IGEMM")
    assert (slow["float32_us"], slow["int8_us"]) == (90.0, 120)
    stages = [row["stage"] for row in result["failed_measurements"]]
    assert stages == ["run", "device"]  # exit code 3
    text = profile_command.render(result)
    assert "usb:A1 float32/s: Convolution IGEMM 90 us, 90% of its operators" in text
    assert "slower in int8: s, Convolution IGEMM 1: 120 us, float32 90 us" in text
    assert "usb:B2 was lost: Phone usb:B2 is gone" in text
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [(r["name"], r["kind"], r["failed_at"]) for r in lines] == [
        ("float32/s", "Convolution (NHWC, F32) IGEMM", ""),
        ("float32/s", "ADD", ""),
        ("int8/s", "Convolution (NHWC, QC8) IGEMM", ""),
        ("int8/s", "ADD", ""),
        ("float32/s", "", "run"),
    ]


def test_a_share_of_operators_is_refused(model: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave --share out|leave it out"):
        profile_command.profile(model, share=0.5, operators=True)
    assert not asked


def test_a_latency_under_profiling_is_refused_before_any_device_is_opened(
    model: Path, asked: dict[str, Any]
) -> None:
    options = MeasureOptions(extra=("--enable_op_profiling=true",))
    for operators in (False, True):
        with pytest.raises(BenchError, match="give --operators"):
            profile_command.profile(model, options, operators=operators)
    assert not asked
