"""Keeps what TensorFlow and LiteRT write off the user's terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mess_tf.core.errors import MessError

LAST_BYTES = 1 << 20

# Copies of the terminal's standard error, made by the blocks in force; the first is the
# real one. File descriptors belong to the whole process, and so does all this.
_terminals: list[int] = []
# Files of the blocks in force, without those that have a log.
_temporary: set[IO[bytes]] = set()


@contextlib.contextmanager
def capture_output(log: Path | None = None) -> Iterator[Callable[[], str]]:
    """Sends stdout and stderr (Python's, C++'s, child processes') into a file.

    An exception passes through; what is printed after the block is seen again. Blocks
    may lie within one another.

    Args:
        log: file to append to; None = a temporary file.

    Yields:
        A function that returns the end of what was written so far.

    Raises:
        MessError: the log cannot be written.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(_open(log))
        start = sink.seek(0, os.SEEK_END)
        if log is None:
            _temporary.add(sink)
            stack.callback(_temporary.discard, sink)
        _flush()
        for descriptor in (1, 2):
            saved = os.dup(descriptor)
            stack.callback(_restore, saved, descriptor)
            if descriptor == 2:
                _terminals.append(saved)
                stack.callback(_terminals.pop)
            os.dup2(sink.fileno(), descriptor)
        # Python's streams need not lead to descriptors 1 and 2 (not in a notebook).
        # These do, and are never closed: log handlers made meanwhile keep them.
        stack.enter_context(contextlib.redirect_stdout(_stream(1)))
        stack.enter_context(contextlib.redirect_stderr(_stream(2)))
        stack.callback(_flush)

        def captured() -> str:
            _flush()
            end = os.fstat(sink.fileno()).st_size
            first = max(start, end - LAST_BYTES)
            return os.pread(sink.fileno(), end - first, first).decode(
                "utf-8", "replace"
            )

        yield captured


def move_output_to_log(log: Path) -> None:
    """Makes a log of what a block without one has caught, and lets it go on there.

    For the command that makes the folder of its log: when it is killed, the log is
    there. Without such a block, or from a block within it, nothing happens.

    Raises:
        MessError: the log cannot be written.
    """
    if not _temporary or len(_terminals) > 1:
        return
    sink = _temporary.pop()
    _flush()
    with _open(log) as file:
        file.write(os.pread(sink.fileno(), LAST_BYTES, 0))
        file.flush()
        for descriptor in (sink.fileno(), 1, 2):
            os.dup2(file.fileno(), descriptor)


def terminal_descriptor() -> int:
    """Descriptor of the user's standard error, also within ``capture_output``."""
    return _terminals[0] if _terminals else 2


def _open(log: Path | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a+b")
    except OSError as error:
        raise MessError(f"Cannot write the log {log}: {error.strerror}.") from error


def _stream(descriptor: int) -> IO[str]:
    return open(
        descriptor,
        "w",
        buffering=1,
        encoding="utf-8",
        errors="backslashreplace",
        closefd=False,
    )


def _restore(saved: int, descriptor: int) -> None:
    # What a library left in the old streams' buffers was written within the block.
    _flush()
    os.dup2(saved, descriptor)
    os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
