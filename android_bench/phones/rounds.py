"""Runs many commands in one shell session on a phone and streams their frames."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench.adb.transport import ConnectionLost, FileRefused
from android_bench.phones.cores import CoreChoice
from android_bench.phones.folder import refused_for
from android_bench.phones.script import NAME, Frame, FrameReader, make_script
from android_bench.phones.session import PhoneSession
from android_bench.records import MeasureSettings

INIT_S = 30.0
SCRIPT_S = 20.0
_START_S = 0.3


@dataclass(frozen=True)
class Plan:
    """How the models of a round are run.

    Attributes:
        flags: of the tool, for every model.
        limit_s: longest time that one model may take, seconds.
        most_models: of one script.
    """

    flags: tuple[str, ...]
    cores: CoreChoice
    limit_s: float
    most_models: int


class ScriptInterrupted(Exception):
    """The script did not come to its end.

    Attributes:
        running: a benchmark was under way.
        hung: that benchmark took too long, or printed without end; the phone is there.
        lost: how the connection was lost, where it was.
    """

    def __init__(self, why: str, running: bool, lost: ConnectionLost | None) -> None:
        super().__init__(why)
        self.running = running
        self.hung = lost is None
        self.lost = lost


def make_plan(
    settings: MeasureSettings, flags: Sequence[str], cores: CoreChoice
) -> Plan:
    """Limits for the settings.

    A model may take its start, both phases to their longest, and one run more; a script
    is to last some 20 s, because what only the phone's services tell of heat is asked
    between scripts.
    """
    each_s = settings.warmup_seconds + settings.min_seconds_per_round + _START_S
    return Plan(
        flags=tuple(flags),
        cores=cores,
        limit_s=max(settings.timeout_s, 2 * settings.max_seconds_per_round + INIT_S),
        most_models=max(1, int(SCRIPT_S / each_s)),
    )


def run_commands(
    session: PhoneSession, commands: Sequence[Sequence[str]], limit_s: float
) -> Generator[Frame, None, None]:
    """Runs commands, each an argument list, in the phone's folder, in one session.

    Yields:
        One frame per command, in order; see ``in_order`` for those that are damaged.

    Raises:
        ScriptInterrupted: it ended before all of them had.
        NoSpace, FileRefused: the phone does not take the script.
    """
    token = f"mess-{secrets.token_hex(8)}"
    reader = FrameReader(token)
    try:
        _push_text(session, make_script(token, commands))
        script = ["sh", session.folder.at(NAME)]
        with contextlib.closing(session.transport.lines(script, limit_s)) as lines:
            for line in lines:
                frame = reader.feed(line)
                if frame is not None:
                    yield frame
                if reader.done:
                    return
                _check(reader, limit_s)
        raise ConnectionLost(f"The script on {session.transport.label} broke off.")
    except ConnectionLost as error:
        running = reader.running is not None
        if running and time.monotonic() - reader.began >= limit_s:
            why = f"no result within {limit_s:g} s; it was killed"
            raise ScriptInterrupted(why, True, None) from error
        raise ScriptInterrupted(str(error), running, error) from error


def in_order(frames: Iterable[Frame], count: int) -> Iterator[Frame | None]:
    """The frames by number from 0 to ``count``; None for one that did not arrive."""
    number = 0
    for frame in frames:
        while number < frame.number:
            yield None
            number += 1
        yield frame
        number += 1
    yield from [None] * (count - number)


def _check(reader: FrameReader, limit_s: float) -> None:
    if reader.running is None:
        return
    if reader.flooded:
        raise ScriptInterrupted("it printed without end; it was killed", True, None)
    if time.monotonic() - reader.began > limit_s:
        why = f"no result within {limit_s:g} s; it was killed"
        raise ScriptInterrupted(why, True, None)


def _push_text(session: PhoneSession, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="android_bench-") as folder:
        file = Path(folder) / NAME
        file.write_text(text, encoding="utf-8")
        try:
            session.transport.push(file, session.folder.at(NAME))
        except FileRefused as error:
            raise refused_for(error) from error
