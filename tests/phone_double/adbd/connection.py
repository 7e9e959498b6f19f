"""One client's connection: handshake, authorisation, and its streams."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.phone_double.adbd.auth import (
    RSAPUBLICKEY,
    SIGNATURE,
    TOKEN,
    TOKEN_BYTES,
    Trust,
    parse_public_key,
)
from tests.phone_double.adbd.protocol import (
    AUTH,
    CLSE,
    CNXN,
    MAX_PAYLOAD,
    MAX_PAYLOAD_OLD,
    OKAY,
    OPEN,
    VERSION_CHECKED,
    VERSION_UNCHECKED,
    WRTE,
    Message,
    ProtocolError,
    pack,
    receive,
)
from tests.phone_double.adbd.streams import Stream, StreamClosed

Service = Callable[[Stream], None]
# Gives what serves a name like "shell:ls", or None: refused.
FindService = Callable[[str], Service | None]


class Link:
    """What the cable does; shared by all connections of a phone.

    Attributes:
        bytes_per_s: how fast bytes go, either way; None: as fast as they can.
        delay_s: how long each message is on its way.
        mute: the phone neither reads nor answers, but keeps the connection open.
    """

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None
        self.delay_s = 0.0
        self.mute = threading.Event()
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, count: int) -> None:
        """Takes as long as ``count`` bytes do."""
        if self.delay_s > 0:
            time.sleep(self.delay_s)
        rate = self.bytes_per_s
        if rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


class Connection:
    """Serves one client until either side ends it; ``run`` is a thread's whole work."""

    def __init__(
        self,
        client: socket.socket,
        banner: bytes,
        trust: Trust,
        link: Link,
        find_service: FindService,
    ) -> None:
        self._client = client
        self._banner = banner
        self._trust = trust
        self._link = link
        self._find_service = find_service
        self._send_lock = threading.Lock()
        self._version = VERSION_CHECKED
        self._max_payload = MAX_PAYLOAD_OLD
        self._streams: dict[int, Stream] = {}
        self._last_local = 0
        self._token: bytes | None = None
        self._open = False
        self._ended = threading.Event()

    def run(self) -> None:
        client = self._client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while not self._ended.is_set():
                message = receive(client, self._checked, MAX_PAYLOAD)
                self._link.carry(24 + len(message.payload))
                while self._link.mute.is_set() and not self._ended.wait(0.02):
                    pass
                self._handle(message)
        except (ConnectionError, ProtocolError, OSError):
            pass
        finally:
            self._end()

    def abort(self) -> None:
        """Ends it as a pulled cable does: the client's next read fails."""
        # Lingering for zero seconds sends a reset instead of an orderly end.
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._end()

    @property
    def authorised(self) -> bool:
        return self._open

    @property
    def _checked(self) -> bool:
        return self._version < VERSION_UNCHECKED

    def _end(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RD)
        self._client.close()
        for stream in list(self._streams.values()):
            stream.lost()

    def _send(self, message: Message) -> None:
        while self._link.mute.is_set() and not self._ended.wait(0.02):
            pass
        self._link.carry(24 + len(message.payload))
        with self._send_lock, contextlib.suppress(OSError):
            self._client.sendall(pack(message, self._checked))

    # === Messages ===

    def _handle(self, message: Message) -> None:
        if message.command == CNXN:
            self._connect(message)
        elif message.command == AUTH:
            self._authorise(message)
        elif not self._open:
            raise ProtocolError("a stream before the handshake")
        elif message.command == OPEN:
            self._open_stream(message)
        else:
            self._of_stream(message)

    def _connect(self, message: Message) -> None:
        self._version = min(message.arg0, VERSION_UNCHECKED)
        self._max_payload = min(message.arg1, MAX_PAYLOAD)
        for stream in list(self._streams.values()):
            stream.lost()
        self._streams.clear()
        self._open = False
        if self._trust.required:
            self._challenge()
        else:
            self._welcome()

    def _challenge(self) -> None:
        self._token = os.urandom(TOKEN_BYTES)
        self._send(Message(AUTH, TOKEN, 0, self._token))

    def _welcome(self) -> None:
        self._open = True
        # The highest version is told, both sides go on with the lower of the two.
        self._send(Message(CNXN, VERSION_UNCHECKED, MAX_PAYLOAD, self._banner))

    def _authorise(self, message: Message) -> None:
        if self._open:
            return
        if message.arg0 == SIGNATURE and self._token is not None:
            if self._trust.verifies(self._token, message.payload):
                self._welcome()
            else:
                self._challenge()
        elif message.arg0 == RSAPUBLICKEY:
            self._ask_owner(message.payload)
        else:
            raise ProtocolError(f"AUTH of kind {message.arg0}")

    def _ask_owner(self, payload: bytes) -> None:
        try:
            key = parse_public_key(payload)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        self._trust.asked.append(key)
        delay = self._trust.tap_after_s
        if delay is None:
            return

        def tap() -> None:
            if not self._ended.wait(delay) and self._trust.tap_after_s is not None:
                self._trust.add(key)
                self._welcome()

        threading.Thread(target=tap, daemon=True).start()

    def _open_stream(self, message: Message) -> None:
        name = message.payload.rstrip(b"\0").decode(errors="surrogateescape")
        service = self._find_service(name)
        if service is None:
            self._send(Message(CLSE, 0, message.arg0))
            return
        self._last_local += 1
        local = self._last_local
        stream = Stream(local, message.arg0, self._max_payload, self._send)
        self._streams[local] = stream
        self._send(Message(OKAY, local, message.arg0))
        threading.Thread(
            target=self._serve, args=(service, stream), daemon=True
        ).start()

    def _serve(self, service: Service, stream: Stream) -> None:
        try:
            service(stream)
            stream.drained()
        except (StreamClosed, RuntimeError):
            # The client is gone, or the phone is.
            pass
        finally:
            stream.close()

    def _of_stream(self, message: Message) -> None:
        stream = self._streams.get(message.arg1)
        if stream is None or (message.arg0 and stream.remote != message.arg0):
            # As adbd does: what belongs to no stream is closed, not answered.
            if message.command == WRTE:
                self._send(Message(CLSE, 0, message.arg0))
        elif message.command == WRTE:
            stream.arrived(message.payload)
        elif message.command == OKAY:
            stream.acknowledged()
        elif message.command == CLSE:
            del self._streams[message.arg1]
            stream.close()
