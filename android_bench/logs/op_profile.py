"""Reads the per-operator tables of TFLite's benchmark tool (table and CSV form).

Columns are found by their heading, because versions differ in them. Shares are computed
here from the mean times: the tool's percentages and summaries are off by the number
of runs in some versions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.logs.lines import LogError, LogLines, clean_log


@dataclass(frozen=True)
class OpRow:
    """One node, in run order.

    Attributes:
        kind: the node's type as printed; may hold blanks, commas and arrows.
        name: the node's name; empty where none was printed.
        first_ms, avg_ms: first and mean time of one call.
        run_ms: mean time in one run of its graph: bodies of loops run several times,
            preparations only in the first run.
        share: ``run_ms`` as a part of its graph's, 0 to 1.
        memory_kb: as printed.
        times_called: per run, as printed (cut to a whole number); 0 throughout in
            versions that divide by the number of runs twice.
    """

    kind: str
    name: str
    first_ms: float
    avg_ms: float
    run_ms: float
    share: float
    memory_kb: float
    times_called: int


@dataclass(frozen=True)
class OpGraph:
    """The operators of one (sub)graph.

    Attributes:
        title: its heading, e.g. ``Primary graph (name: main)``, ``Delegate internal``;
            "" where a log has no such headings.
        complete: the tool's number of nodes was printed (and agrees); False when
            the log ends before.
    """

    title: str
    rows: tuple[OpRow, ...]
    complete: bool

    @property
    def total_ms(self) -> float:
        """Time of one run of the graph; on GPUs far less than the wall time."""
        return sum(row.run_ms for row in self.rows)


@dataclass(frozen=True)
class OpProfile:
    """All graphs of a log; what happens once is separate from what a run takes."""

    init: tuple[OpGraph, ...]
    regular: tuple[OpGraph, ...]


@dataclass
class _Table:
    """A run-order table while it is read; ``columns`` are canonical names."""

    section: str
    title: str
    columns: tuple[str, ...] = ()
    is_csv: bool = False
    has_tabs: bool = False
    rows: list[dict[str, str]] | None = None
    nodes: int | None = None


_SECTIONS = {
    "Profiling Info for Benchmark Initialization:": "init",
    "Operator-wise Profiling Info for Regular Benchmark Runs:": "regular",
}
_INIT_KINDS = {"ModifyGraphWithDelegate", "AllocateTensors"}
_TITLE = re.compile(r"((?:Primary graph|Subgraph)(?: \(.*\))?) profile:")
_INTERNAL = "Delegate internal:"
_RULE = re.compile(r"={10,} (.+?) ={10,}")
_NODES = re.compile(r"Number of nodes executed: (\d+)")
_NAMES = {
    "node type": "kind",
    "start": "start",
    "first": "first",
    "avg ms": "avg",
    "avg_ms": "avg",
    "%": "percent",
    "cdf%": "cdf",
    "mem kb": "memory",
    "times called": "calls",
    "name": "name",
}
_NEEDED = {"kind", "first", "avg", "percent", "memory", "calls"}
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"


def parse_op_profile(text: str) -> OpProfile | None:
    """Reads the run-order tables of one run; None where the log holds none.

    Raises:
        LogError: a table cannot be read, lost rows, or comes from a second run.
    """
    log = clean_log(text)
    tables = _tables(log)
    if not tables:
        return None
    init, regular = (
        tuple(_graph(table, log) for table in tables if table.section == section)
        for section in ("init", "regular")
    )
    for graphs in (init, regular):
        titles = [g.title for g in graphs if g.title != _INTERNAL.rstrip(":")]
        if len(titles) > len(set(titles)):
            raise _unreadable(log, "it holds the profiles of several runs")
    return OpProfile(init, regular)


def _unreadable(log: LogLines, why: str) -> LogError:
    return LogError(f"The operator profile cannot be read: {why}.", log.tail)


def _tables(log: LogLines) -> list[_Table]:
    tables: list[_Table] = []
    section = title = ""
    reading = False
    for line in log.lines:
        text = line.text.strip()
        if text in _SECTIONS:
            section, title, reading = _SECTIONS[text], "", False
        elif match := _TITLE.fullmatch(text):
            title, reading = match[1], False
        elif text == _INTERNAL:
            title, reading = text.rstrip(":"), False
        elif match := _RULE.fullmatch(text):
            reading = match[1] == "Run Order"
            if reading:
                tables.append(_Table(section, title))
        elif match := _NODES.fullmatch(text):
            reading = False
            if tables:
                tables[-1].nodes = int(match[1])
        elif reading and text:
            _read_line(tables[-1], line.severity, line.text, log)
    for table in tables:
        # A log that lost its beginning, and tools of 2019, have no heading.
        kinds = {row["kind"] for row in table.rows or ()}
        table.section = table.section or (
            "init" if kinds and kinds <= _INIT_KINDS else "regular"
        )
    return [table for table in tables if table.rows is not None]


def _read_line(table: _Table, severity: str, line: str, log: LogLines) -> None:
    """A line below "Run Order": the heading, a row, or another program's message."""
    if table.rows is None:
        _read_heading(table, line, log)
    elif (row := _row(table, line)) is not None:
        table.rows.append(row)
    elif severity not in ("WARNING", "ERROR", "VERBOSE") and "%" in line:
        raise _unreadable(log, f"row {line.strip()!r} is damaged")


