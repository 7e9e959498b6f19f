"""The double before Google's own adb: what a developer types works as with a phone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.phone_double import serve
from tests.phone_double.clients.adb_binary import Adb
from tests.phone_double.double import PhoneDouble

TMP = "/data/local/tmp"
MIB = 2**20
ROOT = Path(__file__).resolve().parents[3]


def test_the_list_of_devices_names_the_phone(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    line = adb("devices", "-l").stdout.decode().splitlines()[1].split()
    assert line[:2] == [phone_double.serial, "device"]
    assert {"product:doublet", "model:Doublet_8", "device:doublet"} <= set(line)


@pytest.mark.slow
@pytest.mark.parametrize("phone", ["phone_double", "old_phone"])
def test_a_hundred_megabytes_go_there_and_back_byte_for_byte(
    phone: str, request: pytest.FixtureRequest, adb: Adb, tmp_path: Path
) -> None:
    double = request.getfixturevalue(phone)
    adb.connect(double.serial)
    there, back = tmp_path / "there", tmp_path / "back"
    content = os.urandom(100 * MIB)
    there.write_bytes(content)
    assert adb("push", str(there), f"{TMP}/big").returncode == 0
    assert double.host_path(f"{TMP}/big").read_bytes() == content
    assert adb("pull", f"{TMP}/big", str(back)).returncode == 0
    assert back.read_bytes() == content


def test_push_makes_folders_and_keeps_the_owners_mode(
    phone_double: PhoneDouble, adb: Adb, tmp_path: Path
) -> None:
    adb.connect(phone_double.serial)
    for name, mode in (("run", 0o700), ("data", 0o640)):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(mode)
        assert adb("push", str(tmp_path / name), f"{TMP}/a/b/{name}").returncode == 0
    modes = [
        stat.S_IMODE(phone_double.host_path(f"{TMP}/a/b/{name}").stat().st_mode)
        for name in ("run", "data")
    ]
    # adbd gives everybody what the owner has.
    assert modes == [0o777, 0o666]


@pytest.mark.parametrize("phone", ["phone_double", "old_phone"])
def test_a_folder_is_pushed_and_pulled_whole(
    phone: str, request: pytest.FixtureRequest, adb: Adb, tmp_path: Path
) -> None:
    double = request.getfixturevalue(phone)
    adb.connect(double.serial)
    folder = tmp_path / "folder"
    for number in range(30):
        path = folder / f"part {number % 3}" / f"file-{number} ü"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * number)
    assert adb("push", str(folder), f"{TMP}/").returncode == 0
    assert adb("pull", f"{TMP}/folder", str(tmp_path / "back")).returncode == 0
    for path in folder.rglob("*"):
        other = tmp_path / "back" / path.relative_to(folder)
        assert (
            other.is_dir() if path.is_dir() else other.read_bytes() == path.read_bytes()
        )


def test_a_push_where_nothing_may_be_written_fails(
    phone_double: PhoneDouble, adb: Adb, tool_file: Path
) -> None:
    adb.connect(phone_double.serial)
    done = adb("push", str(tool_file), "/system/bin/benchmark_model")
    assert done.returncode == 1
    assert b"couldn't create file: Read-only file system" in done.stderr


def test_a_pull_of_what_is_not_there_fails(phone_double: PhoneDouble, adb: Adb) -> None:
    adb.connect(phone_double.serial)
    done = adb("pull", f"{TMP}/nothing", "/dev/null")
    assert done.returncode == 1
    assert b"No such file or directory" in done.stderr


def test_shell_tells_output_errors_and_exit_code_apart(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    done = adb("shell", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_an_old_phone_merges_them_and_tells_no_exit_code(
    old_phone: PhoneDouble, adb: Adb
) -> None:
    adb.connect(old_phone.serial)
    done = adb("shell", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.returncode) == (b"out\r\nerr\r\n", 0)


@pytest.mark.parametrize("number", [9, 11, 15])
def test_a_signal_shows_in_the_exit_code(
    phone_double: PhoneDouble, adb: Adb, number: int
) -> None:
    adb.connect(phone_double.serial)
    assert adb("shell", f"kill -{number} $$").returncode == 128 + number


def test_stdin_reaches_the_command_and_ends(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    content = os.urandom(MIB)
    done = adb("shell", f"cat > {TMP}/copy; echo done", input=content)
    assert done.stdout == b"done\n"
    assert phone_double.host_path(f"{TMP}/copy").read_bytes() == content


def test_exec_out_gives_raw_bytes(phone_double: PhoneDouble, adb: Adb) -> None:
    adb.connect(phone_double.serial)
    content = bytes(range(256)) * 1000
    phone_double.host_path(f"{TMP}/raw").write_bytes(content)
    assert adb("exec-out", f"cat {TMP}/raw").stdout == content


def test_twenty_commands_at_once_keep_their_own_output(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    runs = [
        adb.start("shell", f"sleep 0.2; seq {n}000 {n}999; echo {n} >&2; exit {n}")
        for n in range(1, 21)
    ]
    for number, run in enumerate(runs, 1):
        out, err = run.communicate(timeout=60)
        numbers = [int(line) for line in out.split()]
        assert numbers == list(range(number * 1000, number * 1000 + 1000))
        assert (err, run.returncode) == (f"{number}\n".encode(), number)


def test_a_phone_can_be_left_and_reached_again(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    for _ in range(2):
        adb.connect(phone_double.serial)
        assert adb("shell", "echo here").stdout == b"here\n"
        adb("disconnect", phone_double.serial)
        assert adb.state(phone_double.serial) == ""


def test_what_the_phone_does_not_serve_is_refused(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    done = adb("jdwp")
    assert (done.returncode, done.stderr) == (1, b"error: closed\n")
    assert adb("shell", "echo still here").stdout == b"still here\n"


def test_reboot_by_adb(phone_double: PhoneDouble, adb: Adb) -> None:
    adb.connect(phone_double.serial)
    boot = adb("shell", "cat /proc/sys/kernel/random/boot_id").stdout
    assert adb("reboot").returncode == 0
    adb.wait_until(lambda: phone_double.connected == 0, "the phone is gone")
    adb.connect(phone_double.serial)
    again = adb("shell", "cat /proc/sys/kernel/random/boot_id").stdout
    assert again and again != boot


def test_a_double_run_by_hand(adb: Adb, tmp_path: Path) -> None:
    words = ["--phone", "old", "--port", "0", "--tool", str(tmp_path / "tool")]
    run = subprocess.Popen(
        [sys.executable, "-m", serve.__name__, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        serial = run.stdout.readline().split()[-1]
        adb.connect(serial)
        assert adb("shell", "getprop ro.product.model").stdout == b"Single 4G\r\n"
        folder = Path(run.stdout.readline().split()[-1])
        assert (folder / "data/local/tmp").is_dir()
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 0
    assert not folder.exists() and (tmp_path / "tool").is_file()
