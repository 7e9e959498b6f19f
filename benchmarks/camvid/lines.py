"""One system at one speed-up, and what several runs say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from intervals import difference, spread


@dataclass(frozen=True)
class Line:
    """One system at one setting.

    Attributes:
        system: as ``systems.py`` calls it.
        asked: speed-up over the final exit that its budget stands for; 0 where nothing
            was asked.
        setting: heads, or the threshold.
        mmacs: mean over the report part, millions.
        calibration, report: mIoU in per cent.
    """

    system: str
    asked: float
    setting: str
    mmacs: float
    calibration: float
    report: float


COLUMNS = {
    "uniform": "uniform FCN heads",
    "tailored": "the paper's head space",
    "skips": "with skips (ours)",
    "skips static": "its best single exit",
}
STEPS = (("uniform", "tailored"), ("tailored", "skips"), ("skips static", "skips"))
"""Systems before and after a step, whose differences are told."""


def runs_table(runs: Sequence[Sequence[Line]]) -> str:
    """Per speed-up and head space: mIoU on both parts and MMACs over the runs.

    Args:
        runs: the lines of each run.
    """
    lines = [
        "| asked | " + " | ".join(COLUMNS.values()) + " |",
        "|" + "---|" * (len(COLUMNS) + 1),
    ]
    for asked in _speedups(runs):
        cells = []
        for system in COLUMNS:
            found = [line for line in _of(runs, system, asked) if line is not None]
            cells.append(_cell(found, len(runs)))
        lines.append(f"| {asked:g}x | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps_table(runs: Sequence[Sequence[Line]]) -> str:
    """Per speed-up, what each step gains, paired by run, with Student's interval; last
    the mean over the speed-ups that every run reaches."""
    heads = [
        f"{COLUMNS[b]} over {COLUMNS[a]}, {part}"
        for a, b in STEPS
        for part in ("calibration", "report")
    ]
    lines = ["| asked | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    gains = {asked: _gains(runs, asked) for asked in _speedups(runs)}
    for asked, columns in gains.items():
        cells = " | ".join(difference(column) for column in columns)
        lines.append(f"| {asked:g}x | {cells} |")
    whole = [c for c in gains.values() if all(len(g) == len(runs) for g in c)]
    means = np.mean(whole, axis=0)  # of (speed-ups, steps and parts, runs)
    cells = " | ".join(difference(column) for column in means.tolist())
    lines.append(f"| mean of {len(whole)} | {cells} |")
    return "\n".join(lines)


def _gains(runs: Sequence[Sequence[Line]], asked: float) -> list[list[float]]:
    """Per step and part, the gains of the runs that have both systems."""
    gains = []
    for before, after in STEPS:
        pairs = [
            (a, b)
            for a, b in zip(
                _of(runs, before, asked), _of(runs, after, asked), strict=True
            )
            if a is not None and b is not None
        ]
        gains.append([b.calibration - a.calibration for a, b in pairs])
        gains.append([b.report - a.report for a, b in pairs])
    return gains


def _speedups(runs: Sequence[Sequence[Line]]) -> list[float]:
    return sorted({x.asked for run in runs for x in run if x.system in COLUMNS})


def _of(runs: Sequence[Sequence[Line]], system: str, asked: float) -> list[Line | None]:
    """Per run the line of a system at a speed-up, if there is one."""
    return [
        next((x for x in run if (x.system, x.asked) == (system, asked)), None)
        for run in runs
    ]


def _cell(found: Sequence[Line], count: int) -> str:
    if not found:
        return "none"
    parts = [[x.calibration for x in found], [x.report for x in found]]
    text = " / ".join(spread(part) for part in parts)
    text += f" %, {np.mean([x.mmacs for x in found]):.0f}"
    return text + (f" ({len(found)} of {count} runs)" if len(found) < count else "")
