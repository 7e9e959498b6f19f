"""Settings as flags of the benchmark tool, and checks that it followed them.

The tool ignores flags that it does not know, so a run may have had other settings than
were asked for. What it knows is read from its help, what it did from its log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from android_bench.errors import BenchError
from android_bench.logs.benchmark_log import BenchmarkLog
from android_bench.options import refuse_profiling
from android_bench.records import Failure, MeasureSettings

CPU, GPU, NNAPI, XNNPACK_OFF = "cpu", "gpu", "nnapi", "xnnpack-off"

# Leaving XNNPACK's flag out is not the same as giving it: see docs/measuring.md.
_DELEGATES: Mapping[str, tuple[str, ...]] = {
    CPU: (),
    GPU: ("--use_gpu=true",),
    NNAPI: ("--use_nnapi=true",),
    XNNPACK_OFF: ("--use_xnnpack=false",),
}
PROFILING_FLAGS = ("--enable_op_profiling=true",)
"""Of a separate pass: what is timed under profiling is no latency."""

_TOOL_NAMES = {GPU: "GPU", NNAPI: "NNAPI"}
_FLAG = re.compile(r"--(\w+)(?:=.*)?", re.S)
_HELP_FLAG = re.compile(r"^\s*--(\w+)=", re.M)
_SETTING_FLAGS = (
    "graph",
    "num_threads",
    "num_runs",
    "min_secs",
    "max_secs",
    "warmup_runs",
    "warmup_min_secs",
    "use_gpu",
    "use_nnapi",
    "use_xnnpack",
)
# How the tools echo the flags, newest wording first.
_ECHOES: Mapping[str, tuple[str, ...]] = {
    "num_threads": ("num threads",),
    "num_runs": ("min num runs", "num runs"),
    "min_secs": ("min runs duration (seconds)",),
    "max_secs": ("max runs duration (seconds)",),
    "warmup_runs": ("min warmup runs", "warmup runs"),
    "warmup_min_secs": ("min warmup runs duration (seconds)",),
    "use_gpu": ("use gpu",),
    "use_nnapi": ("use nnapi",),
    "use_xnnpack": ("use xnnpack",),
}


def check_settings(settings: MeasureSettings) -> None:
    """Raises BenchError for settings that the tool cannot have."""
    if settings.delegate not in _DELEGATES:
        raise BenchError(
            f"Delegate {settings.delegate!r} is unknown; accepted on phones:"
            f" {', '.join(_DELEGATES)}."
        )
    refuse_profiling(settings.extra)
    for flag in settings.extra:
        match = _FLAG.fullmatch(flag)
        if match is None or match[1] in _SETTING_FLAGS:
            raise BenchError(
                f"Extra flag {flag!r} cannot be passed on; accepted: flags of"
                " benchmark_model like --gpu_precision_loss_allowed=false, except those"
                f" that are settings here ({', '.join(_SETTING_FLAGS)})."
            )


def timing_flags(settings: MeasureSettings) -> list[str]:
    """The flags of a round; ``--graph`` is left to the caller."""
    return [
        f"--num_threads={settings.threads}",
        f"--num_runs={settings.runs_per_round}",
        f"--min_secs={settings.min_seconds_per_round:g}",
        f"--max_secs={settings.max_seconds_per_round:g}",
        f"--warmup_runs={settings.warmup_runs}",
        f"--warmup_min_secs={settings.warmup_seconds:g}",
        *_DELEGATES[settings.delegate],
        *settings.extra,
    ]


def known_flags(help_text: str) -> frozenset[str]:
    """Flags that the tool lists in its help; empty where it printed none."""
    found = frozenset(_HELP_FLAG.findall(help_text))
    return found if "graph" in found else frozenset()


def check_known(flags: Sequence[str], known: frozenset[str]) -> None:
    """Raises BenchError for flags that the tool would ignore."""
    names = [match[1] for match in map(_FLAG.fullmatch, flags) if match]
    strange = [name for name in names if known and name not in known]
    if strange:
        raise BenchError(
            f"The phone's benchmark tool does not know --{', --'.join(strange)}; leave"
            " these settings out, or name another tool in MESS_BENCHMARK_MODEL."
        )


def check_echo(log: BenchmarkLog, flags: Sequence[str]) -> Failure | None:
    """A failure where the tool did something else than the flags say."""
    if log.unknown_flags:
        said = f"the tool ignored {' '.join(log.unknown_flags)}"
        return Failure("settings", said, log.tail)
    echoed = {key.casefold(): value for key, value in log.parameters.items()}
    if not any(label in echoed for label in _ECHOES["num_runs"]):
        return None  # a tool that tells no settings
    for flag in flags:
        name, _, asked = flag.removeprefix("--").partition("=")
        labels = _ECHOES.get(name, ())
        reported = [echoed[label] for label in labels if label in echoed]
        if labels and not reported:
            said = f"the tool does not say that it took {flag}; is it too old?"
            return Failure("settings", said, log.tail)
        if reported and not _same(asked, reported[0]):
            said = f"the tool ran with {labels[0]} = {reported[0]}, asked was {flag}"
            return Failure("settings", said, log.tail)
    return None


def check_delegate(log: BenchmarkLog, delegate: str) -> Failure | None:
    """A failure where something else than the delegate asked for did the work."""
    said = ""
    wanted = _TOOL_NAMES.get(delegate)
    if wanted is not None:
        took = {d.name.casefold() for d in log.applied if d.extent in _WORKS}
        fell_back = {name.casefold() for name in log.fell_back}
        if wanted.casefold() in fell_back:
            said = f"{wanted} was asked for, but took nothing: the CPU ran it"
        elif wanted.casefold() not in took and not log.accelerators:
            said = f"{wanted} was asked for, but nothing tells that it was used"
    elif log.accelerators:
        said = f"the CPU was asked for, but {', '.join(log.accelerators)} took part"
    elif delegate == XNNPACK_OFF and any(p.nodes for p in log.partitions):
        said = "XNNPACK was to be off, but took part"
    return Failure("delegate", said, log.tail) if said else None


_WORKS = ("full", "partial")


def delegates_text(log: BenchmarkLog) -> str:
    """What ran where, for the row: e.g. ``TfLiteXNNPackDelegate 31/40``."""
    return ", ".join(
        f"{p.delegate} {p.nodes}/{'?' if p.nodes_before is None else p.nodes_before}"
        for p in log.partitions
        if p.nodes
    )


def _same(asked: str, reported: str) -> bool:
    truths = {"true": 1.0, "false": 0.0}
    try:
        one, other = (
            truths[text] if text in truths else float(text)
            for text in (asked, reported)
        )
    except ValueError:
        return asked == reported
    return abs(one - other) <= 1e-4 * max(1.0, abs(one))
