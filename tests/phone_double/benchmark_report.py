"""How TFLite's benchmark tool writes numbers and lines, in its new and its old style."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

NEW, OLD = "new", "old"


class Log:
    """Writes the tool's lines: INFO and WARN to stdout, ERROR and FATAL to stderr.

    Runtime lines go to stderr and have a prefix in both styles.
    """

    def __init__(self, style: str) -> None:
        self._style = style

    def info(self, text: str) -> None:
        self._tool("INFO", text, 1)

    def warn(self, text: str) -> None:
        self._tool("WARN", text, 1)

    def error(self, text: str) -> None:
        self._tool("ERROR", text, 2)

    def runtime(self, severity: str, text: str) -> None:
        write(2, f"{severity}: {text}\n")

    def _tool(self, severity: str, text: str, fd: int) -> None:
        prefix = f"{severity}: " if self._style == NEW else ""
        write(fd, f"{prefix}{text}\n")


def write(fd: int, text: str | bytes) -> None:
    """At once and whole, as a stream that is flushed after each line."""
    data = text.encode() if isinstance(text, str) else text
    (sys.stdout if fd == 1 else sys.stderr).buffer.write(data)
    (sys.stdout if fd == 1 else sys.stderr).buffer.flush()


def six_digits(value: float) -> str:
    """As C++ streams print a double: six digits, an exponent where it is large."""
    return f"{value:g}"


def count_line(samples_us: Sequence[int], style: str) -> str:
    """Statistics of one phase, whole microseconds."""
    if not samples_us:
        return "count=0"
    first, last = samples_us[0], samples_us[-1]
    low, high = min(samples_us), max(samples_us)
    if len(samples_us) == 1:
        return f"count=1 curr={first}"
    if low == high:
        return f"count={len(samples_us)} curr={last}(all same)"
    values = np.asarray(samples_us, float)
    text = (
        f"count={len(samples_us)} first={first} curr={last} min={low} max={high}"
        f" avg={six_digits(values.mean())} std={int(values.std())}"
    )
    if style == OLD:
        return text
    ordered = sorted(samples_us)
    p5, median, p95 = (_percentile(ordered, share) for share in (5, 50, 95))
    return f"{text} p5={p5} median={median} p95={p95}"


def _percentile(ordered: Sequence[int], share: int) -> int:
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def phase_line(runs: int, min_seconds: float, max_seconds: float) -> str:
    return (
        f"Running benchmark for at least {runs} iterations and at least"
        f" {six_digits(min_seconds)} seconds but terminate if exceeding"
        f" {six_digits(max_seconds)} seconds."
    )


def result_line(init_us: int, warmup_us: Sequence[int], runs_us: Sequence[int]) -> str:
    first = warmup_us[0] if warmup_us else 0
    warmup = float(np.mean(warmup_us)) if warmup_us else 0.0
    inference = float(np.mean(runs_us)) if runs_us else 0.0
    return (
        f"Inference timings in us: Init: {init_us}, First inference: {first},"
        f" Warmup (avg): {six_digits(warmup)}, Inference (avg): {six_digits(inference)}"
    )


MEMORY_NOTE = (
    "Note: as the benchmark tool itself affects memory footprint, the following is only"
    " APPROXIMATE to the actual memory footprint of the model at runtime. Take the"
    " information at your discretion."
)


def memory_line(init_mb: float, overall_mb: float, style: str) -> str:
    name = (
        "Memory footprint delta from the start of the tool"
        if style == NEW
        else "Peak memory footprint"
    )
    return f"{name} (MB): init={six_digits(init_mb)} overall={six_digits(overall_mb)}"