def _read_heading(table: _Table, line: str, log: LogLines) -> None:
    table.has_tabs = "\t" in line.strip()
    if "[" in line:
        names = re.findall(r"\[(.+?)\]", line)
    else:
        table.is_csv, names = True, line.split(",")
    columns = tuple(_NAMES.get(name.strip().lower(), "") for name in names)
    if "" in columns or not _NEEDED <= set(columns) or columns[0] != "kind":
        raise _unreadable(log, f"heading {line.strip()!r} is unknown")
    table.columns, table.rows = columns, []


def _row(table: _Table, line: str) -> dict[str, str] | None:
    """A row's fields by column; None when the line has not the table's form."""
    count = len(table.columns)
    if table.is_csv:
        # Commas in the type stay, those in the name were turned into tabs.
        fields = line.rsplit(",", count - 1)
        fields[-1] = fields[-1].replace("\t", ",")
    elif table.has_tabs:
        fields = line.removeprefix("\t").split("\t", count - 1)
    else:
        match = re.fullmatch(_pattern(table.columns), line)
        fields = list(match.groups()) if match else []
    fields += [""] * (table.columns[-1] == "name" and len(fields) == count - 1)
    if len(fields) != count:
        return None
    row = {name: f.strip() for name, f in zip(table.columns, fields, strict=True)}
    for name, field in row.items():
        if name not in ("kind", "name") and not re.fullmatch(_field(name), field):
            return None
    return row if row["kind"] else None


def _field(column: str) -> str:
    return _NUMBER + ("%" if column in ("percent", "cdf") else "")


def _pattern(columns: Sequence[str]) -> str:
    """Of a row whose tabs became blanks; the percentages show where the type ends."""
    parts = [r"\s*(.+?)"]
    for column in columns[1:]:
        parts.append(r"\s*(.*)" if column == "name" else rf"\s+({_field(column)})")
    return "".join(parts)


def _graph(table: _Table, log: LogLines) -> OpGraph:
    rows = table.rows or []
    if table.nodes is not None and table.nodes != len(rows):
        raise _unreadable(
            log, f"{table.nodes} nodes were executed, but {len(rows)} are listed"
        )
    runs_ms = _runs_ms(rows)
    total_ms = sum(runs_ms)
    if not math.isfinite(total_ms):
        raise _unreadable(log, "its times are not finite")
    parsed = tuple(
        OpRow(
            kind=row["kind"],
            name=row.get("name", ""),
            first_ms=float(row["first"]),
            avg_ms=float(row["avg"]),
            run_ms=run_ms,
            share=run_ms / total_ms if total_ms else 0.0,
            memory_kb=float(row["memory"]),
            times_called=_calls(row),
        )
        for row, run_ms in zip(rows, runs_ms, strict=True)
    )
    return OpGraph(table.title, parsed, table.nodes is not None)


def _calls(row: dict[str, str]) -> int:
    return int(float(row["calls"]))


def _runs_ms(rows: Sequence[dict[str, str]]) -> list[float]:
    """Each row's mean time in one run.

    Where some rows are called in every run and others in few ("0 times"), the time of
    the few is known by the percentages only, which are right in such versions.
    """
    called = [row for row in rows if _calls(row)]
    if not called:
        return [float(row["avg"]) for row in rows]
    percent = sum(_percent(row) for row in called)
    total_ms = sum(float(row["avg"]) * _calls(row) for row in called)
    ms_per_percent = total_ms / percent if percent else 0.0
    return [
        float(row["avg"]) * _calls(row)
        if _calls(row)
        else min(_percent(row) * ms_per_percent, float(row["avg"]))
        for row in rows
    ]


def _percent(row: dict[str, str]) -> float:
    return float(row["percent"].removesuffix("%"))
