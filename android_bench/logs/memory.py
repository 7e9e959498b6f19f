"""Reads the memory lines of TFLite's benchmark tool."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from android_bench.logs.lines import LogLines
from android_bench.logs.phases import NUMBER, unreadable


@dataclass(frozen=True)
class Memory:
    """The tool's approximate figures, megabytes; None where not reported.

    Attributes:
        init_mb, overall_mb: growth since the tool's start (called "peak" in old tools).
        peak_mb: overall peak, seen by a polling thread (only when asked for).
        rss_mb: resident at the end, printed with ``peak_mb`` by new tools.
    """

    init_mb: float | None = None
    overall_mb: float | None = None
    peak_mb: float | None = None
    rss_mb: float | None = None


_MEMORY = re.compile(
    r"(?:Peak memory footprint|Memory footprint delta from the start of the tool)"
    r" \(MB\): init=(\S+) overall=(\S+)"
)
_MEMORY_ONE = {
    "init_mb": re.compile(r"Init footprint:\s+(\S+) MB"),
    "overall_mb": re.compile(r"Overall footprint:\s+(\S+) MB"),
    "peak_mb": re.compile(
        r"(?:Overall peak memory footprint \(MB\) via periodic monitoring: (\S+)"
        r"|Peak memory:\s+(\S+) MB)"
    ),
    "rss_mb": re.compile(r"- VmRSS\s*: (\S+) MB"),
}


def parse_memory(log: LogLines) -> Memory | None:
    """The memory lines; None where there are none.

    Raises:
        LogError: a figure is not a finite number, or one is reported twice.
    """
    reported: dict[str, float] = {}
    for line in log.lines:
        text = line.text.strip()
        pairs: list[tuple[str, str]] = []
        if match := _MEMORY.fullmatch(text):
            pairs = [("init_mb", match[1]), ("overall_mb", match[2])]
        for name, pattern in _MEMORY_ONE.items():
            if match := pattern.fullmatch(text):
                pairs.append((name, next(g for g in match.groups() if g is not None)))
        for name, value in pairs:
            # Growth may be negative, when the system took memory back.
            number = NUMBER.fullmatch(value.removeprefix("-"))
            if name in reported or not number or not math.isfinite(float(value)):
                raise unreadable(log, f"memory line {text!r} is repeated or damaged")
            reported[name] = float(value)
    return Memory(**reported) if reported else None
