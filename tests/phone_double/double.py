"""The phone double: an adb daemon on loopback in front of a phone's system."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from phone_double.auth import Trust
from phone_double.connection import Connection, Link, Service
from phone_double.phones import BIG_LITTLE, Phone
from phone_double.shell_service import ShellRequest, ShellSession
from phone_double.state import PhoneState
from phone_double.streams import Stream
from phone_double.sync_service import SyncService
from phone_double.system import System


class PhoneDouble:
    """A phone that listens on loopback for as long as the ``with`` block lasts.

    Attributes:
        phone: what it is.
        state: what it is doing; change its fields at any time.
        trust: whom it lets in.
        link: its cable.
        address: host and port.
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
        self._port = port
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._listen()
        self.system = System(
            phone,
            self.state,
            Path(tempfile.mkdtemp(prefix="phone-")),
            self._answer_tool,
            lambda: 0.0,
        )

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

    def host_path(self, path: str) -> Path:
        """Where a file of the phone's lies on this computer."""
        return self.system.tree.host_path(path)

    def close(self) -> None:
        self.refuse()
        self.system.close()

    # === The network ===

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(16)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
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

    def refuse(self) -> None:
        """Drops all connections and takes no new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def drop(self) -> None:
        """Pulls the cable: all connections end at once; new ones are taken."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    # === Services ===

    def _find_service(self, name: str) -> Service | None:
        if name == "sync:":
            return self._serve_sync
        request = ShellRequest.parse(name, self.phone.shell_is_terminal)
        if request is None or (
            request.packets and "shell_v2" not in self.phone.features
        ):
            return None
        return lambda stream: self._serve_shell(request, stream)

    def _serve_sync(self, stream: Stream) -> None:
        SyncService(stream, self.system.tree, lambda count: None).run()

    def _serve_shell(self, request: ShellRequest, stream: Stream) -> None:
        self.system.refresh()
        ShellSession(
            request,
            stream,
            self.system.shell,
            self.system.processes,
            self.system.paths,
            lambda data: data,
        ).run()

    def _answer_tool(self, told: dict[str, Any]) -> dict[str, Any]:
        return {}
