"""Quoting, exit codes by marker, lines, and the wire below adb_shell."""

from __future__ import annotations

import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.adb.direct_transport import CheckedTransport, Refusal
from android_bench.adb.keys import key_files, load_signers
from android_bench.adb.shell_output import (
    EXIT,
    MAX_LINE,
    STDERR,
    STDOUT,
    MarkedCommand,
    as_lines,
    collect,
)
from android_bench.adb.transport import ConnectionLost, quote_command
from android_bench.errors import BenchError

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(words, min_size=1))
def test_a_shell_gives_back_exactly_the_arguments(argv: list[str]) -> None:
    assert shlex.split(quote_command(argv)) == argv


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "`touch x`", "';touch x;'", "*"])
def test_a_real_shell_runs_no_part_of_an_argument(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", quote_command(["printf", "%s", name])],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.decode() == name
    assert list(tmp_path.iterdir()) == []


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(BenchError, match="zero byte"):
        quote_command(["cat", "a\0b"])


@pytest.mark.parametrize("code", [0, 1, 126, 134])
def test_a_marked_command_tells_its_exit_code(code: int) -> None:
    command = quote_command(["sh", "-c", f"echo out; echo err >&2; exit {code}"])
    marked = MarkedCommand.of(command)
    done = subprocess.run(["sh", "-c", marked.text], capture_output=True)
    assert marked.split(done.stdout) == (b"out\nerr\n", code)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_cut_marker_is_no_exit_code(cut: int) -> None:
    marked = MarkedCommand.of("true")
    whole = b"out" + marked.token + b"=127\n"
    assert marked.split(whole) == (b"out", 127)
    assert marked.split(whole[:-cut])[1] is None


def test_a_command_that_prints_a_marker_of_its_own_does_not_matter() -> None:
    marked = MarkedCommand.of("true")
    output = b"exit-0123456789abcdef=0\n" + marked.token + b"=3\n"
    assert marked.split(output) == (b"exit-0123456789abcdef=0\n", 3)


def test_both_streams_and_the_code_are_collected() -> None:
    chunks = [(STDOUT, b"a"), (STDERR, b"b"), (STDOUT, b"c"), (EXIT, b"\x07")]
    result = collect(chunks, 5.0, "phone", None)
    assert (result.stdout, result.stderr, result.exit_code) == (b"ac", b"b", 7)


def test_a_command_that_never_ends_is_given_up() -> None:
    def endless() -> Iterator[tuple[int, bytes]]:
        while True:
            yield STDOUT, b"x"

    with pytest.raises(ConnectionLost, match="did not end within 0.01 s"):
        collect(endless(), 0.01, "phone", None)


@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\r", b"")), max_size=8))
def test_lines_do_not_depend_on_the_chunks(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    wanted = whole.split(b"\n")
    wanted = wanted if wanted[-1] else wanted[:-1]
    assert list(as_lines((STDOUT, part) for part in parts)) == wanted


def test_line_ends_of_a_terminal_are_taken_off() -> None:
    assert list(as_lines([(STDOUT, b"a\r"), (STDOUT, b"\nb\r\n")])) == [b"a", b"b"]


def test_a_line_without_end_fills_no_memory() -> None:
    chunks = [(STDOUT, b"x" * 10_000)] * 20
    lines = list(as_lines(chunks))
    assert max(map(len, lines)) <= MAX_LINE
    assert b"".join(lines) == b"x" * 200_000


class Wire:
    """A transport of adb_shell that gives what it was given, and takes little."""

    def __init__(self, *reads: bytes) -> None:
        self.reads = list(reads)
        self.written = b""

    def bulk_read(self, count: int, timeout_s: float) -> bytes:
        return self.reads.pop(0)

    def bulk_write(self, data: bytes, timeout_s: float) -> int:
        self.written += data[:3]
        return len(data[:3])


def sound(wire: Any) -> CheckedTransport:
    return CheckedTransport(wire)


def test_what_is_sent_is_sent_whole() -> None:
    wire = Wire()
    assert sound(wire).bulk_write(b"0123456789", 1.0) == 10
    assert wire.written == b"0123456789"


def test_a_closed_connection_is_an_error_at_once() -> None:
    with pytest.raises(ConnectionResetError):
        sound(Wire(b"")).bulk_read(24, 1.0)


def test_a_refusal_is_heard_in_the_middle_of_a_push_only() -> None:
    said = b"FAIL\x17\0\0\0No space left on device"
    assert sound(Wire(said)).bulk_read(31, 1.0) == said
    wire = sound(Wire(said))
    with pytest.raises(Refusal, match="^No space left on device$"), wire.pushing(9.0):
        wire.bulk_read(31, 1.0)


def test_errors_of_usb_are_errors_of_the_connection() -> None:
    class Unplugged(Exception):
        pass

    class Usb(Wire):
        def connect(self, timeout_s: float) -> None:
            raise Unplugged("LIBUSB_ERROR_ACCESS [-3]")

        def bulk_read(self, count: int, timeout_s: float) -> bytes:
            raise Unplugged

    wire = CheckedTransport(Usb(), (Unplugged,))
    with pytest.raises(OSError, match="LIBUSB_ERROR_ACCESS"):
        wire.connect(1.0)
    with pytest.raises(OSError, match="Unplugged"):
        wire.bulk_read(24, 1.0)


def test_a_push_has_a_limit() -> None:
    wire = sound(Wire(b"OKAY"))
    with pytest.raises(TimeoutError), wire.pushing(-1.0):
        wire.bulk_read(24, 1.0)


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    (first,) = key_files(None, {}, tmp_path)
    assert first == tmp_path / ".android" / "adbkey"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    content = first.read_bytes()
    assert key_files(None, {}, tmp_path) == [first]
    assert first.read_bytes() == content
    assert sorted(p.name for p in first.parent.iterdir()) == ["adbkey", "adbkey.pub"]


def test_vendor_keys_come_after_the_users_own(tmp_path: Path) -> None:
    folder = tmp_path / "vendor"
    folder.mkdir()
    for name in ("b.adb_key", "a.adb_key", "other"):
        (folder / name).write_text("x")
    single = tmp_path / "single"
    single.write_text("x")
    environ = {"ADB_VENDOR_KEYS": f"{folder}:{single}:{tmp_path}/absent"}
    _, *found = key_files(None, environ, tmp_path)
    assert found == [folder / "a.adb_key", folder / "b.adb_key", single]


def test_a_key_signs_without_its_public_file(tmp_path: Path) -> None:
    (path,) = key_files(None, {}, tmp_path)
    (signer,) = load_signers([path])
    public = Path(f"{path}.pub")
    told = public.read_bytes()
    public.unlink()
    (again,) = load_signers([path])
    assert again.GetPublicKey().split()[0] == told.split()[0]
    assert again.Sign(b"t" * 20) == signer.Sign(b"t" * 20)


def test_a_broken_key_is_told_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "key"
    broken.write_text("no key\n")
    with pytest.raises(BenchError, match=r"adb key .*key cannot be used") as told:
        load_signers([broken])
    assert "\n" not in str(told.value)
    with pytest.raises(BenchError, match="No adb key at"):
        key_files(tmp_path / "absent")
