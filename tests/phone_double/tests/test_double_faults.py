"""Faults of the double: each does what its name says, when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.logs.benchmark_log import LogError, parse_benchmark_log
from tests.phone_double.adbd.protocol import OKAY, Message
from tests.phone_double.clients.adb_binary import Adb
from tests.phone_double.clients.client import Client
from tests.phone_double.double import PhoneDouble
from tests.phone_double.faults import RUN_FAULTS

TMP = "/data/local/tmp"
SHORT = "--num_runs=20 --min_secs=0 --warmup_min_secs=0"


@pytest.fixture
def command(put: Callable[..., str], tool_file: Path, model_file: Path) -> str:
    """Runs the tool on the phone."""
    tool, model = put(tool_file, "benchmark_model"), put(model_file, "tiny.tflite")
    return f"{tool} --graph={model} {SHORT}"


# === The benchmark tool ===


@pytest.mark.parametrize(
    ("kind", "code"), [("crash", 139), ("killed", 137), ("abort", 134)]
)
def test_a_run_that_dies(
    client: Client, phone_double: PhoneDouble, command: str, kind: str, code: int
) -> None:
    phone_double.faults.run(kind)
    said = client.shell(command)
    assert said.code == code
    assert b"STARTING!" in said.out and b"Inference timings" not in said.out
    # Once: the next run is as always.
    assert client.shell(command).code == 0


def test_a_fault_of_one_model_only(
    client: Client, phone_double: PhoneDouble, command: str
) -> None:
    phone_double.faults.run("crash", model="*/other.tflite", times=9)
    assert client.shell(command).code == 0
    phone_double.faults.run("crash", model="*/tiny.tflite")
    assert client.shell(command).code == 139


def test_a_run_that_hangs_goes_on_until_it_is_killed(
    client: Client, phone_double: PhoneDouble, command: str
) -> None:
    phone_double.faults.run("hang", phase="warmup")
    client.open(f"shell,v2,raw:{command}")
    with Client(phone_double.address) as other:
        until = time.monotonic() + 20
        while phone_double.system.desk.running == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert phone_double.system.desk.running == 1
        assert other.shell("pkill -9 benchmark_model").code == 0


def test_garbage_amid_the_log_is_no_result_of_another(
    client: Client, phone_double: PhoneDouble, command: str
) -> None:
    phone_double.faults.run("garbage")
    said = client.shell(command)
    assert said.code == 0 and b"\xff\xfe" in said.out and b"\x00" in said.out
    with pytest.raises(LogError):
        parse_benchmark_log((said.err + said.out).decode(errors="replace"))


@pytest.mark.parametrize("code", [0, 1])
def test_half_a_log(
    client: Client, phone_double: PhoneDouble, command: str, code: int
) -> None:
    phone_double.faults.run("half", code=code)
    said = client.shell(command)
    assert said.code == code and not said.out.endswith(b"\n")
    assert b"Inference timings in us: Init: " in said.out
    assert b"Inference (avg)" not in said.out


@pytest.mark.parametrize(
    ("kind", "reports"), [("failed run", True), ("failed warmup", False)]
)
def test_a_model_that_fails_in_its_runs(
    client: Client, phone_double: PhoneDouble, command: str, kind: str, reports: bool
) -> None:
    phone_double.faults.run(kind)
    said = client.shell(command)
    # The tool reports the times of runs that failed.
    assert said.code == 1 and (b"Inference timings in us" in said.out) == reports
    failure = parse_benchmark_log((said.out + said.err).decode()).failure
    assert failure is not None and "failed to invoke" in failure


def test_an_unknown_fault_is_a_mistake(phone_double: PhoneDouble) -> None:
    with pytest.raises(ValueError, match="none of crash, killed"):
        phone_double.faults.run("explode")
    assert len(RUN_FAULTS) == 8


# === The connection ===


def test_the_cable_is_pulled_amid_a_push(
    phone_double: PhoneDouble, adb: Adb, tmp_path: Path
) -> None:
    adb.connect(phone_double.serial)
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    phone_double.faults.in_push(phone_double.drop, after_bytes=1_000_000)
    assert adb("push", str(tmp_path / "file"), f"{TMP}/file").returncode == 1
    assert 0 < phone_double.host_path(f"{TMP}/file").stat().st_size < 2_000_000
    adb.connect(phone_double.serial)
    assert adb("push", str(tmp_path / "file"), f"{TMP}/file").returncode == 0
    assert phone_double.host_path(f"{TMP}/file").stat().st_size == 2_000_000


def test_the_cable_is_pulled_amid_a_run(
    client: Client, phone_double: PhoneDouble, command: str
) -> None:
    phone_double.faults.in_run(phone_double.drop, after_s=0.1)
    with pytest.raises(ConnectionError):
        client.shell(command)
    with Client(phone_double.address) as again:
        assert again.shell("echo back").out == b"back\n"


def test_what_is_to_happen_in_a_run_happens_before_its_result(
    client: Client, phone_double: PhoneDouble, command: str
) -> None:
    began = time.monotonic()
    happened: list[float] = []
    phone_double.faults.in_run(lambda: happened.append(time.monotonic()), after_s=1.0)
    assert client.shell(command).code == 0
    assert len(happened) == 1 and happened[0] - began > 1.0


def test_a_reboot(client: Client, phone_double: PhoneDouble) -> None:
    question = "cat /proc/sys/kernel/random/boot_id /proc/uptime"
    before = client.shell(question).out.split()
    client.shell(f"touch {TMP}/stays")
    client.open("shell,v2,raw:setsid sleep 60")
    phone_double.reboot(down_s=0.3)
    with pytest.raises(ConnectionError):
        while True:
            client.receive()
    with pytest.raises(ConnectionRefusedError):
        Client(phone_double.address)
    until = time.monotonic() + 20
    while True:
        try:
            again = Client(phone_double.address)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.05)
    with again:
        after = again.shell(question).out.split()
        assert after[0] != before[0] and float(after[1]) < float(before[1])
        assert again.shell("pidof sleep").code == 1
        assert again.shell(f"ls {TMP}").out == b"stays\n"


def test_a_phone_that_is_mute_keeps_the_connection(
    client: Client, phone_double: PhoneDouble
) -> None:
    phone_double.link.mute.set()
    stream = client.open
    client._socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        stream("exec:echo heard")
    client._socket.settimeout(20)
    phone_double.link.mute.clear()
    answer = client.receive()
    assert answer.command == OKAY
    assert b"heard" in client.receive().payload
    client.send(Message(OKAY, answer.arg1, answer.arg0))


def test_a_slow_link_takes_its_time(client: Client, phone_double: PhoneDouble) -> None:
    phone_double.link.bytes_per_s = 1_000_000
    begin = time.monotonic()
    stream = client.open("exec:head -c 500000 /dev/zero")
    assert len(client.read_all(stream)) == 500_000
    assert time.monotonic() - begin > 0.45


def test_a_far_phone_answers_late(client: Client, phone_double: PhoneDouble) -> None:
    phone_double.link.delay_s = 0.05
    begin = time.monotonic()
    assert client.shell("true").code == 0
    # The command and three answers at least.
    assert time.monotonic() - begin > 0.2


# === Pushes ===


@pytest.fixture
def push(phone_double: PhoneDouble, adb: Adb, tmp_path: Path) -> Callable[..., Any]:
    adb.connect(phone_double.serial)

    def push(size: int, name: str) -> Any:
        (tmp_path / name).write_bytes(b"x" * size)
        return adb("push", str(tmp_path / name), f"{TMP}/{name}")

    return push


def test_a_phone_that_is_full(
    push: Callable[..., Any], phone_double: PhoneDouble, adb: Adb
) -> None:
    phone_double.system.tree.limit_free(300_000)
    assert push(200_000, "first").returncode == 0
    done = push(200_000, "second")
    assert done.returncode == 1 and b"No space left on device" in done.stderr
    assert not phone_double.host_path(f"{TMP}/second").exists()
    assert b" 97 " in adb("shell", "df").stdout
    assert adb("shell", f"rm {TMP}/first").returncode == 0
    assert push(200_000, "second").returncode == 0


def test_a_folder_that_is_read_only(
    push: Callable[..., Any], phone_double: PhoneDouble, adb: Adb
) -> None:
    phone_double.system.tree.set_writable(TMP, False)
    done = push(10, "file")
    assert done.returncode == 1 and b"Permission denied" in done.stderr
    assert adb("shell", f"mkdir {TMP}/new").returncode == 1
    assert adb("shell", f"echo x > {TMP}/new").returncode != 0
    phone_double.system.tree.set_writable(TMP, True)
    assert push(10, "file").returncode == 0


def test_a_push_that_arrives_damaged(
    push: Callable[..., Any], phone_double: PhoneDouble
) -> None:
    phone_double.faults.corrupt_pushes = 1
    assert push(1000, "file").returncode == 0
    stored = phone_double.host_path(f"{TMP}/file").read_bytes()
    assert len(stored) == 1000 and stored != b"x" * 1000
    assert push(1000, "file").returncode == 0
    assert phone_double.host_path(f"{TMP}/file").read_bytes() == b"x" * 1000


# === Commands ===


def test_noise_before_every_command(client: Client, phone_double: PhoneDouble) -> None:
    phone_double.faults.shell_noise = b"WARNING: linker: \xff\n"
    assert client.shell("echo x").out == b"WARNING: linker: \xff\nx\n"


def test_a_command_that_answers_something_else(
    client: Client, phone_double: PhoneDouble
) -> None:
    phone_double.faults.answer("dumpsys battery", "nonsense", code=3, times=1)
    said = client.shell("dumpsys battery")
    assert (said.out, said.code) == (b"nonsense", 3)
    assert b"level: 87" in client.shell("dumpsys battery").out


def test_a_command_that_hangs(client: Client, phone_double: PhoneDouble) -> None:
    phone_double.faults.answer("getprop *", None)
    assert client.shell("timeout 0.5 getprop ro.product.model").code == 124
    phone_double.faults.clear()
    assert client.shell("getprop ro.product.model").out == b"Doublet 8\n"
