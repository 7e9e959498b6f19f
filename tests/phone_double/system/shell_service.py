"""The services that run commands: ``shell:``, ``shell,v2,...:`` and ``exec:``."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import socket
import subprocess
import threading
import tty
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.phone_double.adbd.streams import Stream, StreamClosed
from tests.phone_double.system.processes import Processes
from tests.phone_double.system.shell_errors import Rewording
from tests.phone_double.system.shell_paths import PathMap, is_simple

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
PIPES, TERMINAL, RAW_TERMINAL = "pipes", "terminal", "raw terminal"
_READ_SIZE = 64 * 1024
# How long a terminal must be silent after its shell has ended: what still holds it is a
# process in the background.
_SILENCE_S = 0.05


@dataclass(frozen=True)
class ShellRequest:
    """What a service name of the shell family asks for.

    Attributes:
        command: "" for a shell that reads commands from its input.
        packets: shell v2: stdout, stderr and the exit code are told apart.
        mode: without packets adbd needs a terminal, so that it can tell a process that
            nobody listens any more; a raw one changes no byte.
    """

    command: str
    packets: bool
    mode: str

    @classmethod
    def parse(cls, name: str, shell_is_terminal: bool) -> ShellRequest | None:
        """None: it is no service of the family."""
        service, _, command = name.partition(":")
        kind, *options = service.split(",")
        if kind == "exec" and not options:
            return cls(command, False, RAW_TERMINAL)
        if kind != "shell":
            return None
        packets = "v2" in options
        terminal = not command or (shell_is_terminal and not options)
        if "pty" in options or (terminal and "raw" not in options):
            return cls(command, packets, TERMINAL)
        return cls(command, packets, PIPES if packets else RAW_TERMINAL)


@dataclass(frozen=True)
class Shell:
    """The shell of a phone.

    Attributes:
        program: the host's.
        prelude: shell text to run before every command.
        programs: names of the phone's.
        noise: what is printed before the output of every command.
        sdk: of the phone's Android: its shell's words differ.
    """

    program: str
    prelude: str
    programs: frozenset[str]
    processes: Processes
    paths: PathMap
    noise: Callable[[], bytes]
    sdk: int

    def text(self, command: str) -> str:
        """What the host's shell is to be given for a command line of the phone's."""
        # Android's shell becomes a command that is all there is to do.
        become = "exec " if is_simple(command, self.programs) else ""
        return self.prelude + become + self.paths.to_host(command)

    def argv(self, command: str, mode: str) -> list[str]:
        if command:
            return ["sh", "-c", self.text(command)]
        if mode == TERMINAL:
            return ["sh", "-i", "+m"]
        return ["sh", "-c", self.prelude + ". /dev/stdin"]


class Filter(Protocol):
    """Changes a stream of output."""

    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class Chain:
    """Two filters, one after the other."""

    def __init__(self, first: Filter, second: Filter) -> None:
        self._first, self._second = first, second

    def feed(self, data: bytes) -> bytes:
        return self._second.feed(self._first.feed(data))

    def flush(self) -> bytes:
        return self._second.feed(self._first.flush()) + self._second.flush()


def packet(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4, "little") + data


class ShellSession:
    """One command from its start until its output ends or the client goes.

    Args:
        boot: that of ``Processes`` in which the client asked.
    """

    def __init__(
        self, request: ShellRequest, stream: Stream, shell: Shell, boot: int
    ) -> None:
        self._request, self._stream, self._shell = request, stream, shell
        self._boot = boot
        self._client_gone = False
        self._ended = threading.Event()
        self._terminal: int | None = None
        self._process = self._start()
        # Closed by whoever wants the reader of the output to look up.
        self._wake, self._alarm = socket.socketpair()

    def _start(self) -> subprocess.Popen[bytes]:
        mode, shell = self._request.mode, self._shell
        argv = shell.argv(self._request.command, mode)
        start = functools.partial(
            shell.processes.start, self._boot, argv, executable=shell.program
        )
        if mode == PIPES:
            pipe = subprocess.PIPE
            return start(stdin=pipe, stdout=pipe, stderr=pipe)
        outer, inner = os.openpty()
        if mode == RAW_TERMINAL:
            tty.setraw(inner)
        try:
            process = start(stdin=inner, stdout=inner, stderr=inner)
        except (OSError, RuntimeError):
            os.close(outer)
            raise
        finally:
            os.close(inner)
        self._terminal = outer
        return process

    def run(self) -> None:
        for work in (self._feed, self._watch):
            threading.Thread(target=work, daemon=True).start()
        try:
            if noise := self._shell.noise():
                self._say(STDOUT, noise)
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
            self._hang_up()
            self._close_pipes()

    def _hang_up(self) -> None:
        """Tells processes that nobody listens, as adbd and the kernel do.

        Only the shell itself with packets: its children go on. With a terminal, all.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._terminal is not None:
                os.killpg(self._process.pid, signal.SIGHUP)
            elif self._client_gone:
                self._process.send_signal(signal.SIGHUP)

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
                elif kind == CLOSE_STDIN and self._process.stdin is not None:
                    with contextlib.suppress(OSError):
                        self._process.stdin.close()
        self._client_gone = True
        self._alarm.close()

    def _to_stdin(self, data: bytes) -> None:
        if not self._request.command:
            text = data.decode(errors="surrogateescape")
            data = self._shell.paths.to_host(text).encode(errors="surrogateescape")
        with contextlib.suppress(OSError, ValueError):
            if self._terminal is not None:
                os.write(self._terminal, data)
            elif self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    # === The command's output ===

    def _watch(self) -> None:
        """A terminal's session ends with its shell, whoever else holds it."""
        if self._terminal is not None:
            self._process.wait()
            self._ended.set()
            with contextlib.suppress(OSError):
                self._alarm.send(b"\0")

    def _pump(self) -> None:
        kinds = {}
        if self._terminal is not None:
            kinds[self._terminal] = STDOUT
        for pipe, kind in (
            (self._process.stdout, STDOUT),
            (self._process.stderr, STDERR),
        ):
            if pipe is not None:
                kinds[pipe.fileno()] = kind
        filters = {fd: self._filter(kind) for fd, kind in kinds.items()}
        with selectors.DefaultSelector() as selector:
            for fd in (*kinds, self._wake.fileno()):
                selector.register(fd, selectors.EVENT_READ)
            still_open = set(kinds)
            while still_open and not self._client_gone:
                ended = self._ended.is_set()
                events = selector.select(_SILENCE_S if ended else None)
                if ended and not events:
                    break
                for key, _ in events:
                    if key.fd == self._wake.fileno():
                        selector.unregister(key.fd)
                    elif data := _read(key.fd):
                        self._say(kinds[key.fd], filters[key.fd].feed(data))
                    else:
                        selector.unregister(key.fd)
                        still_open.discard(key.fd)
        for fd, kind in kinds.items():
            self._say(kind, filters[fd].flush())

    def _filter(self, kind: int) -> Filter:
        """What turns output of the host's shell into the phone's."""
        unmapper = self._shell.paths.unmapper()
        if kind == STDOUT and self._request.packets:
            return unmapper
        return Chain(unmapper, Rewording(self._shell.sdk))

    def _say(self, kind: int, data: bytes) -> None:
        if not data or self._client_gone:
            return
        self._stream.write(packet(kind, data) if self._request.packets else data)

    def _close_pipes(self) -> None:
        self._wake.close()
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            os.close(terminal)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _read(fd: int) -> bytes:
    """Empty at the end; a terminal ends with an error."""
    try:
        return os.read(fd, _READ_SIZE)
    except OSError:
        return b""
