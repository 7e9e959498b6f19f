"""Recorded answers of real phones: every figure below was read off them by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from android_bench.adb.device_list import AdbListed, parse_adb_devices
from android_bench.phones.cpu import (
    CoreFrequency,
    CpuCore,
    parse_core_list,
    parse_cpufreq,
    parse_cpuinfo,
)
from android_bench.phones.dumpsys_parsers import (
    Battery,
    Temperature,
    parse_battery,
    parse_getprop,
    parse_thermal,
)

# Lines, model, SoC (Android 12 on), board, Android version, ABIs of 64 and 32 bits.
GETPROP = {
    "poco-f6": (36, "24069PC21I", "SM8635", "pineapple", "15", "arm64-v8a", ""),
    "xiaomi-12x": (
        *(38, "2112123AG", "SM8250", "kona", "12"),
        *("arm64-v8a", "armeabi-v7a,armeabi"),
    ),
    "infinix-x670": (
        *(37, "Infinix X670", "MT6781V/CDZAMB-H", "mt6781", "13"),
        *("arm64-v8a", "armeabi-v7a,armeabi"),
    ),
    "huawei-g700-android44": (20, "G700-U20", None, "", "4.4.2", None, None),
}

# Parts of the cores in order, and the "Hardware" line.
CPUINFO = {
    "galaxy-s9-global": (["0xd05"] * 4 + ["0x002"] * 4, None),
    "huawei-mate-20": (["0xd05"] * 4 + ["0xd40"] * 4, None),
    "nexus5x": (["0xd03"] * 4 + ["0xd07"] * 2, "Qualcomm Technologies, Inc MSM8992"),
    "pixel-8": (["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"], None),
}

# Cores online, those with cpufreq and their maxima (kHz), and core 0 whole.
SYSFS = {
    "galaxy-j7-prime": (
        8,
        [1586000] * 5,
        CoreFrequency(0, 1586000, 546000, 546000, "interactive"),
    ),
    "galaxy-s9-us": (
        8,
        [1766400] * 4 + [2803200] * 4,
        CoreFrequency(0, 1766400, 300000, 748800, "schedutil"),
    ),
    "huawei-mate-20": (
        8,
        [1805000] * 4 + [1901000] * 2 + [2600000] * 2,
        CoreFrequency(0, 1805000, 830000, 830000, None),
    ),
    "pixel-8": (
        9,
        [1704000] * 4 + [2367000] * 4 + [2914000],
        CoreFrequency(0, 1704000, 324000, 1197000, "sched_pixel"),
    ),
}

# Sensors, overall and worst status, hottest, battery, and the first sensor.
THERMAL = {
    "bort-pixel": (
        *(13, 0, 0, 32.300003, 25.900002),
        Temperature("cpu0-gold-usr", "cpu", 31.7, 0),
    ),
    "bort-samsung": (6, 0, 0, 34.6, 25.2, Temperature("AP", "cpu", 34.6, 0)),
    "xiaomi-13t-pro_skin-severe-status0": (
        *(6, 0, 3, 62.842, 44.3),
        Temperature("CPU", "cpu", 62.842, 0),
    ),
}

USB_PHONE = AdbListed(
    "0123456789abcdef",
    "device",
    {
        "usb": "2-1",
        "product": "MyProduct",
        "model": "MyModel",
        "device": "MyDevice",
        "transport_id": "1",
    },
)
WIFI_PHONE = AdbListed(
    "192.168.1.1:5555",
    "device",
    {
        "product": "MyWifiProduct",
        "model": "MyWifiModel",
        "device": "MyWifiDevice",
        "trandport_id": "2",
    },
)
ADB_DEVICES = {
    "blog2020_after-root-server_unauthorized": [AdbListed("00000000", "unauthorized")],
    "blog2020_no-permissions_spaces": [
        AdbListed(
            "00000000",
            "no permissions",
            {
                "reason": "(user in plugdev group; are your udev rules wrong?); see"
                " [http://developer.android.com/tools/device.html]"
            },
        )
    ],
    "scrcpy_devices": [USB_PHONE, WIFI_PHONE],
    "scrcpy_devices_daemon_start": [USB_PHONE],
}


@pytest.fixture
def phones(shared_data: Path) -> dict[str, str]:
    folder = shared_data / "device_logs" / "phones"
    if not folder.is_dir():
        pytest.skip(f"no recorded phones at {folder}")
    return {p.stem: p.read_bytes().decode() for p in sorted(folder.iterdir())}


def test_every_recorded_answer_is_in_one_of_the_tables(phones: dict[str, str]) -> None:
    told = [
        *(f"getprop_{name}" for name in GETPROP),
        *(f"proc_cpuinfo_{name}" for name in CPUINFO),
        *(f"sysfs_{name}" for name in SYSFS),
        *(f"thermalservice_{name}" for name in THERMAL),
        *(f"adb_devices_{name}" for name in ADB_DEVICES),
        "dumpsys_battery_honor-alt-nx1",
    ]
    assert sorted(told) == sorted(phones)
    assert len(told) == 20


@pytest.mark.parametrize("name", GETPROP)
def test_getprop(phones: dict[str, str], name: str) -> None:
    props = parse_getprop(phones[f"getprop_{name}"])
    keys = (
        "ro.product.model",
        "ro.soc.model",
        "ro.board.platform",
        "ro.build.version.release",
        "ro.product.cpu.abilist64",
        "ro.product.cpu.abilist32",
    )
    assert (len(props), *(props.get(key) for key in keys)) == GETPROP[name]


@pytest.mark.parametrize("name", CPUINFO)
def test_cpuinfo(phones: dict[str, str], name: str) -> None:
    info = parse_cpuinfo(phones[f"proc_cpuinfo_{name}"])
    parts, hardware = CPUINFO[name]
    assert [core.part for core in info.cores] == parts
    assert [core.number for core in info.cores] == list(range(len(parts)))
    assert info.cores[0] == CpuCore(0, "0x41", parts[0])
    assert info.hardware == hardware


@pytest.mark.parametrize("name", SYSFS)
def test_cpufreq(phones: dict[str, str], name: str) -> None:
    files = json.loads(phones[f"sysfs_{name}"])["files"]
    online, maxima, first = SYSFS[name]
    cores = parse_core_list(files["/sys/devices/system/cpu/online"])
    assert cores == tuple(range(online))
    frequencies = parse_cpufreq(files)
    assert [core.max_khz for core in frequencies] == maxima
    assert frequencies[0] == first


@pytest.mark.parametrize("name", THERMAL)
def test_thermal(phones: dict[str, str], name: str) -> None:
    thermal = parse_thermal(phones[f"thermalservice_{name}"])
    assert THERMAL[name] == (
        len(thermal.temperatures),
        thermal.status,
        thermal.worst_status,
        thermal.hottest_c(),
        thermal.hottest_c("battery"),
        thermal.temperatures[0],
    )


@pytest.mark.parametrize("name", ADB_DEVICES)
def test_adb_devices(phones: dict[str, str], name: str) -> None:
    assert parse_adb_devices(phones[f"adb_devices_{name}"]) == ADB_DEVICES[name]


def test_battery(phones: dict[str, str]) -> None:
    battery = parse_battery(phones["dumpsys_battery_honor-alt-nx1"])
    assert battery == Battery(54.0, "discharging", (), 22.0, 3.906)
    assert battery.charging is False
