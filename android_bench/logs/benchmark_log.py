"""Reads what TFLite's benchmark tool prints: text in, frozen records out.

Strict: what cannot be read without doubt is a ``LogError``, never a number. The tool's
exit code is not in its log: a caller who has one must believe it first, because a tool
that failed may have printed a result before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.logs.delegates import (
    FULL,
    NONE,
    AppliedDelegate,
    Partition,
    parse_applied,
    parse_partitions,
    parse_requested,
)
from android_bench.logs.failures import parse_failure
from android_bench.logs.lines import LogError as LogError
from android_bench.logs.lines import LogLines, clean_log
from android_bench.logs.memory import Memory, parse_memory
from android_bench.logs.timings import Timings, parse_timings


@dataclass(frozen=True)
class BenchmarkLog:
    """One run of the tool.

    Attributes:
        failure: why the tool gave no result, one line; None when it did.
        timings: None exactly when failed.
        memory: None where no memory line was printed.
        parameters: the settings it echoed, e.g. ``{"Use gpu": "1"}``; flags that the
            tool does not know are missing here.
        unknown_flags: flags it said it ignored.
        requested: delegates asked for, by the echoed settings; the tool's names.
        applied: what became of delegates that were asked for.
        partitions: what delegates (also XNNPACK by default) took, in order.
        tail: the last lines of the log as captured.
    """

    failure: str | None
    timings: Timings | None
    memory: Memory | None
    parameters: Mapping[str, str]
    unknown_flags: tuple[str, ...]
    requested: tuple[str, ...]
    applied: tuple[AppliedDelegate, ...]
    partitions: tuple[Partition, ...]
    tail: str

    @property
    def fell_back(self) -> tuple[str, ...]:
        """Delegates asked for that run nothing: what is theirs ran on the CPU.

        Where another delegate took the whole graph, nothing was left for the CPU.
        """
        if any(d.extent == FULL for d in self.applied):
            return ()
        return tuple(d.name for d in self.applied if d.extent == NONE)

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Delegate kernels beside XNNPACK's that took nodes, as the runtime says.

        The only evidence in logs of ``benchmark_litert_model``, which neither echoes
        what was asked for nor says what it applied.
        """
        took = dict.fromkeys(p.delegate for p in self.partitions if p.nodes)
        return tuple(name for name in took if "xnnpack" not in name.lower())


# Each is printed once in a run.
_ONCE = (
    re.compile(r"STARTING!"),
    re.compile(r"Loaded model .*"),
    re.compile(r"Initialized session in .*"),
)
_PARAMETER = re.compile(r"([^\[\]\t]+?) ?: \[(.*)\]")
_SETTINGS_END = re.compile(r"Loaded model |Initialized session in ")
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags: (.*)")
# Tools before 2020 print this form, and say nothing of legacy NNAPI being applied.
_OLD_RESULT = "Average inference timings in us: "


def parse_benchmark_log(text: str) -> BenchmarkLog:
    """Reads the output (stdout and stderr, in one text) of one run.

    Line ends, terminal colours and logcat prefixes of any form are taken off first.

    Raises:
        LogError: it holds no complete result and no known failure, several runs, or
            numbers that contradict each other or are not positive and finite.
    """
    log = clean_log(text)
    _check_one_run(log)
    parameters = _parameters(log)
    failure = parse_failure(log)
    timings = memory = None
    if failure is None:
        timings, memory = parse_timings(log), parse_memory(log)
        if timings is None:
            raise LogError(
                "The benchmark tool's log holds neither a complete result nor a known"
                f" failure; it ends with {_last_line(log)!r}.",
                log.tail,
            )
    requested = parse_requested(parameters)
    tells = not any(line.text.strip().startswith(_OLD_RESULT) for line in log.lines)
    return BenchmarkLog(
        failure=failure,
        timings=timings,
        memory=memory,
        parameters=parameters,
        unknown_flags=_unknown_flags(log),
        requested=requested,
        applied=parse_applied(log, requested, tells and failure is None),
        partitions=parse_partitions(log),
        tail=log.tail,
    )


def _last_line(log: LogLines) -> str:
    return log.tail.rpartition("\n")[2].strip()[-200:]


def _check_one_run(log: LogLines) -> None:
    texts = [line.text.strip() for line in log.lines]
    for mark in _ONCE:
        found = [text for text in texts if mark.fullmatch(text)]
        if len(found) > 1:
            raise LogError(
                f"The log is of {len(found)} runs of the benchmark tool (line"
                f" {found[1]!r} is a second one); give the log of one run.",
                log.tail,
            )


def _parameters(log: LogLines) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in log.lines:
        text = line.text.strip()
        # What runtimes and vendors' libraries say later may look like settings.
        if _SETTINGS_END.match(text):
            break
        if match := _PARAMETER.fullmatch(text):
            found[match[1].strip()] = match[2]
    return found


def _unknown_flags(log: LogLines) -> tuple[str, ...]:
    flags: list[str] = []
    for line in log.lines:
        if match := _UNKNOWN_FLAGS.fullmatch(line.text.strip()):
            flags += match[1].split()
    return tuple(flags)
