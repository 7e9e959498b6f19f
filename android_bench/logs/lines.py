"""Splits a log into the lines of the tool, whichever way it was captured."""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.errors import BenchError

TAIL_LINES = 15


class LogError(BenchError):
    """A log that cannot be read; ``tail`` holds its last lines."""

    def __init__(self, message: str, tail: str) -> None:
        super().__init__(message)
        self.tail = tail


@dataclass(frozen=True)
class Line:
    """One line without prefixes.

    Attributes:
        severity: ``VERBOSE``, ``INFO``, ``WARNING``, ``ERROR``, ``FATAL``, or "" where
            the line tells none.
        text: not stripped: tables need their tabs.
    """

    severity: str
    text: str


@dataclass(frozen=True)
class LogLines:
    """A log's lines.

    Attributes:
        lines: those with a line end.
        rest: what follows the last line end: a line that may be cut, or nothing.
        tail: the last lines as captured, for people.
    """

    lines: tuple[Line, ...]
    rest: Line
    tail: str


_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_SEVERITIES = {
    "V": "VERBOSE",
    "D": "VERBOSE",
    "I": "INFO",
    "W": "WARNING",
    "E": "ERROR",
    "F": "FATAL",
    "A": "FATAL",
}
_PREFIX = re.compile(r"\s*(VERBOSE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL): ?")
_CANONICAL = {"WARN": "WARNING", "DEBUG": "VERBOSE"}
# Abseil: "I0000 00:00:1700000000.123456    1234 file.cc:56] text".
_ABSEIL = re.compile(r"\s*([IWEF])\d{4} \d\d:\d\d:[\d.:]+ +\d+ [\w./-]+:\d+\] ?")
# LiteRT: "[litert/tools/file.h:56] text".
_SOURCE = re.compile(r"\s*\[[\w.\\/-]+:\d+\] ?")

_STAMP = r"(?:\d{4}-)?\d\d-\d\d +\d\d:\d\d:\d\d\.\d+ +"
_LOGCAT = tuple(
    re.compile(pattern)
    for pattern in (
        # threadtime (also with a user column): date time pid tid L tag: text
        rf"{_STAMP}(?:\S+ +)?(?P<pid>\d+) +\d+ (?P<level>[VDIWEFA]) (?P<tag>.*?) *: ?",
        # Android Studio, old: date time pid-tid/package L/tag: text
        rf"{_STAMP}(?P<pid>\d+)-\d+/\S+ (?P<level>[VDIWEFA])/(?P<tag>.*?) *: ?",
        # Android Studio, new: date time pid-tid tag package L text
        rf"{_STAMP}(?P<pid>\d+)-\d+ +(?P<tag>\S+) +\S+ +(?P<level>[VDIWEFA]) {{1,2}}",
        # time and brief: [date time] L/tag (pid): text
        rf"(?:{_STAMP})?(?P<level>[VDIWEFA])/(?P<tag>.*?) *\( *(?P<pid>\d+)\): ?",
        # tag: L/tag: text
        r"(?P<level>[VDIWEFA])/(?P<tag>\w+) *: ?",
        # as documentation shortens it
        r"(?:\.\.\. +)?(?P<tag>tflite|litert) +: ?",
    )
)
_TAGS = re.compile(r"tflite|litert|native$|libc$", re.I)
_MARKS = re.compile(
    r"STARTING!|.*nference timings in us|count=\d|Running benchmark for"
    r"|.*Profiling Info for|={10}|Loaded model |Initialized session"
    r"|Benchmarking failed"
)


def clean_log(text: str) -> LogLines:
    """Takes terminal colours, line ends and logcat's prefixes off.

    Of a pure logcat capture only the benchmark process's TFLite lines remain. Of
    a capture that holds the tool's output *and* logcat's copy of it, the copy goes.
    """
    *raw, rest = [
        line.rstrip("\r") for line in _ANSI.sub("", text).replace("\0", "").split("\n")
    ]
    tail = "\n".join([line for line in [*raw, rest] if line.strip()][-TAIL_LINES:])
    wrapped = [(line, _logcat_prefix(line)) for line in raw]
    in_plain = any(
        prefix is None and _MARKS.match(_split(line).text.strip())
        for line, prefix in wrapped
    )
    pids = {
        prefix.groupdict().get("pid")
        for line, prefix in wrapped
        if prefix is not None and _MARKS.match(line[prefix.end() :].strip())
    }
    lines = []
    for line, prefix in wrapped:
        if prefix is None:
            lines.append(_split(line))
        elif not in_plain and _is_tools(prefix, pids):
            lines.append(_unwrap(line, prefix))
    prefix = _logcat_prefix(rest)
    last = Line("", "")
    if prefix is None:
        last = _split(rest)
    elif not in_plain and _is_tools(prefix, pids):
        last = _unwrap(rest, prefix)
    return LogLines(tuple(lines), last, tail)


def _logcat_prefix(line: str) -> re.Match[str] | None:
    for pattern in _LOGCAT:
        if match := pattern.match(line):
            return match
    return None


def _is_tools(prefix: re.Match[str], pids: set[str | None]) -> bool:
    """Whether a logcat line is the benchmark's; ``pids`` are those of sure lines."""
    if not _TAGS.match(prefix["tag"]):
        return False
    return not pids or prefix.groupdict().get("pid") in pids


def _unwrap(line: str, prefix: re.Match[str]) -> Line:
    inner = _split(line[prefix.end() :])
    level = _SEVERITIES.get(prefix.groupdict().get("level") or "", "")
    return Line(inner.severity or level, inner.text)


def _split(line: str) -> Line:
    if match := _ABSEIL.match(line):
        return Line(_SEVERITIES[match[1]], line[match.end() :])
    severity = ""
    if match := _PREFIX.match(line):
        severity, line = _CANONICAL.get(match[1], match[1]), line[match.end() :]
    if source := _SOURCE.match(line):
        line = line[source.end() :]
    return Line(severity, line)
