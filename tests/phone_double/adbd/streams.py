"""One service of a connection: bytes both ways, each message acknowledged."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from tests.phone_double.adbd.protocol import CLSE, OKAY, WRTE, Message


class StreamClosed(Exception):
    """The client closed the stream, or the connection is gone."""


class Stream:
    """The phone's end of a stream; its service reads and writes from its own threads.

    A message of the client's is acknowledged when the service takes it, and the service
    waits for the client's acknowledgement before it sends the next one.
    """

    def __init__(
        self,
        local: int,
        remote: int,
        max_payload: int,
        send: Callable[[Message], None],
    ) -> None:
        self.local, self.remote = local, remote
        self._max_payload = max_payload
        self._send = send
        self._incoming: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._state = threading.Condition()
        self._may_write = True
        self._gone = False
        self._lost = False
        self._said_closed = False

    # === What the service calls ===

    def read(self) -> bytes | None:
        """The next bytes; None when the client closed the stream or is gone."""
        data = self._incoming.get()
        if data is None or self._lost:
            self._incoming.put(None)
            return None
        if not self._gone:
            self._send(Message(OKAY, self.local, self.remote))
        return data

    def write(self, data: bytes) -> None:
        """Raises StreamClosed when nobody listens any more."""
        for begin in range(0, len(data), self._max_payload):
            with self._state:
                self._state.wait_for(lambda: self._may_write or self._gone)
                if self._gone:
                    raise StreamClosed
                self._may_write = False
            part = data[begin : begin + self._max_payload]
            self._send(Message(WRTE, self.local, self.remote, part))

    def drained(self) -> None:
        """Waits until the client has acknowledged everything, or is gone."""
        with self._state:
            self._state.wait_for(lambda: self._may_write or self._gone)

    def close(self) -> None:
        """Says so to the client, once."""
        with self._state:
            say = not self._said_closed
            self._said_closed = self._gone = True
            self._state.notify_all()
        self._incoming.put(None)
        if say:
            self._send(Message(CLSE, self.local, self.remote))

    @property
    def is_lost(self) -> bool:
        """The connection is gone, and with it what nobody has taken."""
        return self._lost

    # === What the connection calls ===

    def arrived(self, data: bytes) -> None:
        self._incoming.put(data)

    def acknowledged(self) -> None:
        with self._state:
            self._may_write = True
            self._state.notify_all()

    def lost(self) -> None:
        """The connection is gone: nothing can be said any more."""
        with self._state:
            self._said_closed = self._gone = self._lost = True
            self._state.notify_all()
        self._incoming.put(None)
