"""The services that run commands: ``shell:``, ``shell,v2,...:`` and ``exec:``."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

from phone_double.processes import Processes
from phone_double.shell_paths import PathMap
from phone_double.streams import Stream, StreamClosed

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
_READ_SIZE = 64 * 1024


@dataclass(frozen=True)
class ShellRequest:
    """What a service name of the shell family asks for.

    Attributes:
        command: "" for a shell that reads commands from its input.
        packets: shell v2: stdout, stderr and the exit code are told apart.
        terminal: run it on a terminal.
    """

    command: str
    packets: bool
    terminal: bool

    @classmethod
    def parse(cls, name: str, shell_is_terminal: bool) -> ShellRequest | None:
        """None: it is no service of the family."""
        service, _, command = name.partition(":")
        kind, *options = service.split(",")
        if kind == "exec" and not options:
            return cls(command, packets=False, terminal=False)
        if kind != "shell":
            return None
        terminal = not command or shell_is_terminal
        if "raw" in options:
            terminal = False
        if "pty" in options:
            terminal = True
        return cls(command, "v2" in options, terminal)


def packet(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4, "little") + data


class ShellSession:
    """One command from its start until its output ends or the client goes."""

    def __init__(
        self,
        request: ShellRequest,
        stream: Stream,
        shell: str,
        processes: Processes,
        paths: PathMap,
        as_phone_says: Callable[[bytes], bytes],
    ) -> None:
        self._request = request
        self._stream = stream
        self._paths = paths
        self._as_phone_says = as_phone_says
        # Closed by the reader of the client's bytes: wakes the reader of the output.
        self._wake, self._alarm = socket.socketpair()
        self._client_gone = False
        argv = ["sh", "-c", paths.to_host(request.command)]
        if not request.command:
            argv = ["sh", "-i"] if request.terminal else ["sh"]
        self._terminal: int | None = None
        if request.terminal:
            self._terminal, inner = os.openpty()
            self._process = processes.start(
                argv, executable=shell, stdin=inner, stdout=inner, stderr=inner
            )
            os.close(inner)
        else:
            self._process = processes.start(
                argv,
                executable=shell,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if request.packets else subprocess.STDOUT,
            )

    def run(self) -> None:
        feeder = threading.Thread(target=self._feed, daemon=True)
        feeder.start()
        try:
            self._pump()
            if self._client_gone:
                return
            code = self._process.wait()
            if self._request.packets:
                told = 128 - code if code < 0 else code
                self._stream.write(packet(EXIT, bytes([told & 0xFF])))
        except StreamClosed:
            self._client_gone = True
        finally:
            if self._client_gone and self._request.packets:
                # What adbd does; children of the shell go on.
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGHUP)
            self._close_pipes()

    # === The client's bytes ===

    def _feed(self) -> None:
        buffer = bytearray()
        while (data := self._stream.read()) is not None:
            if not self._request.packets:
                self._to_stdin(data)
                continue
            buffer += data
            while len(buffer) >= 5:
                length = int.from_bytes(buffer[1:5], "little")
                if len(buffer) < 5 + length:
                    break
                kind, body = buffer[0], bytes(buffer[5 : 5 + length])
                del buffer[: 5 + length]
                if kind == STDIN:
                    self._to_stdin(body)
                elif kind == CLOSE_STDIN:
                    self._end_stdin()
        self._client_gone = True
        self._alarm.close()

    def _to_stdin(self, data: bytes) -> None:
        if not self._request.command:
            text = data.decode(errors="surrogateescape")
            data = self._paths.to_host(text).encode(errors="surrogateescape")
        with contextlib.suppress(OSError, ValueError):
            if self._terminal is not None:
                os.write(self._terminal, data)
            elif self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def _end_stdin(self) -> None:
        with contextlib.suppress(OSError):
            if self._terminal is not None:
                os.write(self._terminal, b"\x04")
            elif self._process.stdin is not None:
                self._process.stdin.close()

    # === The command's output ===

    def _pump(self) -> None:
        kinds = {}
        if self._terminal is not None:
            kinds[self._terminal] = STDOUT
        else:
            for pipe, kind in (
                (self._process.stdout, STDOUT),
                (self._process.stderr, STDERR),
            ):
                if pipe is not None:
                    kinds[pipe.fileno()] = kind
        back = {fd: self._paths.unmapper() for fd in kinds}
        with selectors.DefaultSelector() as selector:
            for fd in kinds:
                selector.register(fd, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while len(selector.get_map()) > 1:
                for key, _ in selector.select():
                    if key.fileobj is self._wake:
                        return
                    data = _read(key.fd)
                    if data:
                        self._say(kinds[key.fd], back[key.fd].feed(data))
                    else:
                        self._say(kinds[key.fd], back[key.fd].flush())
                        selector.unregister(key.fd)

    def _say(self, kind: int, data: bytes) -> None:
        if not data:
            return
        if kind == STDERR or not self._request.packets:
            data = self._as_phone_says(data)
        self._stream.write(packet(kind, data) if self._request.packets else data)

    def _close_pipes(self) -> None:
        self._wake.close()
        if self._terminal is not None:
            os.close(self._terminal)
        for pipe in (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        ):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _read(fd: int) -> bytes:
    """Empty at the end; a terminal ends with an error."""
    try:
        return os.read(fd, _READ_SIZE)
    except OSError:
        return b""
