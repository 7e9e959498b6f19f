"""A phone's state and facts from its answers; what a log and its frame make."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from android_bench.errors import BenchError
from android_bench.phones.conditions import (
    SlowState,
    as_conditions,
    parse_quick,
    parse_slow,
)
from android_bench.phones.facts import parse_facts
from android_bench.phones.result import foreign_load, read_frame, summary_of
from android_bench.phones.script import Frame
from android_bench.records import Conditions, Failure

CPUFREQ = "/sys/devices/system/cpu/cpu{}/cpufreq/{}"
QUICK = "\n".join(
    [
        "/proc/uptime:8000.25 60000.00",
        "/proc/loadavg:1.20 0.90 0.41 1/903 21504",
        "/proc/stat:cpu  200 40 60 9000 14 8 10 2 0 0",
        "/proc/stat:cpu0 100 20 30 4500 7 4 5 1 0 0",
        "/proc/stat:cpu1 100 20 30 4500 7 4 5 1 0 0",
        "/proc/stat:btime 1700000000",
        "/proc/sys/kernel/random/boot_id:f3f1c3d0-0000-4000-8000-000000000001",
        *[f"{CPUFREQ.format(n, 'scaling_cur_freq')}:{1_000_000 + n}" for n in (0, 1)],
        *[f"{CPUFREQ.format(n, 'scaling_max_freq')}:2000000" for n in (0, 1)],
        *[f"{CPUFREQ.format(n, 'scaling_governor')}:walt" for n in (0, 1)],
    ]
)
BATTERY = "  status: {}\n  level: {}\n  scale: 100\n  temperature: 314\n"
THERMAL = (
    "Thermal Status: 0\nCurrent temperatures from HAL:\n"
    "Temperature{{mValue=41.5, mType=3, mName=SKIN, mStatus={}}}\n"
)


def conditions(
    quick: str = QUICK, caps: dict[int, int] | None = None, **slow: str
) -> Conditions:
    return as_conditions(
        parse_slow(slow),
        parse_quick(quick),
        (0, 1),
        {0: 2_000_000, 1: 2_000_000} if caps is None else caps,
        {0: 2_000_000, 1: 2_000_000},
    )


def test_the_quick_state_is_read() -> None:
    quick = parse_quick(QUICK)
    assert (quick.uptime_s, quick.boot_s, quick.load) == (8000.25, 1.7e9, 1.2)
    assert dict(quick.busy_s) == pytest.approx({0: 1.6, 1: 1.6})
    assert quick.boot_id == "f3f1c3d0-0000-4000-8000-000000000001"
    assert dict(quick.caps_khz) == {0: 2_000_000, 1: 2_000_000}
    assert [core.governor for core in quick.cores] == ["walt", "walt"]


def test_a_phone_that_tells_nothing_gives_nothing() -> None:
    empty = as_conditions(SlowState(), parse_quick(""), (), {}, {})
    assert dataclasses.replace(empty, time="") == Conditions("")


def test_conditions_are_those_of_the_phone() -> None:
    told = conditions(
        battery=BATTERY.format(3, 77),
        thermal=THERMAL.format(0),
        low_power="0\n",
        power="Display Power: state=ON\n",
    )
    assert (told.temperature_c, told.battery_percent, told.charging) == (
        41.5,
        77,
        False,
    )
    assert (told.throttled, told.governor, told.load) == (False, "walt", 1.2)
    assert told.frequencies_khz == (1_000_000, 1_000_001)
    assert set(told.other) == {"thermal_status", "boot"}


@pytest.mark.parametrize(
    ("answers", "flag"),
    [
        ({"low_power": "1\n"}, "power_save"),
        ({"power": "  mIsBatterySaverEnabled=true\n"}, "power_save"),
        ({"power": "Display Power: state=OFF\n"}, "screen_off"),
        ({"power": "  mWakefulness=Asleep\n"}, "screen_off"),
        ({"battery": BATTERY.format(3, 19)}, "low_battery"),
    ],
)
def test_what_spoils_a_figure_is_flagged(answers: dict[str, Any], flag: str) -> None:
    assert conditions(**answers).other[flag] == "yes"


@pytest.mark.parametrize(
    "answers",
    [
        {"low_power": "null\n", "power": "  mIsBatterySaverEnabled=false\n"},
        {"power": "  mWakefulness=Awake\nDisplay Power: state=ON\n"},
        {"battery": BATTERY.format(2, 19)},
        {"battery": BATTERY.format(3, 20)},
        {"battery": "Can't find service: battery"},
    ],
)
def test_what_does_not_is_not(answers: dict[str, Any]) -> None:
    assert not set(conditions(**answers).other) & {
        "power_save",
        "screen_off",
        "low_battery",
    }


def test_a_sensor_throttles_although_the_phone_says_0() -> None:
    assert conditions(thermal=THERMAL.format(3)).throttled is True
    assert conditions(thermal=THERMAL.format(3)).other["thermal_status"] == "3"


def test_cores_held_lower_than_before_are_throttled() -> None:
    cut = QUICK.replace(
        "cpu1/cpufreq/scaling_max_freq:2000000", "cpu1/cpufreq/scaling_max_freq:1300000"
    )
    assert conditions(cut).throttled is True
    assert "capped" not in conditions(cut).other
    # From the start: waiting changes nothing, but the row says it.
    always = conditions(cut, caps={0: 2_000_000, 1: 1_300_000})
    assert always.throttled is False
    assert always.other["capped"] == "yes"


def facts(**answers: str) -> Any:
    told = {
        "properties": "[ro.product.model]: [X1]\n[ro.product.manufacturer]: [Acme]\n",
        "cpuinfo": "processor\t: 0\n\nprocessor\t: 1\n",
        "online": "0-1\n",
        "cpufreq": f"{CPUFREQ.format(1, 'cpuinfo_max_freq')}:2000000\n",
        "gpu": "",
        "memory": "",
        **answers,
    }
    return parse_facts(told, "phone X")


def test_cores_without_cpufreq_are_there_all_the_same() -> None:
    assert dict(facts().core_max_khz) == {0: None, 1: 2_000_000}
    assert dict(facts(online="grep: refused").core_max_khz) == {0: None, 1: 2_000_000}


def test_a_fingerprint_is_of_the_kind_not_of_the_copy() -> None:
    one, other = (facts().as_device(n, n) for n in ("SER1", "SER2"))
    assert one.fingerprint == other.fingerprint
    newer = facts(
        properties="[ro.product.model]: [X1]\n[ro.build.version.release]: [15]"
    )
    assert newer.as_device("SER1", "SER1").fingerprint != one.fingerprint


def test_the_abi_is_that_of_programs_not_of_the_kernel() -> None:
    text = "[ro.product.cpu.abilist64]: []\n[ro.product.cpu.abilist]: [armeabi-v7a]\n"
    assert facts(properties=text).abi == "armeabi-v7a"
    text = "[ro.product.cpu.abi]: [armeabi-v7a]\n"
    assert facts(properties=text).abi == "armeabi-v7a"
    text = "[ro.product.cpu.abilist64]: [arm64-v8a]\n[ro.product.cpu.abilist]: [x]\n"
    assert facts(properties=text).abi == "arm64-v8a"


def test_something_else_than_android_is_told() -> None:
    with pytest.raises(BenchError, match="phone X does not answer as an Android phone"):
        facts(properties="sh: getprop: not found")


def test_recorded_phones_have_their_facts(shared_data: Path) -> None:
    folder = shared_data / "device_logs" / "phones"
    properties = (folder / "getprop_poco-f6.txt").read_text()
    poco = facts(properties=properties)
    assert poco.model == "Xiaomi POCO F6 (24069PC21I)"
    assert (poco.soc, poco.abi, poco.android) == ("QTI SM8635", "arm64-v8a", "15")
    old = facts(properties=(folder / "getprop_huawei-g700-android44.txt").read_text())
    assert (old.soc, old.abi, old.android) == ("mt6589", "armeabi-v7a", "4.4.2")
    files = json.loads((folder / "sysfs_pixel-8.json").read_text())["files"]
    listing = "".join(f"{p}:{c}" for p, c in files.items() if "max_freq" in p)
    pixel = facts(cpufreq=listing, online=files["/sys/devices/system/cpu/online"])
    assert sorted(set(pixel.core_max_khz.values())) == [1704000, 2367000, 2914000]
    assert list(pixel.core_max_khz.values())[-1] == 2914000


RESULT = """\
INFO: STARTING!
INFO: Initialized session in 3.5ms.
INFO: count=10 first=120 curr=100 min=100 max=120 avg=104 std=5
INFO: count=5000 first=100 curr=100 min=90 max=130 avg=101 std=6 p5=91 median=99 p95=120
INFO: Inference timings in us: Init: 3500, First inference: 120, Warmup (avg): 104, \
Inference (avg): 101
"""


def frame(
    log: str = RESULT, code: int = 0, elapsed_s: float = 1.0, **after: Any
) -> Frame:
    before = parse_quick(QUICK)
    busy_s = {0: 1.6 + elapsed_s, 1: 1.6 + 0.5 * elapsed_s}
    changes = {"uptime_s": 8000.25 + elapsed_s, "busy_s": busy_s, **after}
    return Frame(0, code, log, before, dataclasses.replace(before, **changes), 0.9)


def test_a_good_run_is_read() -> None:
    log = read_frame(frame(), [], "cpu")
    assert not isinstance(log, Failure) and log.timings and log.timings.regular
    summary = summary_of(log.timings.regular)
    assert (summary.count, summary.median_us, summary.p95_us) == (5000, 99, 120)
    # Core 0 was busy for 1 s, 0.9 s of it with the benchmark.
    assert foreign_load(frame(), (0,)) == pytest.approx(0.1)
    assert foreign_load(frame(), (0, 1)) == pytest.approx(0.6)
    assert foreign_load(frame(), (5,)) is None


def test_runs_that_are_all_the_same_have_a_median() -> None:
    line = "INFO: count=5000 first=100 curr=100 min=90 max=130 avg=101 std=6 p5=91"
    log = RESULT.replace(
        f"{line} median=99 p95=120", "INFO: count=9 curr=101 (all same)"
    )
    read = read_frame(frame(log), [], "cpu")
    assert not isinstance(read, Failure) and read.timings and read.timings.regular
    assert summary_of(read.timings.regular).median_us == 101


@pytest.mark.parametrize(
    ("log", "code", "stage", "told"),
    [
        (RESULT, 1, "run", "exit code 1"),
        (RESULT, 137, "run", "killed by SIGKILL (out of memory?)"),
        (RESULT, 139, "run", "killed by SIGSEGV"),
        (RESULT[:-20], 0, "log", "neither a complete result nor"),
        ("", 0, "log", "neither a complete result nor"),
        ("\x00\xff garbage", 0, "log", "neither a complete result nor"),
        ("sh: ./benchmark_model: not found\n", 127, "run", "not found"),
        ("ERROR: Failed to load model /x\n", 1, "load", "Failed to load model"),
        (RESULT + "ERROR: Benchmarking failed.\n", 1, "run", "Benchmarking failed"),
        (RESULT + RESULT, 0, "log", "several runs|of 2 runs"),
    ],
)
def test_a_bad_end_is_a_failure_never_a_number(
    log: str, code: int, stage: str, told: str
) -> None:
    failure = read_frame(frame(log, code), [], "cpu")
    assert isinstance(failure, Failure)
    assert failure.stage == stage
    assert any(part in failure.message for part in told.split("|"))


def test_more_time_than_passed_is_no_result() -> None:
    failure = read_frame(frame(elapsed_s=0.3), [], "cpu")
    assert isinstance(failure, Failure) and failure.stage == "clock"
    assert "add up to 0.51 s, but only 0.30 s passed" in failure.message


@pytest.mark.parametrize("jump_s", [-3600.0, 2.0, 86400.0])
def test_a_clock_that_was_set_is_no_result(jump_s: float) -> None:
    failure = read_frame(frame(boot_s=1.7e9 + jump_s), [], "cpu")
    assert isinstance(failure, Failure) and failure.stage == "clock"
    # Rounding of the time of boot is no jump.
    assert not isinstance(read_frame(frame(boot_s=1.7e9 + 1), [], "cpu"), Failure)
