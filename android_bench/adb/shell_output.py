"""Assembles the chunks that a phone's shell sends into results and lines.

Newer phones send the exit code beside the output (shell protocol v2). Older ones, and
the connection that speaks only v1, send one stream: there the command is followed by a
line with a random token and the exit code.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from android_bench.adb.transport import ConnectionLost, ShellResult

STDOUT, STDERR, EXIT = 1, 2, 3
MAX_OUTPUT = 64 * 2**20
MAX_LINE = 64 * 1024

Chunk = tuple[int, bytes]
"""(``STDOUT``, ``STDERR`` or ``EXIT``, data); ``EXIT`` carries the code as one byte."""


@dataclass(frozen=True)
class MarkedCommand:
    """A command for shell protocol v1 that prints its exit code itself."""

    text: str
    token: bytes

    @classmethod
    def of(cls, command: str) -> MarkedCommand:
        token = "exit-" + secrets.token_hex(8)
        # In braces, so that the streams are joined whatever the command is.
        return cls(f"{{ {command}\n}} 2>&1; echo {token}=$?", token.encode())

    def split(self, output: bytes) -> tuple[bytes, int | None]:
        """Output and exit code; None where the command's end is missing."""
        body, mark, tail = output.rpartition(self.token + b"=")
        match = re.match(rb"(\d{1,3})\r?\n", tail)
        return (body, int(match[1])) if mark and match else (output, None)


def collect(
    chunks: Iterable[Chunk], timeout_s: float, label: str, marked: MarkedCommand | None
) -> ShellResult:
    """Waits for a command's end.

    Args:
        marked: the command where it tells its exit code itself (v1).

    Raises:
        ConnectionLost: it has not ended in time or says more than any command here.
    """
    deadline = time.monotonic() + timeout_s
    streams = {STDOUT: bytearray(), STDERR: bytearray()}
    code: int | None = None
    for stream, data in chunks:
        if stream == EXIT:
            code = data[0]
        else:
            streams[stream] += data
        said = sum(map(len, streams.values()))
        if time.monotonic() > deadline or said > MAX_OUTPUT:
            raise ConnectionLost(
                f"A command on {label} did not end within {timeout_s:g} s (it said"
                f" {said} bytes)."
            )
    stdout, stderr = bytes(streams[STDOUT]), bytes(streams[STDERR])
    if marked is not None:
        stdout, code = marked.split(stdout)
    return ShellResult(stdout, stderr, code)


def as_lines(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """Lines of both streams in the order they come, without their ends."""
    rest = {STDOUT: b"", STDERR: b""}
    for stream, data in chunks:
        if stream == EXIT:
            continue
        *lines, rest[stream] = (rest[stream] + data).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        while len(rest[stream]) > MAX_LINE:
            yield rest[stream][:MAX_LINE]
            rest[stream] = rest[stream][MAX_LINE:]
    yield from (line for line in rest.values() if line)
