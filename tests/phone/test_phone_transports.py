"""Both ways to a phone behave the same: commands, streams, files, refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from android_bench.adb.connect import connect
from android_bench.adb.reach import find
from android_bench.adb.transport import ConnectionLost, FileRefused, Transport
from tests.phone_double import PhoneDouble

TMP = "/data/local/tmp"


@pytest.fixture
def transport(phone_name: str) -> Iterator[Transport]:
    opened = connect(find(phone_name))
    yield opened
    opened.close()


@pytest.mark.parametrize("code", [0, 3, 137])
def test_a_command_has_its_output_and_exit_code(
    transport: Transport, code: int
) -> None:
    result = transport.shell(["sh", "-c", f"echo out; echo err >&2; exit {code}"])
    assert result.exit_code == code
    assert sorted(result.text.split()) == ["err", "out"]


def test_arguments_arrive_as_they_are(transport: Transport) -> None:
    words = ["a b", "$HOME", "`id`", "'", '"', ";", "*", "ä", ""]
    said = transport.shell(["printf", "<%s>", *words]).stdout
    assert said.decode() == "".join(f"<{word}>" for word in words)


def test_a_large_output_is_whole(transport: Transport) -> None:
    said = transport.shell(["seq", "1", "100000"]).stdout
    assert said == b"".join(b"%d\n" % n for n in range(1, 100001))


def test_lines_come_while_the_command_runs(transport: Transport) -> None:
    script = "echo one; read x; echo never"
    lines = transport.lines(["sh", "-c", f"{script} </dev/zero"], 1.0)
    assert next(lines) == b"one"
    with pytest.raises(ConnectionLost):
        next(lines)


def test_a_dropped_stream_leaves_the_way_open(transport: Transport) -> None:
    lines = transport.lines(["sh", "-c", "echo one; sleep 30"], 5.0)
    assert next(lines) == b"one"
    lines.close()
    assert transport.shell(["echo", "on"]).stdout == b"on\n"


def test_a_command_that_does_not_end_is_given_up(transport: Transport) -> None:
    with pytest.raises(ConnectionLost):
        transport.shell(["sleep", "30"], timeout_s=0.5)


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_001])
def test_files_go_there_and_back(
    transport: Transport, phone_double: PhoneDouble, tmp_path: Path, size: int
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(size))
    target = f"{TMP}/a file's name"
    transport.push(source, target, 0o755)
    assert phone_double.host_path(target).read_bytes() == source.read_bytes()
    found = transport.stat(target)
    assert found is not None
    assert (found.size, found.is_folder, found.mode & 0o100) == (size, False, 0o100)
    transport.pull(target, copy)
    assert copy.read_bytes() == source.read_bytes()


def test_what_is_there_is_told(transport: Transport) -> None:
    folder = transport.stat(TMP)
    assert folder is not None and folder.is_folder
    assert transport.stat(f"{TMP}/absent") is None


def test_a_refusal_gives_the_phones_own_reason(
    transport: Transport, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(3_000_000))
    with pytest.raises(FileRefused) as error:
        transport.push(source, "/system/bin/x")
    assert "Read-only file system" in error.value.reason
    with pytest.raises(FileRefused, match="No such file or directory"):
        transport.pull(f"{TMP}/absent", tmp_path / "copy")
    # The connection is as good as before.
    assert transport.shell(["echo", "on"]).stdout == b"on\n"
    transport.push(source, f"{TMP}/x")


def test_a_pulled_cable_is_told_at_once(
    transport: Transport, phone_double: PhoneDouble
) -> None:
    lines = transport.lines(["sh", "-c", "echo one; sleep 30"], 25.0)
    assert next(lines) == b"one"
    phone_double.refuse()
    with pytest.raises(ConnectionLost, match="is lost"):
        next(lines)
    with pytest.raises(ConnectionLost):
        transport.shell(["echo", "on"])
