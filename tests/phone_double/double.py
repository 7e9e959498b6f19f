"""The phone double: an adb daemon on loopback in front of a phone's system."""

from __future__ import annotations

import contextlib
import errno
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.phone_double.adbd.auth import Trust
from tests.phone_double.adbd.connection import Connection, Link, Service
from tests.phone_double.adbd.streams import Stream
from tests.phone_double.faults import Faults
from tests.phone_double.phones.phone import BIG_LITTLE, Phone
from tests.phone_double.phones.state import PhoneState
from tests.phone_double.system.shell_service import ShellRequest, ShellSession
from tests.phone_double.system.sync_service import SyncService
from tests.phone_double.system.system import System

_BIND_S = 10.0


class PhoneDouble:
    """A phone that listens on loopback for as long as the ``with`` block lasts.

    Attributes:
        phone: what it is.
        state: what it is doing; change its fields at any time.
        trust: whom it lets in.
        link: its cable.
        faults: what goes wrong, and when.
        system: its files, its processes, its clock.
    """

    def __init__(
        self,
        phone: Phone = BIG_LITTLE,
        *,
        port: int = 0,
        trust: Trust | None = None,
        state: PhoneState | None = None,
    ) -> None:
        self.phone = phone
        self.state = state or PhoneState()
        self.trust = trust or Trust()
        self.link = Link()
        self.faults = Faults()
        self._port = port
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener: socket.socket | None = None
        folder = Path(tempfile.mkdtemp(prefix="phone-"))
        self.system = System(phone, self.state, self.faults, folder, self._go_down)
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def serial(self) -> str:
        """What ``adb connect`` and ``adb -s`` call it."""
        return f"127.0.0.1:{self._port}"

    @property
    def connected(self) -> int:
        """Clients that were let in and are still there."""
        with self._lock:
            return sum(connection.authorised for connection in self._connections)

    def host_path(self, path: str) -> Path:
        """Where a file of the phone's lies on this computer."""
        return self.system.tree.host_path(path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.refuse()
        self.system.close()

    # === Faults that happen at once ===

    def drop(self) -> None:
        """Pulls the cable: all connections end at once; new ones are taken."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    def refuse(self) -> None:
        """Drops all connections and takes no new ones, until ``accept``."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def accept(self) -> None:
        """Takes connections again, at the same address."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until = time.monotonic() + _BIND_S
        while True:
            try:
                listener.bind(("127.0.0.1", self._port))
                break
            except OSError as error:
                # For a moment the port of a phone that was away may be another's.
                if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                    listener.close()
                    raise
                time.sleep(0.05)
        with self._lock:
            if self._closed or self._listener is not None:
                listener.close()
                return
            listener.listen(16)
            self._port = listener.getsockname()[1]
            self._listener = listener
        threading.Thread(target=self._take, args=(listener,), daemon=True).start()

    def reboot(self, down_s: float = 0.5) -> None:
        """Everything that runs ends; the phone is away for a while, then as if new."""
        self.refuse()
        self.system.restart()

        def come_back() -> None:
            time.sleep(down_s)
            with self._lock:
                closed = self._closed
            if not closed:
                self.accept()

        threading.Thread(target=come_back, daemon=True).start()

    def revoke(self) -> None:
        """The owner takes back all permissions: who comes again is not let in."""
        self.trust.revoke()
        self.drop()

    def jump_clock(self, seconds: float, uptime_too: bool = False) -> None:
        """Sets the phone's clock forward, or back."""
        self.state.clock_offset_s += seconds
        if uptime_too:
            self.system.uptime.jump(seconds)

    # === The network ===

    def _take(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            connection = Connection(
                client, self.phone.banner, self.trust, self.link, self._find_service
            )
            with self._lock:
                self._connections.append(connection)
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: Connection) -> None:
        connection.run()
        with self._lock, contextlib.suppress(ValueError):
            self._connections.remove(connection)

    # === Services ===

    def _find_service(self, name: str) -> Service | None:
        if name.startswith("sync:"):
            return self._serve_sync
        if name.startswith("reboot:"):
            return lambda stream: self._go_down()
        request = ShellRequest.parse(name, self.phone.shell_is_terminal)
        new_shell = "shell_v2" in self.phone.features
        if request is None or (request.packets and not new_shell):
            return None
        boot = self.system.processes.boot
        return lambda stream: self._serve_shell(request, stream, boot)

    def _go_down(self) -> None:
        """As ``adb reboot``: the answer goes out before the phone is gone."""
        threading.Timer(0.1, self.reboot).start()

    def _serve_sync(self, stream: Stream) -> None:
        SyncService(stream, self.system.tree, self.faults).run()

    def _serve_shell(self, request: ShellRequest, stream: Stream, boot: int) -> None:
        self.system.refresh()
        ShellSession(request, stream, self.system.shell, boot).run()
