"""Transport without an adb server: by USB or over the network, with adb_shell."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Generator, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from adb_shell.adb_device import AdbDevice
from adb_shell.exceptions import (
    AdbCommandFailureException,
    AdbConnectionError,
    AdbTimeoutError,
    DeviceAuthError,
    InvalidChecksumError,
    InvalidCommandError,
    InvalidResponseError,
    PushFailedError,
    TcpTimeoutException,
    UsbReadFailedError,
    UsbWriteFailedError,
)
from adb_shell.transport.base_transport import BaseTransport
from adb_shell.transport.tcp_transport import TcpTransport

from android_bench.adb.keys import Signer
from android_bench.adb.shell_output import (
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

_LOG = logging.getLogger(__name__)

CONNECT_S = 10.0


class Unauthorized(Exception):
    """The phone has not authorised this computer's key."""


# What adb_shell raises on a phone that goes away or says something else.
LINK_ERRORS: tuple[type[Exception], ...] = (
    Unauthorized,
    AdbCommandFailureException,
    AdbConnectionError,
    AdbTimeoutError,
    DeviceAuthError,
    InvalidChecksumError,
    InvalidCommandError,
    InvalidResponseError,
    OSError,
    TcpTimeoutException,
    UsbReadFailedError,
    UsbWriteFailedError,
    struct.error,
)

# How a refusal begins in the file protocol: FAIL, a length, the reason.
_FAIL = b"FAIL"
_FAIL_HEAD = 8


class Refusal(Exception):
    """The phone refused a file in the middle of a push."""


