"""Reads one benchmark's output on a phone into records, or a failure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from android_bench.logs.benchmark_log import BenchmarkLog, LogError, parse_benchmark_log
from android_bench.logs.op_profile import parse_op_profile
from android_bench.logs.phases import RunStats
from android_bench.operator_records import OperatorTime, operator_times
from android_bench.phones.flags import check_delegate, check_echo
from android_bench.phones.rounds import Plan
from android_bench.phones.script import Frame
from android_bench.records import Failure, Summary

LOG_LINES = 20
# What the phone's clocks are read with: seconds for the time of boot, hundredths for
# the uptime.
_BOOT_SLACK_S = 1.5
_UPTIME_SLACK_S = 0.1
_LOAD = re.compile(r"load|mmap|open|Flatbuffer", re.I)
_NO_MEMORY = " (out of memory?)"


def read_frame(
    frame: Frame, flags: Sequence[str], delegate: str
) -> BenchmarkLog | Failure:
    """The log of a run that went as asked; its ``timings`` are there, phases too.

    Args:
        flags: those that were given to the tool.
        delegate: of the settings.
    """
    log = _parse(frame)
    if isinstance(log, Failure):
        return log
    wrong = check_echo(log, flags) or check_delegate(log, delegate)
    return wrong or _clock_failure(frame, log) or log


def read_operators(
    frame: Frame, plan: Plan, delegate: str
) -> tuple[OperatorTime, ...] | Failure:
    """The operators that a run under profiling printed.

    Args:
        plan: whose flags were given to the tool.
        delegate: of the settings.
    """
    log = read_frame(frame, plan.flags, delegate)
    if isinstance(log, Failure):
        return log
    try:
        profile = parse_op_profile(frame.log)
    except LogError as error:
        return Failure("log", str(error), log.tail)
    took = tuple(dict.fromkeys(p.delegate for p in log.partitions if p.nodes))
    times = () if profile is None else operator_times(profile, took)
    return times or Failure("log", "the tool printed no table of operators", log.tail)


def summary_of(stats: RunStats) -> Summary:
    """The tool's statistics of one phase, in microseconds."""

    def us(ms: float | None) -> float | None:
        return None if ms is None else ms * 1000

    same = stats.min_ms if stats.min_ms == stats.max_ms else None
    reported = [same if ms is None else ms for ms in (stats.p5_ms, stats.median_ms)]
    last = same if stats.p95_ms is None else stats.p95_ms
    return Summary(
        count=stats.count,
        min_us=stats.min_ms * 1000,
        max_us=stats.max_ms * 1000,
        mean_us=stats.avg_ms * 1000,
        std_us=stats.std_ms * 1000,
        p5_us=us(reported[0]),
        median_us=us(reported[1]),
        p95_us=us(last),
    )


def foreign_load(frame: Frame, cores: Sequence[int]) -> float | None:
    """How many of the cores were kept busy by others while the benchmark ran on them.

    What runs on other cores disturbs little, and a phone always does something.

    Returns:
        None where the phone does not tell.
    """
    before, after = frame.before.busy_s, frame.after.busy_s
    reported = [core for core in cores if core in before and core in after]
    elapsed_s = _elapsed_s(frame)
    if not reported or not elapsed_s or frame.cpu_s is None:
        return None
    others_s = sum(after[core] - before[core] for core in reported) - frame.cpu_s
    return round(max(0.0, others_s / elapsed_s), 3)


def _parse(frame: Frame) -> BenchmarkLog | Failure:
    tail = "\n".join(frame.log.splitlines()[-LOG_LINES:])
    how = _ending(frame.exit_code)
    try:
        log = parse_benchmark_log(frame.log)
    except LogError as error:
        return Failure("run" if how else "log", how or str(error), tail)
    if log.failure is not None:
        stage = "load" if _LOAD.search(log.failure) else "run"
        return Failure(stage, f"{log.failure}{f' ({how})' if how else ''}", tail)
    if how:
        return Failure("run", f"{how}, although it reported a result", tail)
    if log.timings is None or log.timings.regular is None:
        return Failure("log", "the tool reported no statistics of its runs", tail)
    return log


def _ending(code: int) -> str:
    """How the tool ended, "" when well."""
    if code == 0:
        return ""
    if code <= 128:
        return f"the benchmark tool ended with exit code {code}"
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        name = f"signal {code - 128}"
    hint = _NO_MEMORY if code - 128 == signal.SIGKILL else ""
    return f"the benchmark tool was killed by {name}{hint}"


def _elapsed_s(frame: Frame) -> float | None:
    before, after = frame.before.uptime_s, frame.after.uptime_s
    return None if before is None or after is None else after - before


def _clock_failure(frame: Frame, log: BenchmarkLog) -> Failure | None:
    """The tool's clock may be one that can be set: its times must fit the uptime."""
    before, after = frame.before.boot_s, frame.after.boot_s
    if before is not None and after is not None:
        if abs(after - before) > _BOOT_SLACK_S:
            jump = f"the phone's clock jumped by {after - before:+.0f} s while it ran"
            return Failure("clock", jump, log.tail)
    elapsed_s = _elapsed_s(frame)
    phases = (log.timings.warmup, log.timings.regular) if log.timings else ()
    told_s = sum(p.count * p.avg_ms / 1000 for p in phases if p is not None)
    if elapsed_s is not None and told_s > elapsed_s + _UPTIME_SLACK_S:
        said = f"its runs add up to {told_s:.2f} s, but only {elapsed_s:.2f} s passed"
        return Failure("clock", said, log.tail)
    return None
