"""``mess profile`` and ``mess devices`` as they are typed, with several phones."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.phones.device import AdbDevice
from android_bench.phones.folder import BASE
from android_bench.phones.session import ReconnectTimeouts
from android_bench.records import ModelFile
from android_bench.store import Store
from mess_tf import cli
from tests.phone_double import Adb, PhoneDouble

BRIEF = ReconnectTimeouts(total_s=1.0, pause_s=0.1, close_s=0.5)

Mess = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def mess(
    tool_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Mess:
    """Runs a command line with ``--json``: exit code, result, standard error."""
    monkeypatch.setenv("MESS_BENCHMARK_MODEL", str(tool_file))

    monkeypatch.setattr(
        "android_bench.devices.AdbDevice", functools.partial(AdbDevice, timeouts=BRIEF)
    )

    def mess(*arguments: object) -> tuple[int, Any, str]:
        code = cli.main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return mess


def runs_on(phone: PhoneDouble) -> bool:
    """Whether a model was pushed, so that its run is about to begin or goes on."""
    return any(phone.host_path(BASE).glob("*/models/*.tflite"))


def left_on(phone: PhoneDouble) -> list[Path]:
    return list(phone.host_path(BASE).rglob("*"))


@pytest.mark.slow
def test_all_phones_are_measured_and_told_in_one_table(
    mess: Mess,
    phone_double: PhoneDouble,
    old_phone: PhoneDouble,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"tcp:{phone.serial}" for phone in (phone_double, old_phone)]
    serials = f"{phone_double.serial},{old_phone.serial}"
    monkeypatch.setenv("MESS_PHONES", serials)
    table = tmp_path / "t.csv"
    code, result, _ = mess("profile", model_file, "--device", "all", "--csv", table)
    assert code == 0, result
    assert [device["name"] for device in result["devices"]] == names
    assert [device["measured"] for device in result["devices"]] == [1, 1]
    assert result["failed_measurements"] == []
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["device"] for line in lines] == names
    assert len({line["model"] for line in lines}) == 2
    assert all(float(line["p50_ms"]) > 0 for line in lines)
    assert left_on(phone_double) + left_on(old_phone) == []
    before = [row["p50_ms"] for row in result["measured"]]
    code, again, _ = mess("profile", model_file, "--device", "all")
    assert (code, [row["p50_ms"] for row in again["measured"]]) == (0, before)


@pytest.mark.slow
def test_a_phone_that_is_lost_stops_no_other_and_the_same_command_goes_on(
    mess: Mess,
    phone_double: PhoneDouble,
    old_phone: PhoneDouble,
    model_file: Path,
) -> None:
    good, bad = (f"tcp:{phone.serial}" for phone in (phone_double, old_phone))
    digest = ModelFile.read(model_file).sha256  # its name on the phone
    old_phone.faults.in_run(old_phone.refuse, 0.05, f"*{digest}*")
    command = ("profile", model_file, "--device", good, "--device", bad)
    code, result, _ = mess(*command)
    assert code == 3
    kept, lost = result["devices"]
    assert (kept["measured"], kept["lost"]) == (1, "")
    assert lost["measured"] == 0 and "did not come back" in lost["lost"]
    with Store(f"{model_file}.profiles.sqlite") as store:
        assert len(store.measurements()) == 1
    old_phone.accept()
    code, result, _ = mess(*command)
    assert code == 0
    assert [device["measured"] for device in result["devices"]] == [1, 1]
    assert left_on(phone_double) == []


def test_where_nothing_can_be_measured_every_reason_is_told_in_one_line(
    mess: Mess,
    phone_double: PhoneDouble,
    old_phone: PhoneDouble,
    model_file: Path,
) -> None:
    phone_double.refuse()
    old_phone.refuse()
    names = [f"tcp:{phone.serial}" for phone in (phone_double, old_phone)]
    code, result, said = mess(
        "profile", model_file, "--device", names[0], "--device", names[1]
    )
    assert (code, result) == (1, None)
    assert said.startswith("mess: error: None of 2 devices could be measured.")
    assert said.count("\n") == 1 and all(name in said for name in names)
    code, _, said = mess("profile", model_file, "--device", names[0])
    assert code == 1 and said.startswith("mess: error: Phone ")


@pytest.mark.slow
def test_a_phone_that_two_ways_lead_to_is_measured_once(
    mess: Mess,
    phone_double: PhoneDouble,
    shared_adb: Adb,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_adb.connect(phone_double.serial)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(shared_adb.port))
    names = [f"{way}:{phone_double.serial}" for way in ("server", "tcp")]
    code, result, _ = mess(
        "profile", model_file, "--device", names[0], "--device", names[1]
    )
    shared_adb("disconnect", phone_double.serial)
    assert code == 0
    assert sorted(device["measured"] for device in result["devices"]) == [0, 1]
    (same,) = (device for device in result["devices"] if device["same_as"])
    assert {same["name"], same["same_as"]} == set(names)


@pytest.mark.slow
def test_ctrl_c_ends_all_phones_and_leaves_nothing_there(
    phone_double: PhoneDouble,
    old_phone: PhoneDouble,
    tool_file: Path,
    model_file: Path,
) -> None:
    command = [sys.executable, "-m", "mess_tf.cli", "profile", str(model_file)]
    for phone in (phone_double, old_phone):
        command += ["--device", f"tcp:{phone.serial}"]
    command += ["--preset", "report"]  # minutes, if nothing stopped it
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MESS_BENCHMARK_MODEL": str(tool_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not all(runs_on(phone) for phone in (phone_double, old_phone)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = said.splitlines()[-1]
    assert last.startswith("mess: interrupted: every measurement is kept;")
    assert f"--device tcp:{old_phone.serial}" in last  # the command that goes on
    assert left_on(phone_double) + left_on(old_phone) == []


def test_devices_lists_this_computer_and_phones_in_whatever_state(
    mess: Mess,
    phone_double: PhoneDouble,
    old_phone: PhoneDouble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serials = f"{phone_double.serial},{old_phone.serial}"
    monkeypatch.setenv("MESS_PHONES", serials)
    old_phone.refuse()
    phone_double.trust.required = False  # as one that knows this computer
    phone_double.state.battery_level = 42
    code, result, _ = mess("devices")
    host, there, away = result["devices"]
    assert code == 0
    assert (host["name"], host["state"]) == ("host", "device")
    assert there["state"] == "device" and there["battery_percent"] == 42
    assert there["cores"] == len(there["core_max_khz"]) == phone_double.phone.cores
    assert there["model"] and there["soc"] and there["abi"] and there["android"]
    assert away["state"] != "device" and away["advice"] and away["model"] is None
