"""Reads the ``count=`` line that TFLite's benchmark tool prints for each phase."""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.logs.lines import LogError, LogLines


@dataclass(frozen=True)
class RunStats:
    """One phase's ``count=`` line; times in milliseconds.

    Attributes:
        count: runs made, at least 1.
        first_ms, curr_ms: of the first and of the last run.
        std_ms: the tool cuts it to whole microseconds.
        p5_ms, median_ms, p95_ms: None where the tool is too old to print them.
    """

    count: int
    first_ms: float
    curr_ms: float
    min_ms: float
    max_ms: float
    avg_ms: float
    std_ms: float
    p5_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None


_DAY_US = 86_400e6
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# The tool prints means with six digits.
SIX_DIGITS = 1e-5

_COUNT_FIELD = re.compile(r"(first|curr|min|max|avg|std|median|p\d+)=(\S+)")


def unreadable(log: LogLines, why: str) -> LogError:
    """The error to raise for a log in which something is wrong."""
    return LogError(f"The benchmark tool's log cannot be read: {why}.", log.tail)


def positive(text: str, what: str, log: LogLines) -> float:
    """A time as printed. Raises LogError when it can be none."""
    if NUMBER.fullmatch(text) and 0 < float(text) < _DAY_US:
        return float(text)
    raise unreadable(
        log, f"{what} is {text!r}, but must be a positive number of less than a day"
    )


def parse_phase(text: str, log: LogLines) -> RunStats | None:
    """A ``count=`` line; None for a phase without runs.

    Raises:
        LogError: fields are missing, damaged, or impossible together.
    """
    if text == "count=0":
        return None
    head, *tokens = text.replace("(all same)", "").split()
    matches = [m for m in map(_COUNT_FIELD.fullmatch, tokens) if m is not None]
    fields = {match[1]: match[2] for match in matches}
    count = head.removeprefix("count=")
    if not count.isdecimal() or int(count) < 1 or len(fields) != len(tokens):
        raise unreadable(log, f"count line {text!r} is damaged")
    us = {
        name: positive(value, f"{name} in count line {text!r}", log)
        for name, value in fields.items()
        if name != "std"
    }
    if "curr" in us and not {"first", "min", "max", "avg", "std"} & set(fields):
        if int(count) > 1 and "(all same)" not in text:
            raise unreadable(log, f"count line {text!r} lacks fields")
        us |= dict.fromkeys(("first", "min", "max", "avg"), us["curr"])
        std = "0"
    else:
        std = fields.get("std", "")
    if not {"first", "curr", "min", "max", "avg"} <= set(us) or not NUMBER.fullmatch(
        std
    ):
        raise unreadable(log, f"count line {text!r} lacks fields or is damaged")
    us["std"] = float(std)
    if not _possible(us):
        raise unreadable(log, f"count line {text!r} contradicts itself")
    names = {"p5": "p5_ms", "median": "median_ms", "p95": "p95_ms"}
    names |= {n: f"{n}_ms" for n in ("first", "curr", "min", "max", "avg", "std")}
    return RunStats(
        count=int(count),
        **{names[name]: value / 1000 for name, value in us.items() if name in names},
    )


def _possible(us: dict[str, float]) -> bool:
    """Whether some runs can have these statistics."""
    low, high = us["min"], us["max"]
    inside = [us[n] for n in ("first", "curr", "p5", "median", "p95") if n in us]
    ordered = [us[n] for n in ("p5", "median", "p95") if n in us]
    slack = SIX_DIGITS * high
    return (
        low <= high
        and all(low <= value <= high for value in inside)
        and ordered == sorted(ordered)
        and low - slack <= us["avg"] <= high + slack
        # At most half of the range over all runs, 0.71 of it as a sample's estimate.
        and us["std"] <= 0.75 * (high - low) + 1
    )
