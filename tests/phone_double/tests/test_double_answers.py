"""What doubles say about themselves: in formats that our readers of phones read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.phones.cpu import parse_cpufreq, parse_cpuinfo, parse_files
from android_bench.phones.dumpsys_parsers import (
    parse_battery,
    parse_getprop,
    parse_thermal,
)
from tests.phone_double.clients.client import Client
from tests.phone_double.double import PhoneDouble
from tests.phone_double.phones import answers
from tests.phone_double.phones.phone import BIG_LITTLE, OLD, PHONES, Phone
from tests.phone_double.phones.recorded import RECORDINGS, load_recorded
from tests.phone_double.phones.state import Heating, PhoneState
from tests.phone_double.serve import choose_phone

CPU = "/sys/devices/system/cpu"


@pytest.fixture
def recordings(shared_data: Path) -> Path:
    folder = shared_data / "device_logs" / "phones"
    if not folder.is_dir():
        pytest.skip(f"no recorded phones at {folder}")
    return folder


def ask(phone: Phone, *commands: str) -> list[str]:
    """What a double of the phone answers."""
    with PhoneDouble(phone) as double:
        double.trust.required = False
        with Client(double.address) as client:
            return [
                client.read_all(client.open(f"exec:{command}")).decode()
                for command in commands
            ]


def check_answers(phone: Phone) -> None:
    properties, cpuinfo, battery, thermal, cpufreq, online = ask(
        phone,
        "getprop",
        "cat /proc/cpuinfo",
        "dumpsys battery",
        "dumpsys thermalservice",
        f"grep -H '' {CPU}/cpu[0-9]*/cpufreq/* 2>/dev/null",
        f"cat {CPU}/online",
    )
    assert parse_getprop(properties) == dict(phone.properties)
    assert parse_cpuinfo(cpuinfo).cores
    told = parse_battery(battery)
    assert told.level_percent is not None and told.temperature_c is not None
    assert bool(parse_thermal(thermal).temperatures) == bool(phone.thermal)
    cores = parse_cpufreq(parse_files(cpufreq))
    assert {c.number: c.max_khz for c in cores if c.max_khz} == phone.max_khz
    assert online.strip() == f"0-{phone.cores - 1}"


@pytest.mark.parametrize("name", list(PHONES))
def test_our_own_phones_answer_as_phones_do(name: str) -> None:
    check_answers(PHONES[name])


@pytest.mark.parametrize("name", list(RECORDINGS))
def test_recorded_phones_answer_as_phones_do(recordings: Path, name: str) -> None:
    check_answers(load_recorded(recordings, name))


@pytest.mark.parametrize(
    ("name", "file_name", "command"),
    [
        ("pixel-8", "proc_cpuinfo_pixel-8.txt", "cat /proc/cpuinfo"),
        ("pixel-8", "thermalservice_bort-pixel.txt", "dumpsys thermalservice"),
        ("poco-f6", "dumpsys_battery_honor-alt-nx1.txt", "dumpsys battery"),
        ("huawei-mate-20", "proc_cpuinfo_huawei-mate-20.txt", "cat /proc/cpuinfo"),
        ("poco-f6", "getprop_poco-f6.txt", "getprop"),
    ],
)
def test_a_recording_comes_back_as_it_was_recorded(
    recordings: Path, name: str, file_name: str, command: str
) -> None:
    recorded = (recordings / file_name).read_bytes().decode()
    (told,) = ask(load_recorded(recordings, name), command)
    assert told == recorded


def test_a_phone_is_chosen_by_its_name(recordings: Path) -> None:
    assert choose_phone("old", None) is OLD
    assert choose_phone("pixel-8", recordings).name == "pixel-8"
    with pytest.raises(SystemExit, match="'pixel-8' is unknown; accepted: big-little"):
        choose_phone("pixel-8", None)


# === State ===


def test_the_battery_follows_the_state() -> None:
    state = PhoneState(
        battery_level=12,
        battery_status=3,
        battery_temperature_c=41.3,
        powered_by=("Wireless",),
    )
    battery = parse_battery(answers.battery(BIG_LITTLE, state))
    assert (battery.level_percent, battery.status) == (12, "discharging")
    assert (battery.temperature_c, battery.powered_by) == (41.3, ("wireless",))


def test_heat_shows_in_the_current_block_only() -> None:
    state = PhoneState(thermal_status=2, temperatures_c={"skin-therm": 44.5})
    state.sensor_status = {"skin-therm": 3}
    text = answers.thermal(BIG_LITTLE, state)
    thermal = parse_thermal(text)
    assert (thermal.status, thermal.worst_status) == (2, 3)
    assert thermal.hottest_c("skin") == 44.5
    assert text.count("44.5") == 1


def test_state_changes_while_the_phone_runs(
    client: Client, phone_double: PhoneDouble
) -> None:
    folder = f"{CPU}/cpu7/cpufreq"
    question = f"cat {folder}/scaling_cur_freq {folder}/scaling_max_freq /proc/loadavg"
    before = client.shell(question).out.split()[:3]
    assert before == [b"2850000", b"2850000", b"0.60"]
    phone_double.state.frequencies_khz[7] = 1_000_000
    phone_double.state.caps_khz[7] = 1_400_000
    phone_double.state.load = 7.25
    assert client.shell(question).out.split()[:3] == [b"1000000", b"1400000", b"7.25"]


def test_power_saving_and_screen(client: Client, phone_double: PhoneDouble) -> None:
    phone_double.state.power_save, phone_double.state.screen_on = True, False
    told = client.shell("dumpsys power; settings get global low_power").out.decode()
    assert "mIsBatterySaverEnabled=true" in told and told.endswith("\n1\n")
    assert "Display Power: state=OFF" in told and "mWakefulness=Asleep" in told
    client.shell("settings put global low_power 0")
    assert not phone_double.state.power_save


def test_clocks(client: Client, phone_double: PhoneDouble) -> None:
    def read() -> tuple[float, int, int]:
        said = client.shell("cat /proc/uptime; date +%s; grep btime /proc/stat").out
        words = said.split()
        return float(words[0]), int(words[2]), int(words[4])

    uptime, now, boot = read()
    assert abs(now - uptime - boot) <= 2
    phone_double.jump_clock(7200)
    later, jumped, moved = read()
    assert later < uptime + 3000 and jumped - now >= 7200 and moved - boot >= 7199
    phone_double.jump_clock(-500, uptime_too=True)
    assert read()[0] < later


def test_foreign_load_shows_in_the_ticks(
    client: Client, phone_double: PhoneDouble
) -> None:
    def busy() -> tuple[float, float]:
        words = client.shell("grep '^cpu ' /proc/stat; cat /proc/uptime").out.split()
        return (int(words[1]) + int(words[3])) / 100, float(words[11])

    phone_double.state.foreign_load = 3.0
    busy_before, before = busy()
    client.shell("sleep 1")
    busy_after, after = busy()
    # The two files may be of two moments, a fifth of a second apart.
    assert (busy_after - busy_before) / (after - before) == pytest.approx(3.0, abs=0.8)


def test_a_run_shows_in_the_ticks(
    client: Client,
    phone_double: PhoneDouble,
    put: Callable[..., str],
    tool_file: Path,
    model_file: Path,
) -> None:
    def busy() -> float:
        words = client.shell("grep '^cpu ' /proc/stat").out.split()
        return (int(words[1]) + int(words[3])) / 100

    phone_double.state.foreign_load = 0.0
    tool, model = put(tool_file, "benchmark_model"), put(model_file, "tiny.tflite")
    before = busy()
    said = client.shell(f"{tool} --graph={model} --num_threads=1; times")
    own = said.out.decode().splitlines()[-1].replace("m", " ").replace("s", "").split()
    own_s = 60 * float(own[0]) + float(own[1]) + 60 * float(own[2]) + float(own[3])
    # 1.5 s of runs and a start: what the shell knows of its children, to the tick.
    assert own_s > 0.3
    assert busy() - before == pytest.approx(own_s, rel=0.2)


def test_work_makes_a_phone_hot_and_rest_cools_it() -> None:
    works = [True]
    heat = Heating(
        lambda: works[0],
        "skin-therm",
        {0: 1_000},
        idle_c=30,
        limit_c=40,
        rise_c_per_s=11,
        fall_c_per_s=11,
        clock_s=itertools.count().__next__,
    )
    state = PhoneState()
    heat(state)
    assert (state.thermal_status, state.caps_khz, state.slowdown) == (3, {0: 500}, 2.0)
    works[0] = False
    heat(state)
    assert (state.thermal_status, state.caps_khz, state.slowdown) == (0, {0: 1000}, 1.0)
    assert state.temperatures_c == {"skin-therm": 30}


def test_a_phone_that_heats_up_says_so(
    client: Client, phone_double: PhoneDouble
) -> None:
    phone_double.state.evolve = Heating(
        lambda: True, "skin-therm", BIG_LITTLE.max_khz, rise_c_per_s=1e9
    )
    told = client.shell(
        f"dumpsys thermalservice; cat {CPU}/cpu0/cpufreq/scaling_max_freq"
    )
    assert b"Thermal Status: 3" in told.out and told.out.endswith(b"\n902000\n")


# === Programs ===


def test_cores_are_the_phones(client: Client) -> None:
    assert client.shell("nproc").out == b"8\n"
    assert client.shell("taskset f0 echo pinned").out == b"pinned\n"
    for mask, told in (("100", b"Invalid argument"), ("zz", b"bad mask")):
        said = client.shell(f"taskset {mask} echo no")
        assert said.code == 1 and told in said.err and said.out == b""


def test_an_unreadable_file_of_sysfs(client: Client) -> None:
    said = client.shell("cat /sys/class/thermal/thermal_zone0/temp")
    assert (said.code, b"Permission denied" in said.err) == (1, True)


def test_listing(client: Client, put: Callable[..., Any]) -> None:
    put(b"12345", "file", 0o644)
    lines = client.shell("ls -l /data/local/tmp; ls /data/local/no").out.decode()
    total, line = lines.splitlines()
    assert total.startswith("total") and line.split()[:5] == [
        "-rw-r--r--",
        "1",
        "shell",
        "shell",
        "5",
    ]
    assert client.shell("ls /data/local/no").err == (
        b"ls: /data/local/no: No such file or directory\n"
    )


def test_processes_of_the_phone(client: Client) -> None:
    client.open("shell,v2,raw:sleep 77")
    # The stream stays open: another client asks.
    with Client(client._socket.getpeername()) as other:
        pid = other.shell("pidof sleep").out.decode().strip()
        assert any(
            line.split()[1] == pid and line.endswith(" sleep")
            for line in other.shell("ps").out.decode().splitlines()
        )
        assert other.shell(f"cat /proc/{pid}/cmdline").out == b"sleep\x0077\0"
        assert other.shell("pkill -9 sleep").code == 0
        assert other.shell("pidof sleep").code == 1
