"""The least client there is: one connection, one stream after another.

For tests of the double itself, which need to do what no well-behaved client does.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.phone_double.adbd.protocol import (
    CLSE,
    CNXN,
    MAX_PAYLOAD,
    OKAY,
    OPEN,
    VERSION_UNCHECKED,
    WRTE,
    Message,
    pack,
    receive,
)
from tests.phone_double.system.shell_service import (
    CLOSE_STDIN,
    EXIT,
    STDERR,
    STDOUT,
    packet,
)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: bytes
    err: bytes
    code: int | None


class Client:
    """Speaks to a phone that asks for no key."""

    def __init__(
        self, address: tuple[str, int], version: int = VERSION_UNCHECKED
    ) -> None:
        self._socket = socket.create_connection(address, timeout=30)
        # Else each message waits for the acknowledgement of the last, up to 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._version = version
        self._local = 0
        self.send(Message(CNXN, version, MAX_PAYLOAD, b"host::\0"))
        welcome = self.receive()
        self._version = min(version, welcome.arg0)
        self.banner, self.max_payload = welcome.payload, welcome.arg1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, message: Message) -> None:
        checked = self._version < VERSION_UNCHECKED
        self._socket.sendall(pack(message, checked))

    def receive(self) -> Message:
        """Raises ConnectionError when the phone is gone."""
        checked = self._version < VERSION_UNCHECKED
        return receive(self._socket, checked, MAX_PAYLOAD)

    def open(self, service: str) -> tuple[int, int]:
        """Both ends' numbers of a new stream. Raises ConnectionError when refused."""
        self._local += 1
        self.send(Message(OPEN, self._local, 0, service.encode() + b"\0"))
        answer = self.receive()
        if answer.command != OKAY:
            raise ConnectionError(f"{service} is refused")
        return self._local, answer.arg0

    def read_all(self, stream: tuple[int, int]) -> bytes:
        """Everything the phone says until it closes the stream."""
        parts = []
        while (message := self.receive()).command != CLSE:
            if message.command == WRTE:
                parts.append(message.payload)
                self.send(Message(OKAY, *stream))
        self.send(Message(CLSE, *stream))
        return b"".join(parts)

    def shell(self, command: str) -> Said:
        """Runs a command by shell v2, without input."""
        stream = self.open(f"shell,v2,raw:{command}")
        self.send(Message(WRTE, *stream, packet(CLOSE_STDIN, b"")))
        said = self.read_all(stream)
        told: dict[int, bytes] = {STDOUT: b"", STDERR: b"", EXIT: b""}
        while said:
            length = int.from_bytes(said[1:5], "little")
            told[said[0]] += said[5 : 5 + length]
            said = said[5 + length :]
        return Said(told[STDOUT], told[STDERR], told[EXIT][0] if told[EXIT] else None)