class CheckedTransport(BaseTransport):
    """Transport that checks what adb_shell leaves to its transports.

    A connection that the phone has closed is an error at once, not after a busy wait
    (https://github.com/JeffLIrion/adb_shell/issues/205 and alike); what is sent is sent
    whole; and a phone that refuses a file in the middle of a push is heard, where
    adb_shell would drop its words and wait for others.

    Args:
        inner: what makes the connection, e.g. adb_shell's ``TcpTransport``.
        errors: what else it may raise; passed on as an OSError.
    """

    def __init__(
        self, inner: BaseTransport, errors: tuple[type[Exception], ...] = ()
    ) -> None:
        self._inner = inner
        self._errors = errors
        self._deadline: float | None = None

    def close(self) -> None:
        self._inner.close()

    def connect(self, transport_timeout_s: float) -> None:
        with self._passed_on():
            self._inner.connect(transport_timeout_s)

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        self._check_time()
        with self._passed_on():
            data: bytes = self._inner.bulk_read(numbytes, transport_timeout_s)
        if not data:
            raise ConnectionResetError("the phone has closed the connection")
        if self._deadline is not None and data.startswith(_FAIL):
            raise Refusal(data[_FAIL_HEAD:].decode("utf-8", "replace").strip())
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        self._check_time()
        rest = memoryview(data)
        while rest:
            with self._passed_on():
                count = self._inner.bulk_write(bytes(rest), transport_timeout_s)
            rest = rest[count:]
        return len(data)

    @contextlib.contextmanager
    def pushing(self, limit_s: float) -> Iterator[None]:
        """Context of a push: one time limit, and refusals are recognised."""
        self._deadline = time.monotonic() + limit_s
        try:
            yield
        finally:
            self._deadline = None

    @contextlib.contextmanager
    def _passed_on(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise OSError(str(error) or type(error).__name__) from error

    def _check_time(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimeoutError("the phone takes the file too slowly")


class NoDelayTcp(TcpTransport):
    """adb_shell's TCP transport with ``TCP_NODELAY``.

    Each message goes out as a header and a body; by default the second waits for the
    other side to confirm the first, some 40 ms each time.
    """

    def connect(self, transport_timeout_s: float) -> None:
        super().connect(transport_timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class DirectTransport:
    """One phone reached without a server.

    adb_shell speaks only the shell protocol v1: exit codes come by a marker, and
    stderr comes with stdout.

    Args:
        wire: the way to the phone.
        signers: keys; see ``keys.load_signers``.
        label: what messages call the phone.
        trust_s: how long the phone's user may take to trust this computer, seconds; 0
            does not even ask.

    Raises:
        LINK_ERRORS: as adb_shell raises them; ``adb/reach.py`` explains them.
    """

    def __init__(
        self,
        wire: CheckedTransport,
        signers: Sequence[Signer],
        label: str,
        trust_s: float,
    ) -> None:
        self._wire = wire
        self._signers = list(signers)
        self._label = label
        self._device = AdbDevice(self._wire, default_transport_timeout_s=CONNECT_S)
        self._lost_for = ""
        self._spoilt = False
        self._connect(trust_s)

    @property
    def label(self) -> str:
        return self._label

    def shell(
        self, argv: Sequence[str], timeout_s: float = SHELL_TIMEOUT_S
    ) -> ShellResult:
        """See ``Transport.shell``."""
        marked = MarkedCommand.of(quote_command(argv))
        return collect(
            self._chunks(marked.text, timeout_s), timeout_s, self.label, marked
        )

    def lines(
        self, argv: Sequence[str], silence_s: float
    ) -> Generator[bytes, None, None]:
        """See ``Transport.lines``."""
        yield from as_lines(self._chunks(f"{quote_command(argv)} 2>&1", silence_s))

    def push(self, source: Path, target: str, mode: int = 0o644) -> None:
        """See ``Transport.push``."""
        with open_source(source) as file:
            limit_s = file_time_s(os.fstat(file.fileno()).st_size)
        with self._link() as device, self._refusals(target):
            with self._wire.pushing(limit_s):
                device.push(
                    str(source),
                    target,
                    st_mode=0o100000 | mode,
                    transport_timeout_s=FILE_SILENCE_S,
                    read_timeout_s=FILE_SILENCE_S,
                )

    def pull(self, source: str, target: Path) -> None:
        """See ``Transport.pull``."""
        content = BytesIO()
        with self._link() as device, self._refusals(source):
            device.pull(
                source,
                content,
                transport_timeout_s=FILE_SILENCE_S,
                read_timeout_s=FILE_SILENCE_S,
            )
        save(iter([content.getvalue()]), target)

    def stat(self, path: str) -> RemoteFile | None:
        """See ``Transport.stat``."""
        with self._link() as device:
            mode, size, mtime = device.stat(
                path,
                transport_timeout_s=FILE_SILENCE_S,
                read_timeout_s=FILE_SILENCE_S,
            )
        return RemoteFile(mode, size, mtime) if mode else None

    def close(self) -> None:
        self._lost_for = "it was closed"
        self._device.close()

    def _connect(self, trust_s: float) -> None:
        asked = False

        def ask(_device: object) -> None:
            nonlocal asked
            if not trust_s:
                raise Unauthorized("it does not trust this computer")
            asked = True
            _LOG.warning(
                "%s asks whether to trust this computer: unlock it and tap 'Allow'"
                " within %g s",
                self.label,
                trust_s,
            )

        try:
            self._device.connect(
                rsa_keys=self._signers,
                transport_timeout_s=CONNECT_S,
                read_timeout_s=CONNECT_S,
                auth_timeout_s=trust_s,
                auth_callback=ask,
            )
        except LINK_ERRORS as error:
            self._device.close()
            if asked:
                raise Unauthorized(f"nobody allowed it within {trust_s:g} s") from error
            raise

    @contextlib.contextmanager
    def _link(self) -> Iterator[AdbDevice]:
        """The connection for one command; what breaks off in its middle spoils it."""
        if self._lost_for:
            raise ConnectionLost(
                f"The connection to {self.label} is lost ({self._lost_for})."
            )
        try:
            if self._spoilt:
                self._device.close()
                self._connect(trust_s=0.0)
            self._spoilt = True
            yield self._device
        except LINK_ERRORS as error:
            self._lost_for = str(error).strip() or type(error).__name__
            self._device.close()
            raise ConnectionLost(
                f"The connection to {self.label} is lost ({self._lost_for})."
            ) from error
        self._spoilt = False

    @contextlib.contextmanager
    def _refusals(self, path: str) -> Iterator[None]:
        try:
            yield
        except (Refusal, PushFailedError, AdbCommandFailureException) as error:
            said = str(error).removeprefix("Command failed: ").strip()
            said = said or "it gives no reason"
            raise FileRefused(f"{self.label} refuses {path}: {said}.", said) from error

    def _chunks(self, command: str, silence_s: float) -> Iterator[Chunk]:
        with self._link() as device:
            for data in device.streaming_shell(
                command,
                transport_timeout_s=silence_s,
                read_timeout_s=silence_s,
                decode=False,
            ):
                yield STDOUT, data
