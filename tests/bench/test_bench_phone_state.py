"""What phones answer: texts of our own making in the shapes that real ones have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.adb.device_list import AdbListed, parse_adb_devices
from android_bench.errors import ParseError
from android_bench.phones.cpu import (
    CoreFrequency,
    CpuCore,
    CpuInfo,
    parse_core_list,
    parse_cpufreq,
    parse_cpuinfo,
    parse_files,
)
from android_bench.phones.dumpsys_parsers import (
    Battery,
    Temperature,
    parse_battery,
    parse_getprop,
    parse_thermal,
)

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 2000000
  status: 2
  health: 2
  present: true
  level: 31
  scale: 50
  voltage: 4021
  temperature: 287
  technology: Li-ion
"""

THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=stale, mStatus=5}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=61.5, mType=0, mName=cpu 0, mStatus=0}
\tTemperature{mValue=44.25, mType=3, mName=skin, quiet, mStatus=3}
\tTemperature{mValue=0.0, mType=2, mName=no such battery, mStatus=0}
\tTemperature{mValue=NaN, mType=1, mName=gpu, mStatus=0}
\tTemperature{mValue=-274.0, mType=9, mName=npu, mStatus=0}
\tTemperature{mValue=88.0, mType=8, mName=soc, mStatus=1}
\tTemperature{mValue=3.5E1, mType=10, mName=odd, mStatus=0}
\tTemperature{mValue=36.0, mType=17, mName=new, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=fan}
Temperature static thresholds from HAL:
\tTemperatureThreshold{mType=3, mName=skin, mHotThrottlingThresholds=[NaN, 38.0]}
"""


def test_battery() -> None:
    battery = parse_battery(BATTERY)
    assert battery == Battery(62.0, "charging", ("usb",), 28.7, 4.021)
    assert battery.charging is True


@pytest.mark.parametrize(
    ("status", "name", "charging"),
    [
        (1, "unknown", None),
        (3, "discharging", False),
        (4, "not charging", False),
        (5, "full", True),
        (7, "unknown", None),
    ],
)
def test_battery_status(status: int, name: str, charging: bool | None) -> None:
    battery = parse_battery(BATTERY.replace("status: 2", f"status: {status}"))
    assert (battery.status, battery.charging) == (name, charging)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("voltage: 4021", "voltage: 0", "voltage_v"),
        ("voltage: 4021", "voltage: 4021000", "voltage_v"),
        ("voltage: 4021", "voltage: 4", "voltage_v"),
        ("  voltage: 4021\n", "", "voltage_v"),
        ("temperature: 287", "temperature: 28700", "temperature_c"),
        ("temperature: 287", "temperature: 0", "temperature_c"),
        ("temperature: 287", "temperature: -2740", "temperature_c"),
        ("temperature: 287", "temperature: 28.7", "temperature_c"),
        ("level: 31", "level: 310", "level_percent"),
        ("level: 31", "level: -1", "level_percent"),
        ("scale: 50", "scale: 0", "level_percent"),
        ("present: true", "present: false", "level_percent"),
        ("present: true", "present: false", "temperature_c"),
    ],
)
def test_a_figure_in_another_unit_is_not_told(old: str, new: str, field: str) -> None:
    assert BATTERY.count(old) == 1
    assert getattr(parse_battery(BATTERY), field) is not None
    assert getattr(parse_battery(BATTERY.replace(old, new)), field) is None


def test_a_makers_own_battery_section_does_not_count() -> None:
    more = "  Maker's section:\n  level: 99\n  voltage: 1\n  temperature: 999\n"
    assert parse_battery(BATTERY + more) == parse_battery(BATTERY)


def test_thermal_takes_current_values_and_the_worst_status() -> None:
    thermal = parse_thermal(THERMAL)
    assert thermal.temperatures == (
        Temperature("cpu 0", "cpu", 61.5, 0),
        Temperature("skin, quiet", "skin", 44.25, 3),
        Temperature("no such battery", "battery", None, 0),
        Temperature("gpu", "gpu", None, 0),
        Temperature("npu", "npu", None, 0),
        # 88 % of its charge, not 88 degrees.
        Temperature("soc", "bcl percentage", None, 1),
        Temperature("odd", "type 10", None, 0),
        Temperature("new", "type 17", 36.0, 0),
    )
    assert (thermal.status, thermal.worst_status) == (0, 3)
    assert thermal.hottest_c() == 61.5
    assert thermal.hottest_c("skin", "battery") == 44.25
    assert thermal.hottest_c("gpu") is None


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n",
        "Can't find service: thermalservice\n",
        "Permission Denial: can't dump thermalservice from from pid=1, uid=2000\n",
    ],
)
def test_phones_without_a_thermal_service(answer: str) -> None:
    thermal = parse_thermal(answer)
    assert (thermal.status, thermal.worst_status) == (None, None)
    assert thermal.hottest_c() is None


def test_getprop() -> None:
    text = (
        "[ro.a]: [two words]\n[ro.empty]: []\n[ro.lines]: [first\n  second]\nthird]\n"
        "[ro.brackets]: [[x]: y]\n\n"
    )
    wanted = {
        "ro.a": "two words",
        "ro.empty": "",
        "ro.lines": "first\n  second]\nthird",
        "ro.brackets": "[x]: y",
    }
    assert parse_getprop(text) == wanted
    assert parse_getprop(text.replace("\n", "\r\n")) == wanted


@given(
    st.dictionaries(
        st.from_regex(r"ro\.[a-z._]{1,12}", fullmatch=True),
        st.from_regex(r"[ -~]{0,20}", fullmatch=True),
        min_size=1,
        max_size=8,
    )
)
def test_getprop_reads_any_one_line_values(props: dict[str, str]) -> None:
    text = "".join(f"[{key}]: [{value}]\n" for key, value in props.items())
    assert parse_getprop(text) == props


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        (parse_getprop, "", "no property"),
        (parse_getprop, "error: closed\n", "no property: 'error: closed'"),
        (parse_getprop, "[ro.a]: [x]\n[ro.b]: [cut", "ends inside property 'ro.b'"),
        (parse_getprop, "[ro.a]: [cut\n[ro.b]: [x]\n", "ends inside property 'ro.a'"),
        (parse_battery, "", "no dumpsys battery"),
        (parse_battery, "Can't find service: battery", "Can't find service"),
        (parse_battery, BATTERY[:150], "no dumpsys battery"),
        (parse_thermal, "error: closed", "no dumpsys thermalservice"),
        (parse_cpuinfo, "cat: /proc/cpuinfo: Permission denied", "Permission denied"),
        (parse_core_list, "0-", "no list of cores"),
        (parse_core_list, "x", "no list of cores"),
        (parse_adb_devices, "error: protocol fault", "no list of adb devices"),
        (parse_adb_devices, "List of devices attached\nabc flying\n", "'abc flying'"),
    ],
)
def test_other_answers_are_refused(
    parse: Callable[[str], Any], text: str, why: str
) -> None:
    with pytest.raises(ParseError, match=why) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_cpuinfo_of_a_new_kernel() -> None:
    text = (
        "processor\t: 0\nBogoMIPS\t: 26.00\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU part\t: 0xd05\n\n"
        "processor\t: 4\nCPU implementer\t: 0x48\nCPU part\t: 0xd40\n\n"
        "Hardware\t: Maker, Inc CHIP9000\n"
    )
    wanted = CpuInfo(
        (CpuCore(0, "0x41", "0xd05"), CpuCore(4, "0x48", "0xd40")),
        "Maker, Inc CHIP9000",
    )
    assert parse_cpuinfo(text) == wanted
    assert parse_cpuinfo(text.replace("\n", "\r\n")) == wanted


def test_cpuinfo_of_an_old_kernel_tells_the_part_once() -> None:
    text = (
        "Processor\t: ARMv7 Processor rev 4 (v7l)\nprocessor\t: 0\nBogoMIPS\t: 26\n\n"
        "processor\t: 1\nBogoMIPS\t: 26\n\nFeatures\t: neon\nCPU implementer\t: 0x41\n"
        "CPU part\t: 0xd03\n\nHardware\t: CHIP\nSerial\t\t: 0\n"
    )
    assert parse_cpuinfo(text) == CpuInfo(
        (CpuCore(0, "0x41", "0xd03"), CpuCore(1, "0x41", "0xd03")), "CHIP"
    )


def test_files_from_grep() -> None:
    folder = "/sys/devices/system/cpu"
    text = (
        f"{folder}/cpu0/cpufreq/scaling_governor:walt\r\n"
        f"grep: {folder}/cpu0/cpufreq/cpuinfo_cur_freq: Permission denied\n"
        f"{folder}/cpu1/cpufreq/stats: No such file or directory\n"
        "/sys/x:first\n/sys/x:a:b\n\n"
    )
    assert parse_files(text) == {
        f"{folder}/cpu0/cpufreq/scaling_governor": "walt",
        "/sys/x": "first\na:b",
    }


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3\n", (0, 1, 2, 3)), ("0,2-3,7", (0, 2, 3, 7)), ("5", (5,)), ("\n", ())],
)
def test_core_lists(text: str, cores: tuple[int, ...]) -> None:
    assert parse_core_list(text) == cores


def test_cpufreq_tells_only_kilohertz() -> None:
    folder = "/sys/devices/system/cpu"
    files = {
        f"{folder}/cpu10/cpufreq/cpuinfo_max_freq": "2914000\n",
        f"{folder}/cpu0/cpufreq/cpuinfo_max_freq": "1704000\n",
        f"{folder}/cpu0/cpufreq/cpuinfo_min_freq": "324\n",
        f"{folder}/cpu0/cpufreq/scaling_cur_freq": "1704000000\n",
        f"{folder}/cpu0/cpufreq/scaling_governor": "schedutil\n",
        f"{folder}/cpu0/topology/core_id": "0\n",
        f"{folder}/online": "0-10\n",
    }
    assert parse_cpufreq(files) == (
        CoreFrequency(0, 1704000, None, None, "schedutil"),
        CoreFrequency(10, 2914000, None, None, None),
    )


def test_adb_devices() -> None:
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started\n"
        "List of devices attached\n"
        "R58 (2)._adb-tls-connect._tcp\tdevice\n"
        "emulator-5554 device product:sdk model:a_b device:gen transport_id:7\n"
        "10.0.0.2:5555          offline transport_id:2\n"
        "0123 unauthorized usb:1-2 transport_id:3\n"
        "????????????           no permissions (user x is not in the plugdev group);"
        " see [http://developer.android.com/tools/device.html] usb:1-3 transport_id:4\n"
        "abc no permissions; see http://x.y/z\n"
        "wifi name (3)          authorizing\n"
        "later\tsome new state\n\n"
    )
    page = "see [http://developer.android.com/tools/device.html]"
    assert parse_adb_devices(text) == [
        AdbListed("R58 (2)._adb-tls-connect._tcp", "device"),
        AdbListed(
            "emulator-5554",
            "device",
            {"product": "sdk", "model": "a_b", "device": "gen", "transport_id": "7"},
        ),
        AdbListed("10.0.0.2:5555", "offline", {"transport_id": "2"}),
        AdbListed("0123", "unauthorized", {"usb": "1-2", "transport_id": "3"}),
        AdbListed(
            "????????????",
            "no permissions",
            {
                "usb": "1-3",
                "transport_id": "4",
                "reason": f"(user x is not in the plugdev group); {page}",
            },
        ),
        AdbListed("abc", "no permissions", {"reason": "; see http://x.y/z"}),
        AdbListed("wifi name (3)", "authorizing"),
        AdbListed("later", "some new state"),
    ]
    assert parse_adb_devices(text.replace("\n", "\r\n")) == parse_adb_devices(text)
    assert parse_adb_devices("List of devices attached\n\n") == []


@given(
    st.one_of(
        st.text(max_size=60),
        st.tuples(
            st.sampled_from([BATTERY, THERMAL, "[ro.a]: [x]\n", "processor : 0\n"]),
            st.integers(0, 900),
            st.text(max_size=5),
        ).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]),
    )
)
def test_no_text_is_anything_but_read_or_refused(text: str) -> None:
    for parse in (
        parse_battery,
        parse_thermal,
        parse_getprop,
        parse_cpuinfo,
        parse_core_list,
        parse_adb_devices,
        parse_files,
    ):
        try:
            parse(text)
        except ParseError as error:
            assert "\n" not in str(error)
