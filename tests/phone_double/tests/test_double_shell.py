"""The double's shell: a real one, in a tree of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phone_double.adbd.protocol import CLSE, OKAY, WRTE, Message
from tests.phone_double.clients.client import Client
from tests.phone_double.double import PhoneDouble
from tests.phone_double.phones.phone import OLD
from tests.phone_double.system.shell_errors import Rewording
from tests.phone_double.system.shell_paths import PathMap

TMP = "/data/local/tmp"
ROOT = "/tmp/phone-1/root"

SCRIPT = """\
cd "${0%/*}" || exit 1
total=0
for number in 1 2 3; do
    total=$((total + number))
    echo "$1 $number" >> /data/local/tmp/log
done
trap 'echo "bye from $0"' EXIT
sleep 30 &
job=$!
kill -9 $job
wait $job
echo "job $?"
case $PWD in /data/local/tmp) echo there ;; esac
while read line; do echo "< $line"; done < log
exit $total
"""


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # the second: the process went between opening the file and reading it
        return False


# === Paths ===


@pytest.mark.parametrize(
    "text",
    [
        "/data/x",
        "cat</proc/uptime",
        "--graph=/data/local/tmp/m.tflite",
        "D='/data/local/tmp'",
        'x="${1:-/data/local/tmp}"',
        "${f#/sys/devices/system/cpu/cpu}",
        "a:/data/x,b:/sdcard/y",
        "ls /sys /proc/version;cd /sdcard&&ls",
    ],
)
def test_absolute_paths_become_the_trees(text: str) -> None:
    mapped = PathMap(ROOT).to_host(text)
    assert mapped.count(ROOT) == len(
        [
            part
            for part in text.split("/")
            if part.startswith(("data", "proc", "sdcard"))
        ]
    ) + ("/sys " in text) + ("/sys/" in text)
    assert PathMap(ROOT).to_host(mapped) == mapped


@pytest.mark.parametrize(
    "text",
    [
        "./data/x",
        "$D/data",
        '"$D"/data',
        "${D}/sys",
        "../proc",
        "x/data",
        "2>/dev/null",
    ],
)
def test_tails_of_paths_stay(text: str) -> None:
    assert PathMap(ROOT).to_host(text) == text


@given(st.lists(st.sampled_from([ROOT, ROOT + "/", "a", "/", "/tmp/phone", "\n"])))
def test_output_is_turned_back_however_it_is_cut(parts: list[str]) -> None:
    text = "".join(parts).encode()
    whole = PathMap(ROOT).unmapper()
    wanted = whole.feed(text) + whole.flush()
    for size in (1, 3, 7):
        back = PathMap(ROOT).unmapper()
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert b"".join(map(back.feed, pieces)) + back.flush() == wanted


# === Complaints ===


def test_a_complaint_is_reworded_although_it_comes_in_pieces() -> None:
    reword = Rewording(34)
    pieces = [b"x\nsh: 1: ", b"nosuch: not found", b"\n"]
    assert [reword.feed(piece) for piece in pieces] == [
        b"x\n",
        b"",
        b"/system/bin/sh: nosuch: inaccessible or not found\n",
    ]


def test_old_androids_say_it_shorter() -> None:
    assert (
        Rewording(23).feed(b"/data/run.sh: 3: x: not found\r\n")
        == b"/data/run.sh[3]: x: not found\r\n"
    )


def test_exit_codes_of_what_cannot_be_run(
    client: Client, put: Callable[..., str]
) -> None:
    put(b"#!/bin/sh\necho ran\n", "locked", 0o644)
    missing, locked = client.shell("nosuch"), client.shell(f"{TMP}/locked")
    assert (missing.code, locked.code) == (127, 126)
    assert missing.err == b"/system/bin/sh: nosuch: inaccessible or not found\n"
    assert locked.err == (
        b"/system/bin/sh: /data/local/tmp/locked: can't execute: Permission denied\n"
    )


# === Scripts ===


def test_a_pushed_script_runs_with_all_that_scripts_have(
    client: Client, put: Callable[..., str]
) -> None:
    said = client.shell(f"sh {put(SCRIPT.encode(), 'run.sh')} turn")
    assert said.out.decode().splitlines() == [
        "job 137",
        "there",
        "< turn 1",
        "< turn 2",
        "< turn 3",
        "bye from /data/local/tmp/run.sh",
    ]
    assert said.code == 6


@pytest.mark.parametrize("service", ["shell,v2,raw:", "shell,v2,raw:sh"])
def test_a_shell_reads_commands_as_they_come(client: Client, service: str) -> None:
    stream = client.open(service)

    def say(text: bytes) -> bytes:
        size = len(text).to_bytes(4, "little")
        client.send(Message(WRTE, *stream, b"\0" + size + text))
        heard = b""
        while b"end\n" not in heard:
            message = client.receive()
            if message.command == WRTE:
                heard += message.payload[5:]
                client.send(Message(OKAY, *stream))
        return heard

    assert say(b"cd /data/local; ls; echo end\n") == b"tmp\nend\n"
    assert say(b"pwd; echo end\n") == b"/data/local\nend\n"


def test_a_script_of_any_length(client: Client, put: Callable[..., str]) -> None:
    text = "".join(f": {'x' * 90} {n}\n" for n in range(4000)) + "echo $# $0\n"
    said = client.shell(f"sh {put(text.encode(), 'long.sh')} a 'b c'")
    assert said.out == b"2 /data/local/tmp/long.sh\n"


# === What is the phone's, and what is the host's ===


@pytest.mark.parametrize(
    "command",
    ["ls /", "ls -d /proc", "cat /etc/passwd", "cd /; ls; pwd", "echo $HOME $PATH"],
)
def test_the_hosts_files_are_not_seen(client: Client, command: str) -> None:
    said = client.shell(command)
    assert b"root:" not in said.out
    assert not {b"bin", b"usr", b"home"} & set(said.out.split())
    assert b"phone-" not in said.out + said.err


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf {0}",
        "cd /; rm -rf ../../{0}",
        "mv {0} /data/local/tmp/x",
        "cp /data/local/tmp/empty {0}/file",
        "cp {0}/file /data/local/tmp/got",
        "find {0} -delete",
        "touch {0}/new",
        "dd if=/dev/null of={0}/file",
    ],
)
def test_commands_that_change_files_reach_only_the_phones(
    client: Client, put: Callable[..., str], tmp_path: Path, command: str
) -> None:
    put(b"", "empty")
    (tmp_path / "file").write_bytes(b"precious")
    # A path of the host's that the shell does not know as one.
    shown = f"${{NOTHING}}{tmp_path}"
    assert client.shell(command.format(shown)).code != 0
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_no_process_of_the_hosts_can_be_killed(client: Client) -> None:
    own = os.getpid()
    assert b"No such process" in client.shell(f"kill -0 {own}").err
    assert client.shell("pkill -f pytest").code == 1
    assert client.shell(f"sh -c 'kill -0 {own}'").code == 1
    assert alive(own)


def test_the_system_is_read_only(client: Client) -> None:
    for path in ("/system/x", "/x", "/data/x", "/proc/uptime", "/sys/kernel"):
        said = client.shell(f"echo x > {path}")
        assert said.code == 2 and b"can't create" in said.err, path
    assert client.shell("mkdir /data/local/new").code == 1


def test_nothing_runs_on_the_card(client: Client) -> None:
    said = client.shell(
        "cd /sdcard/Download; echo 'echo ran' > x.sh; chmod 755 x.sh; ./x.sh; sh x.sh"
    )
    assert (said.out, said.code) == (b"ran\n", 0)
    assert b"Permission denied" in said.err


def test_programs_that_a_phone_lacks_are_missing(client: Client) -> None:
    assert client.shell("awk 1").code == 127
    with PhoneDouble(OLD) as old:
        old.trust.required = False
        with Client(old.address) as other:
            stream = other.open("exec:sha256sum /proc/version")
            assert b"sha256sum: not found" in other.read_all(stream)


# === When the client goes ===


def start_sleeper(client: Client, service: str, phone: PhoneDouble) -> tuple[int, int]:
    """Starts a shell with a child in the background; their process numbers."""
    client.open(f"{service}sleep 60 & echo $! $$ > {TMP}/pids; wait")
    path = phone.host_path(f"{TMP}/pids")
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    child, shell = map(int, path.read_text().split())
    return child, shell


def test_with_shell_v2_only_the_shell_is_told(phone_double: PhoneDouble) -> None:
    phone_double.trust.required = False
    with Client(phone_double.address) as client:
        child, shell = start_sleeper(client, "shell,v2,raw:", phone_double)
    wait_until(lambda: not alive(shell))
    time.sleep(0.1)
    assert alive(child)


def test_without_it_everything_is_told(phone_double: PhoneDouble) -> None:
    phone_double.trust.required = False
    with Client(phone_double.address) as client:
        child, shell = start_sleeper(client, "shell:", phone_double)
    wait_until(lambda: not alive(shell) and not alive(child))


def test_nothing_is_left_when_the_phone_is_closed() -> None:
    with PhoneDouble() as phone:
        phone.trust.required = False
        root = phone.host_path("/")
        with Client(phone.address) as client:
            child, shell = start_sleeper(client, "shell,v2,raw:", phone)
            stray = client.open("shell,v2,raw:setsid nohup sleep 60")
            assert stray
    assert not alive(child) and not alive(shell)
    assert not root.exists() and not root.parent.exists()
    marked = [
        path
        for path in Path("/proc").glob("[0-9]*/environ")
        if _reads(path, str(root).encode())
    ]
    assert marked == []


def _reads(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except OSError:
        return False


def test_a_background_process_holds_a_v2_stream_open(client: Client) -> None:
    local, remote = client.open("shell,v2,raw:sleep 60 & echo started")
    message = client.receive()
    assert b"started" in message.payload
    client.send(Message(OKAY, local, remote))
    client._socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.receive()


def test_and_does_not_hold_one_of_v1(client: Client) -> None:
    stream = client.open("shell:sleep 60 & echo started")
    assert client.read_all(stream) == b"started\n"
    assert stream and CLSE
