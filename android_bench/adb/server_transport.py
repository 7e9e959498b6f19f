"""Transport through a running adb server."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from adbutils._adb import AdbConnection
from adbutils.errors import AdbError

from android_bench.adb.device_list import AdbListed
from android_bench.adb.server import (
    SERVER_ERRORS,
    ServerAddress,
    features,
    open_service,
)
from android_bench.adb.shell_output import (
    EXIT,
    STDERR,
    STDOUT,
    Chunk,
    MarkedCommand,
    as_lines,
    collect,
)
from android_bench.adb.transport import (
    FILE_SILENCE_S,
    SHELL_TIMEOUT_S,
    ConnectionLost,
    FileRefused,
    RemoteFile,
    ShellResult,
    file_time_s,
    open_source,
    quote_command,
    save,
)

# Of the file protocol: a name of four letters, and a length or another number.
_ID = struct.Struct("<4sI")
_SYNC_DATA = 64 * 1024


class ServerTransport:
    """One phone of one adb server.

    adbutils makes the connections and asks the server; the file protocol is spoken
    here, because its ``push`` may lose the end of what a slow phone does not take at
    once and tells no reason when a phone refuses.

    Args:
        phone: as the server lists it.

    Raises:
        ConnectionLost: the server is gone or does not reach the phone.
    """

    def __init__(self, address: ServerAddress, phone: AdbListed) -> None:
        self._address, self._phone = address, phone
        try:
            self._separate_streams = "shell_v2" in features(address, phone)
        except SERVER_ERRORS as error:
            self._lost(error)

    @property
    def label(self) -> str:
        return f"phone {self._phone.serial} (adb server)"

    def shell(
        self, argv: Sequence[str], timeout_s: float = SHELL_TIMEOUT_S
    ) -> ShellResult:
        """See ``Transport.shell``."""
        command = quote_command(argv)
        if self._separate_streams:
            result = collect(
                self._chunks(command, timeout_s), timeout_s, self.label, None
            )
            if result.exit_code is None:
                self._lost(EOFError("the command's end is missing"))
            return result
        marked = MarkedCommand.of(command)
        chunks = self._chunks(marked.text, timeout_s)
        return collect(chunks, timeout_s, self.label, marked)

    def lines(
        self, argv: Sequence[str], silence_s: float
    ) -> Generator[bytes, None, None]:
        """See ``Transport.lines``."""
        yield from as_lines(self._chunks(quote_command(argv), silence_s))

    def push(self, source: Path, target: str, mode: int = 0o644) -> None:
        """See ``Transport.push``."""
        with open_source(source) as file, self._sync() as connection:
            deadline = time.monotonic() + file_time_s(os.fstat(file.fileno()).st_size)
            head = f"{target},{0o100000 | mode}".encode()
            try:
                socket = connection.conn
                socket.sendall(_ID.pack(b"SEND", len(head)) + head)
                while data := file.read(_SYNC_DATA):
                    socket.sendall(_ID.pack(b"DATA", len(data)) + data)
                    # A phone that refuses says so at once and ignores the rest.
                    if select.select([socket], [], [], 0)[0]:
                        break
                    if time.monotonic() > deadline:
                        raise TimeoutError("the phone takes the file too slowly")
                else:
                    socket.sendall(_ID.pack(b"DONE", int(time.time())))
                answer, length = _ID.unpack(connection.read_exact(_ID.size))
                if answer == b"FAIL":
                    self._refused(target, connection.read_exact(min(length, 4096)))
                if answer != b"OKAY":
                    raise AdbError(f"unexpected answer {answer!r}")
            except SERVER_ERRORS as error:
                self._lost(error)

    def pull(self, source: str, target: Path) -> None:
        """See ``Transport.pull``."""
        save(self._received(source), target)

    def _received(self, source: str) -> Iterator[bytes]:
        name = source.encode()
        with self._sync() as connection:
            try:
                connection.conn.sendall(_ID.pack(b"RECV", len(name)) + name)
                while True:
                    answer, length = _ID.unpack(connection.read_exact(_ID.size))
                    if answer == b"DONE":
                        return
                    if answer == b"FAIL":
                        self._refused(source, connection.read_exact(min(length, 4096)))
                    if answer != b"DATA" or length > _SYNC_DATA:
                        raise AdbError(f"unexpected answer {answer!r}")
                    yield connection.read_exact(length)
            except SERVER_ERRORS as error:
                self._lost(error)

    def stat(self, path: str) -> RemoteFile | None:
        """See ``Transport.stat``."""
        name = path.encode()
        with self._sync() as connection:
            try:
                connection.conn.sendall(_ID.pack(b"STAT", len(name)) + name)
                answer = connection.read_exact(16)
            except SERVER_ERRORS as error:
                self._lost(error)
        kind, mode, size, mtime = struct.unpack("<4sIII", answer)
        if kind != b"STAT":
            self._lost(AdbError(f"unexpected answer {kind!r}"))
        return RemoteFile(mode, size, mtime) if mode else None

    def close(self) -> None:
        """Nothing stays open between the calls."""

    def _chunks(self, command: str, silence_s: float) -> Iterator[Chunk]:
        """What a command prints; with v2 the exit code comes last."""
        service = "shell,v2" if self._separate_streams else "shell"
        connection = self._open(f"{service}:{command}", silence_s)
        with connection:
            try:
                if not self._separate_streams:
                    while data := connection.recv(_SYNC_DATA):
                        yield STDOUT, data
                    return
                while True:
                    kind, length = struct.unpack("<BI", connection.read_exact(5))
                    data = connection.read_exact(length)
                    if kind in (STDOUT, STDERR):
                        yield kind, data
                    elif kind == EXIT and data:
                        yield kind, data
                        return
            except SERVER_ERRORS as error:
                self._lost(error)

    def _sync(self) -> AdbConnection:
        return self._open("sync:", FILE_SILENCE_S)

    def _open(self, service: str, silence_s: float) -> AdbConnection:
        try:
            return open_service(self._address, self._phone, service, silence_s)
        except SERVER_ERRORS as error:
            self._lost(error)

    def _refused(self, path: str, reason: bytes) -> NoReturn:
        said = reason.decode("utf-8", "replace").strip()
        raise FileRefused(f"{self.label} refuses {path}: {said}.", said)

    def _lost(self, error: Exception) -> NoReturn:
        said = str(error).strip() or type(error).__name__
        raise ConnectionLost(
            f"The connection to {self.label} is lost ({said})."
        ) from error
