"""Reads the times that TFLite's benchmark tool prints.

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

from android_bench.logs.lines import LogLines
from android_bench.logs.phases import (
    NUMBER,
    SIX_DIGITS,
    RunStats,
    parse_phase,
    positive,
    unreadable,
)


@dataclass(frozen=True)
class Timings:
    """What a finished run took, milliseconds.

    Attributes:
        init_ms: loading the model, delegates and allocation.
        inference_avg_ms: mean of the regular runs.
        first_ms: the first warm-up run; None where not reported or nothing warmed up.
        warmup_avg_ms: mean of the warm-up runs; None where nothing warmed up.
        warmup, regular: the lines of the phases; None where the log lacks them.
    """

    init_ms: float
    inference_avg_ms: float
    first_ms: float | None = None
    warmup_avg_ms: float | None = None
    warmup: RunStats | None = None
    regular: RunStats | None = None


@dataclass(frozen=True)
class _Result:
    """A result as printed; ``per_ms`` units make a millisecond."""

    init: str
    inference: str
    first: str | None
    warmup: str | None
    per_ms: float
    runs: int | None = None


_RESULT_MARK = "nference timings in us:"
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
_RUN_MODEL = re.compile(r"All runs took average \d+ microseconds")


def parse_timings(log: LogLines) -> Timings | None:
    """The times of one run; None where the log holds no complete result.

    Raises:
        LogError: several results; numbers that contradict each other, are not finite
            and positive, or cannot be read.
    """
    texts = [line.text.strip() for line in log.lines]
    if any(_RUN_MODEL.fullmatch(text) for text in texts):
        raise unreadable(
            log,
            "it was printed by run_model, whose mean includes the first, cold run;"
            " use benchmark_model",
        )
    phases = [
        parse_phase(text, log)
        for text, line in zip(texts, log.lines, strict=True)
        if text.startswith("count=") and line.severity in ("", "INFO")
    ]
    results = [*_line_results(texts, log), *_block_results(texts, log)]
    if not results and _confirmed(log.rest.text.strip(), texts):
        results = _line_results([log.rest.text.strip()], log)
    if len(results) > 1 or len(phases) > 2:
        raise unreadable(
            log,
            f"it holds {len(results)} results and {len(phases)} count lines of"
            " several runs; give the log of one run",
        )
    return _timings(results[0], phases, log) if results else None


def _line_results(texts: Sequence[str], log: LogLines) -> list[_Result]:
    results = []
    # Programs built around the tool may print its result line once more.
    for text in dict.fromkeys(texts):
        if _RESULT_MARK not in text:
            continue
        heading, _, body = text.partition(_RESULT_MARK)
        fields: dict[str, str] = {}
        for part in body.split(","):
            key, _, value = (word.strip() for word in part.partition(": "))
            name = _RESULT_KEYS.get(key)
            if name is None or name in fields:
                raise unreadable(log, f"result line {text!r} has an unknown form")
            fields[name] = value
        if heading not in ("I", "Average i") or not {
            "init",
            "inference",
            "warmup",
        } <= set(fields):
            raise unreadable(log, f"result line {text!r} is damaged")
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
                raise unreadable(log, "its block of results lacks lines")
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


def _timings(
    result: _Result, phases: Sequence[RunStats | None], log: LogLines
) -> Timings:
    per_ms = result.per_ms
    # A block shows two digits after the point, a line six digits in all.
    slack_ms = 0.0051 if per_ms == 1 else 0.0

    def ms(text: str, what: str) -> float:
        return positive(text, what, log) / per_ms

    def agrees(text: str, value_ms: float) -> bool:
        if not NUMBER.fullmatch(text):
            return False
        return math.isclose(
            float(text) / per_ms, value_ms, rel_tol=SIX_DIGITS, abs_tol=slack_ms
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
            raise unreadable(log, "its count line belongs to another result")
        if is_regular != is_warmup:
            warmup, regular = (phases[0], None) if is_warmup else (None, phases[0])
    if phases and phases[-1] is None:
        raise unreadable(log, "no regular run was made (count=0)")
    none_warmed_up = len(phases) == 2 and phases[0] is None
    pairs = [(regular, result.inference, "avg_ms"), (warmup, result.warmup, "avg_ms")]
    pairs.append((warmup, result.first, "first_ms"))
    for stats, reported, name in pairs:
        if stats is not None and reported is not None:
            if not agrees(reported, getattr(stats, name)):
                raise unreadable(log, "its result and its count lines disagree")
    if regular is not None and result.runs not in (None, regular.count):
        raise unreadable(log, "its result and its count lines disagree")
    init_ms = ms(result.init, "the initialisation time")
    session_ms = _session_ms(init_ms, slack_ms, log)
    # A line tells whole microseconds, a block fewer digits than the session's line.
    if per_ms == 1 and session_ms is not None:
        init_ms = session_ms
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


def _session_ms(init_ms: float, slack_ms: float, log: LogLines) -> float | None:
    """What the line "Initialized session in ..." tells; it must agree."""
    for line in log.lines:
        if match := re.match(r"\s*Initialized session in (\S+?) ?ms\b", line.text):
            session_ms = positive(match[1], "the session's initialisation time", log)
            if not math.isclose(
                session_ms, init_ms, rel_tol=SIX_DIGITS, abs_tol=slack_ms
            ):
                raise unreadable(
                    log,
                    f"the session took {session_ms} ms to initialise, but the result"
                    f" says {init_ms} ms: lines of several runs",
                )
            return session_ms
    return None
