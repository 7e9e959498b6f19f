"""How TFLite's benchmark tool writes, in its new and in its old style."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

NEW, OLD = "new", "old"


class Log:
    """Writes the tool's lines: INFO and WARN to stdout, ERROR and FATAL to stderr.

    Runtime lines go to stderr and have a prefix in both styles.

    Args:
        root: the host's folder that is the phone's ``/``: left out of all lines.
    """

    def __init__(self, style: str, root: str) -> None:
        self._prefixed = style == NEW
        self._root = root

    def info(self, text: str) -> None:
        self._tool("INFO", text, 1)

    def warn(self, text: str) -> None:
        self._tool("WARN", text, 1)

    def error(self, text: str) -> None:
        self._tool("ERROR", text, 2)

    def fatal(self, text: str) -> None:
        self._tool("FATAL", text, 2)

    def runtime(self, severity: str, text: str) -> None:
        self._write(2, f"{severity}: {text}\n")

    def plain(self, text: str) -> None:
        """A line of the runtime's without a severity."""
        self._write(2, f"{text}\n")

    def _tool(self, severity: str, text: str, fd: int) -> None:
        prefix = f"{severity}: " if self._prefixed else ""
        self._write(fd, f"{prefix}{text}\n")

    def _write(self, fd: int, text: str) -> None:
        write(fd, text.replace(self._root, "") if self._root else text)


def write(fd: int, text: str | bytes) -> None:
    """At once and whole, as a stream that is flushed after each line."""
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    stream = sys.stdout.buffer if fd == 1 else sys.stderr.buffer
    stream.write(data)
    stream.flush()


def six_digits(value: float) -> str:
    """As C++ streams print a double: six digits, an exponent where it is large."""
    return f"{value:g}"


def count_line(samples_us: Sequence[int], style: str) -> str:
    """Statistics of one phase, whole microseconds."""
    count = len(samples_us)
    if not samples_us:
        # What an integer's "not a number" is printed as.
        text, ordered = "count=0", [0]
    else:
        first, last = samples_us[0], samples_us[-1]
        ordered = sorted(samples_us)
        values = np.asarray(samples_us, float)
        text = f"count={count} curr={last}"
        if ordered[0] == ordered[-1]:
            text += "(all same)" if count > 1 else ""
        else:
            text = (
                f"count={count} first={first} curr={last} min={ordered[0]}"
                f" max={ordered[-1]} avg={six_digits(float(values.mean()))}"
                f" std={int(values.std())}"
            )
    if style == OLD:
        return text
    p5, median, p95 = (ordered[len(ordered) * p // 100] for p in (5, 50, 95))
    return f"{text} p5={p5} median={median} p95={p95}"


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


def peak_lines(peak_mb: float, resident_mb: float, style: str) -> list[str]:
    """What is added where the peak was watched."""
    lines = [
        "Overall peak memory footprint (MB) via periodic monitoring:"
        f" {six_digits(peak_mb)}"
    ]
    if style == NEW:
        lines += [
            "Memory status at the end of exeution:",
            f"- VmRSS              : {int(resident_mb)} MB",
            f"+ RssAnnon           : {int(resident_mb) // 2} MB",
            f"+ RssFile + RssShmem : {int(resident_mb) - int(resident_mb) // 2} MB",
        ]
    return lines


def operator_tables(kinds: Sequence[str], runs_us: Sequence[int]) -> list[str]:
    """What profiling adds at the end; every operator has the same part of the time."""
    rule, heading = "=" * 30, "[node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]"
    each_ms = float(np.mean(runs_us)) / 1000 / len(kinds) if kinds else 0.0
    rows = [
        f"\t{kind:>40}\t{each_ms:9.3f}\t{each_ms:9.3f}\t{100 / len(kinds):7.3f}%"
        f"\t{100 * (i + 1) / len(kinds):7.3f}%\t{0.0:10.3f}\t{1:9}\t"
        f"Delegate/{kind}:{i}"
        for i, kind in enumerate(kinds)
    ]
    return [
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        f"{rule} Run Order {rule}\n"
        f"\t{heading}\t  [mem KB]\t[times called]\t[Name]\n"
        + "\n".join(rows)
        + f"\n\n{rule} Top by Computation Time {rule}\n"
        f"\t{heading}\t  [mem KB]\t[times called]\t[Name]\n"
        + "\n".join(rows[:10])
        + f"\n\nNumber of nodes executed: {len(kinds)}\n"
    ]
