"""The protocol of a connection to a phone; every wait of it has a bound.

A transport is one connection. When it is lost, everything raises ``ConnectionLost``;
who wants to go on opens a new one. Commands are lists of arguments, never shell text:
``quote_command`` is the only place where they become text.
"""

from __future__ import annotations

import shlex
import stat as stat_modes
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from android_bench.errors import BenchError

SHELL_TIMEOUT_S = 30.0
FILE_SILENCE_S = 20.0
SLOWEST_BYTES_PER_S = 200_000.0


class ConnectionLost(BenchError):
    """The phone does not answer, or not as it should; a new connection may work."""


class FileRefused(BenchError):
    """The phone does not take or give a file.

    Attributes:
        reason: as the phone says it, e.g. ``No space left on device``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ShellResult:
    """Output and exit code of a command.

    Attributes:
        stderr: empty where the connection does not tell it apart from stdout.
        exit_code: None where the phone's shell ended without telling it.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int | None

    @property
    def text(self) -> str:
        """Both streams as text; line ends of old phones made plain."""
        both = self.stdout + self.stderr
        return both.decode("utf-8", "replace").replace("\r\n", "\n")


@dataclass(frozen=True)
class RemoteFile:
    """A file on the phone; ``mtime`` in seconds of the phone's clock."""

    mode: int
    size: int
    mtime: int

    @property
    def is_folder(self) -> bool:
        return stat_modes.S_ISDIR(self.mode)


class Transport(Protocol):
    """One open connection to one phone."""

    @property
    def label(self) -> str:
        """What messages call it, e.g. ``phone 0A1B (adb server)``."""
        ...

    def shell(
        self, argv: Sequence[str], timeout_s: float = SHELL_TIMEOUT_S
    ) -> ShellResult:
        """Runs a command to its end.

        Raises:
            ConnectionLost: it has not ended within ``timeout_s``, or the phone is gone.
        """
        ...

    def lines(
        self, argv: Sequence[str], silence_s: float
    ) -> Generator[bytes, None, None]:
        """Runs a command and yields what it prints, stdout and stderr, line by line.

        Lines come without their ends; an end of output without one counts as a line.
        Dropping the iterator ends the connection, and with it the command.

        Raises:
            ConnectionLost: nothing came for ``silence_s``, or the phone is gone.
        """
        ...

    def push(self, source: Path, target: str, mode: int = 0o644) -> None:
        """Copies a file to the full path ``target``.

        Raises:
            FileRefused: the phone does not take it.
            ConnectionLost: the phone is gone.
            BenchError: the file here cannot be read.
        """
        ...

    def pull(self, source: str, target: Path) -> None:
        """Copies a file from the phone. Raises as ``push`` does."""
        ...

    def stat(self, path: str) -> RemoteFile | None:
        """What is at ``path``, links not followed; None where there is nothing."""
        ...

    def close(self) -> None: ...


def quote_command(argv: Sequence[str]) -> str:
    """The shell text that runs exactly these arguments.

    Raises:
        BenchError: an argument that no command can have.
    """
    for argument in argv:
        if "\0" in argument:
            raise BenchError(
                f"{argument!r} cannot be an argument of a command: it holds a zero"
                " byte. Rename the file."
            )
    return " ".join(map(shlex.quote, argv))


def file_time_s(size: int) -> float:
    """Longest time to wait for a file of ``size`` bytes to be copied, seconds."""
    return 60.0 + size / SLOWEST_BYTES_PER_S


def open_source(source: Path) -> BinaryIO:
    """A file here, to be pushed. Raises BenchError when it cannot be read."""
    try:
        return source.open("rb")
    except OSError as error:
        raise BenchError(
            f"File {source} cannot be read ({error.strerror}), so it cannot be pushed;"
            " give the path of a readable file."
        ) from error


def save(chunks: Iterator[bytes], target: Path) -> None:
    """Writes what is pulled. Raises BenchError when it cannot be written here."""
    try:
        file = target.open("wb")
    except OSError as error:
        raise _unwritable(target, error) from error
    with file:
        for chunk in chunks:
            try:
                file.write(chunk)
            except OSError as error:
                raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> BenchError:
    return BenchError(
        f"File {target} cannot be written ({error.strerror}); free some space or set"
        " TMPDIR."
    )
