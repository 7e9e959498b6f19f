"""Reads the times and the memory that TFLite's benchmark tool prints.

Two forms of the result are known: one line in microseconds (``benchmark_model``, since
2018) and a block in milliseconds (``benchmark_litert_model``). Each phase's ``count=``
line says more than the result does, and checks it: figures that disagree come from
different runs or were damaged on the way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.log_lines import LogError, LogLines


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


@dataclass(frozen=True)
class Timings:
    """What a finished run took, milliseconds.

    Attributes:
        init_ms: loading the model, delegates and allocation.
        inference_avg_ms: mean of the regular runs.
        first_ms: the first warm-up run; None where not told or nothing warmed up.
        warmup_avg_ms: mean of the warm-up runs; None where nothing warmed up.
        warmup, regular: the phases' own lines; None where the log lacks them.
    """

    init_ms: float
    inference_avg_ms: float
    first_ms: float | None = None
    warmup_avg_ms: float | None = None
    warmup: RunStats | None = None
    regular: RunStats | None = None


@dataclass(frozen=True)
class Memory:
    """The tool's own approximate figures, megabytes; None where not told.

    Attributes:
        init_mb, overall_mb: growth since the tool's start (called "peak" in old tools).
        peak_mb: overall peak, seen by a polling thread (only when asked for).
        rss_mb: resident at the end, printed with ``peak_mb`` by new tools.
    """

    init_mb: float | None = None
    overall_mb: float | None = None
    peak_mb: float | None = None
    rss_mb: float | None = None


@dataclass(frozen=True)
class _Result:
    """A result as printed; ``per_ms`` units make a millisecond."""

    init: str
    inference: str
    first: str | None
    warmup: str | None
    per_ms: float
    runs: int | None = None


_DAY_US = 86_400e6
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# The tool prints means with six digits.
_SIX_DIGITS = 1e-5

_RESULT_MARK = "nference timings in us: "
_RESULT_KEYS = {
    "Init": "init",
    "First inference": "first",
    "Warmup": "warmup",
    "Warmup (avg)": "warmup",
    "Inference": "inference",
    "Inference (avg)": "inference",
    "no stats": "inference",
}
_BLOCK_START = re.compile(r"=+ BENCHMARK RESULTS =+")
_BLOCK_END = re.compile(r"={20,}")
_BLOCK_LINE = re.compile(
    r"(Model initialization|Warmup \(first\)|Warmup \(avg\)|Inference \(avg\)):"
    r"\s+(\S+) ms(?: \((\d+) runs\))?"
)
_COUNT_FIELD = re.compile(r"(first|curr|min|max|avg|std|median|p\d+)=(\S+)")
_RUN_MODEL = re.compile(r"All runs took average \d+ microseconds")
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


def parse_timings(log: LogLines) -> Timings | None:
    """The times of one run; None where the log holds no complete result.

    Raises:
        LogError: several results; numbers that contradict each other, are not finite
            and positive, or cannot be read.
    """
    texts = [line.text.strip() for line in log.lines]
    if any(_RUN_MODEL.fullmatch(text) for text in texts):
        raise _unreadable(
            log,
            "it was printed by run_model, whose mean includes the first, cold run;"
            " use benchmark_model",
        )
    phases = [_phase(text, log) for text in texts if text.startswith("count=")]
    results = [*_line_results(texts, log), *_block_results(texts, log)]
    if not results and _confirmed(log.rest.text.strip(), texts):
        results = _line_results([log.rest.text.strip()], log)
    if len(results) > 1 or len(phases) > 2:
        raise _unreadable(
            log,
            f"it holds {len(results)} results and {len(phases)} count lines of"
            " several runs; give the log of one run",
        )
    return _timings(results[0], phases, log) if results else None


def parse_memory(log: LogLines) -> Memory | None:
    """The memory lines; None where there are none.

    Raises:
        LogError: a figure is not a finite number, or one is told twice.
    """
    told: dict[str, float] = {}
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
            if name in told or not _NUMBER.fullmatch(value.removeprefix("-")):
                raise _unreadable(log, f"memory line {text!r} is repeated or damaged")
            told[name] = float(value)
    return Memory(**told) if told else None


def _unreadable(log: LogLines, why: str) -> LogError:
    return LogError(f"The benchmark tool's log cannot be read: {why}.", log.tail)


def _positive(text: str, what: str, log: LogLines) -> float:
    if _NUMBER.fullmatch(text) and 0 < float(text) < _DAY_US:
        return float(text)
    raise _unreadable(
        log, f"{what} is {text!r}, but must be a positive number of less than a day"
    )


def _line_results(texts: Sequence[str], log: LogLines) -> list[_Result]:
    results = []
    for text in texts:
        if _RESULT_MARK not in text:
            continue
        heading, _, body = text.partition(_RESULT_MARK)
        fields: dict[str, str] = {}
        for part in body.split(", "):
            key, _, value = part.partition(": ")
            name = _RESULT_KEYS.get(key)
            if name is None or name in fields:
                raise _unreadable(log, f"result line {text!r} has an unknown form")
            fields[name] = value
        if heading not in ("I", "Average i") or not {
            "init",
            "inference",
            "warmup",
        } <= set(fields):
            raise _unreadable(log, f"result line {text!r} is damaged")
        results.append(
            _Result(
                fields["init"],
                fields["inference"],
                fields.get("first"),
                fields["warmup"],
                1000.0,
            )
        )
    return results


def _confirmed(rest: str, texts: Sequence[str]) -> bool:
    """Whether a result line without line end is whole: the regular mean ends it."""
    counts = [text for text in texts if text.startswith("count=")]
    mean = re.search(r" avg=(\S+)", counts[-1]) if counts else None
    return mean is not None and rest.endswith(f": {mean[1]}") and _RESULT_MARK in rest


def _block_results(texts: Sequence[str], log: LogLines) -> list[_Result]:
    results = []
    fields: dict[str, tuple[str, str | None]] | None = None
    for text in texts:
        if _BLOCK_START.fullmatch(text):
            fields = {}
        elif fields is None:
            continue
        elif match := _BLOCK_LINE.fullmatch(text):
            fields[match[1]] = (match[2], match[3])
        elif _BLOCK_END.fullmatch(text):
            if not {"Model initialization", "Inference (avg)"} <= set(fields):
                raise _unreadable(log, "its block of results lacks lines")
            mean, runs = fields["Inference (avg)"]
            results.append(
                _Result(
                    fields["Model initialization"][0],
                    mean,
                    fields.get("Warmup (first)", (None,))[0],
                    fields.get("Warmup (avg)", (None,))[0],
                    1.0,
                    None if runs is None else int(runs),
                )
            )
            fields = None
    return results


def _phase(text: str, log: LogLines) -> RunStats | None:
    """A ``count=`` line; None for a phase without runs."""
    if text == "count=0":
        return None
    head, *tokens = text.replace("(all same)", "").split()
    fields = dict(
        match.groups() for match in map(_COUNT_FIELD.fullmatch, tokens) if match
    )
    count = head.removeprefix("count=")
    if not count.isdecimal() or int(count) < 1 or len(fields) != len(tokens):
        raise _unreadable(log, f"count line {text!r} is damaged")
    us = {
        name: _positive(value, f"{name} in count line {text!r}", log)
        for name, value in fields.items()
        if name != "std"
    }
    if "curr" in us and not {"first", "min", "max", "avg", "std"} & set(fields):
        if int(count) > 1 and "(all same)" not in text:
            raise _unreadable(log, f"count line {text!r} lacks fields")
        us |= dict.fromkeys(("first", "min", "max", "avg"), us["curr"])
        std = "0"
    else:
        std = fields.get("std", "")
    if not {"first", "curr", "min", "max", "avg"} <= set(us) or not _NUMBER.fullmatch(
        std
    ):
        raise _unreadable(log, f"count line {text!r} lacks fields or is damaged")
    us["std"] = float(std)
    if not _possible(us):
        raise _unreadable(log, f"count line {text!r} contradicts itself")
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
    slack = _SIX_DIGITS * high
    return (
        low <= high
        and all(low <= value <= high for value in inside)
        and ordered == sorted(ordered)
        and low - slack <= us["avg"] <= high + slack
        # At most half of the range over all runs, 0.71 of it as a sample's estimate.
        and us["std"] <= 0.75 * (high - low) + 1
    )


def _timings(
    result: _Result, phases: Sequence[RunStats | None], log: LogLines
) -> Timings:
    per_ms = result.per_ms
    # A block shows two digits after the point, a line six digits in all.
    slack_ms = 0.0051 if per_ms == 1 else 0.0

    def ms(text: str, what: str) -> float:
        return _positive(text, what, log) / per_ms

    def agrees(text: str, value_ms: float) -> bool:
        if not _NUMBER.fullmatch(text):
            return False
        return math.isclose(
            float(text) / per_ms, value_ms, rel_tol=_SIX_DIGITS, abs_tol=slack_ms
        )

    warmup: RunStats | None = None
    regular: RunStats | None = None
    if len(phases) == 2:
        warmup, regular = phases
    elif phases and phases[0] is not None:
        # Cut at its start, or by whoever posted it: the means tell the phase.
        is_regular = agrees(result.inference, phases[0].avg_ms)
        is_warmup = result.warmup is not None and agrees(
            result.warmup, phases[0].avg_ms
        )
        if not is_regular and not is_warmup:
            raise _unreadable(log, "its count line belongs to another result")
        if is_regular != is_warmup:
            warmup, regular = (phases[0], None) if is_warmup else (None, phases[0])
    if phases and phases[-1] is None:
        raise _unreadable(log, "no regular run was made (count=0)")
    none_warmed_up = len(phases) == 2 and phases[0] is None
    pairs = [(regular, result.inference, "avg_ms"), (warmup, result.warmup, "avg_ms")]
    pairs.append((warmup, result.first, "first_ms"))
    for stats, told, name in pairs:
        if stats is not None and told is not None:
            if not agrees(told, getattr(stats, name)):
                raise _unreadable(log, "its result and its count lines disagree")
    if regular is not None and result.runs not in (None, regular.count):
        raise _unreadable(log, "its result and its count lines disagree")
    init_ms = ms(result.init, "the initialisation time")
    _check_session(init_ms, slack_ms, log)
    inference_ms = regular.avg_ms if regular else ms(result.inference, "the mean")
    first_ms = warmup_ms = None
    if warmup is not None:
        first_ms, warmup_ms = warmup.first_ms, warmup.avg_ms
    elif not none_warmed_up:
        if result.first is not None:
            first_ms = ms(result.first, "the first inference")
        if result.warmup is not None:
            warmup_ms = ms(result.warmup, "the warm-up's mean")
    return Timings(init_ms, inference_ms, first_ms, warmup_ms, warmup, regular)


def _check_session(init_ms: float, slack_ms: float, log: LogLines) -> None:
    """The line "Initialized session in ..." tells the same time as the result."""
    for line in log.lines:
        if match := re.match(r"\s*Initialized session in (\S+?) ?ms\b", line.text):
            session_ms = _positive(match[1], "the session's initialisation time", log)
            if not math.isclose(
                session_ms, init_ms, rel_tol=_SIX_DIGITS, abs_tol=slack_ms
            ):
                raise _unreadable(
                    log,
                    f"the session took {session_ms} ms to initialise, but the result"
                    f" says {init_ms} ms: lines of several runs",
                )
