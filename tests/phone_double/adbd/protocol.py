"""adb's transport messages: 24 bytes of header, then the payload."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import numpy as np

CNXN, AUTH, OPEN = 0x4E584E43, 0x48545541, 0x4E45504F
OKAY, CLSE, WRTE = 0x59414B4F, 0x45534C43, 0x45545257
COMMANDS = (CNXN, AUTH, OPEN, OKAY, CLSE, WRTE)

# The older version checks a sum of the payload's bytes, the newer one sends 0.
VERSION_CHECKED = 0x01000000
VERSION_UNCHECKED = 0x01000001
MAX_PAYLOAD = 1024 * 1024
MAX_PAYLOAD_OLD = 4096

_HEADER = struct.Struct("<6I")


class ProtocolError(Exception):
    """What arrived is no message of adb's."""


@dataclass(frozen=True)
class Message:
    """One message; what the two arguments mean depends on the command."""

    command: int
    arg0: int
    arg1: int
    payload: bytes = b""


def byte_sum(payload: bytes) -> int:
    """The checksum of the older version."""
    return int(np.frombuffer(payload, np.uint8).sum(dtype=np.uint32))


def pack(message: Message, checked: bool) -> bytes:
    """The message as it goes over the wire."""
    header = _HEADER.pack(
        message.command,
        message.arg0,
        message.arg1,
        len(message.payload),
        byte_sum(message.payload) if checked else 0,
        message.command ^ 0xFFFFFFFF,
    )
    return header + message.payload


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Raises ConnectionError when the other side ends before ``count`` bytes came."""
    parts = bytearray(count)
    view, filled = memoryview(parts), 0
    while filled < count:
        got = connection.recv_into(view[filled:])
        if not got:
            raise ConnectionError("the client closed the connection")
        filled += got
    return bytes(parts)


def receive(connection: socket.socket, checked: bool, most: int) -> Message:
    """Reads one message.

    Raises:
        ProtocolError: unknown command, payload over ``most``, or damaged.
        ConnectionError: the client is gone.
    """
    header = _HEADER.unpack(receive_exactly(connection, _HEADER.size))
    command, arg0, arg1, length, told_sum, magic = header
    if command not in COMMANDS or magic != command ^ 0xFFFFFFFF:
        raise ProtocolError(f"{command:#010x} with magic {magic:#010x} is no command")
    if length > most:
        raise ProtocolError(f"payload of {length} bytes is over {most}")
    payload = receive_exactly(connection, length)
    # A server that comes again remembers that this phone asked for no sums before.
    if command in (CNXN, AUTH) and not told_sum:
        checked = False
    if checked and byte_sum(payload) != told_sum:
        raise ProtocolError(f"checksum of {length} bytes is wrong")
    return Message(command, arg0, arg1, payload)
