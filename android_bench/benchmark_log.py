"""Reads what TFLite's benchmark tool prints: text in, frozen records out.

Strict: what cannot be read without doubt is a ``LogError``, never a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.errors import BenchError


class LogError(BenchError):
    """A log that cannot be read; ``tail`` holds its last lines."""

    def __init__(self, message: str, tail: str) -> None:
        super().__init__(message)
        self.tail = tail


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
    """

    init_mb: float | None = None
    overall_mb: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class AppliedDelegate:
    """What the tool says of a delegate that was asked for.

    Attributes:
        name: the tool's own: ``GPU``, ``NNAPI``, ``XNNPACK``, ``EXTERNAL``, ...
        extent: ``full``, ``partial``, ``none`` (a silent run on the CPU) or ``unknown``
            (tools of 2019 do not tell).
        kernels: delegate kernels in the graph, where told.
    """

    name: str
    extent: str
    kernels: int | None = None


@dataclass(frozen=True)
class Partition:
    """A runtime line "Replacing ... node(s)": what a delegate took of a subgraph.

    Attributes:
        delegate: the kernel's type, e.g. ``TfLiteXNNPackDelegate``.
        subgraph: its index; None where an old runtime names only "the whole graph".
    """

    delegate: str
    nodes: int
    nodes_before: int
    partitions: int
    subgraph: int | None = None


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
        tail: the last lines of the log, cleaned.
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
        """Delegates asked for that run nothing: the figure is the CPU's."""
        raise NotImplementedError


def parse_benchmark_log(text: str) -> BenchmarkLog:
    """Reads the output (stdout and stderr, in one text) of one run.

    Line ends, terminal colours and logcat prefixes of any form are taken off first.

    Raises:
        LogError: it holds no complete result and no known failure, several results, or
            numbers that contradict each other or are not positive and finite.
    """
    raise NotImplementedError
