"""Measurements as tables, for pandas and files: a line per model, a line per round."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from android_bench.errors import BenchError
from android_bench.records import Measurement, Round


def measurements_table(rows: Iterable[Measurement]) -> pd.DataFrame:
    """A line per measurement: keys, settings, figures (NaN when failed), flags."""
    return pd.DataFrame([_line(row) for row in rows])


def rounds_table(rows: Iterable[Measurement]) -> pd.DataFrame:
    """A line per round, those set aside too: raw samples, conditions, statistics.

    ``samples_us`` holds microseconds, separated by blanks, in the order taken.
    """
    lines = []
    for row in rows:
        both = [(r, False) for r in row.rounds] + [(r, True) for r in row.set_aside]
        for number, (item, set_aside) in enumerate(both):
            lines.append(_round_line(row, number, item, set_aside))
    return pd.DataFrame(lines)


def write_csv(rows: Iterable[Measurement], path: Path) -> tuple[Path, Path]:
    """Writes both tables as CSV: ``path``, and ``<stem>.rounds.csv`` beside it.

    Raises:
        BenchError: a file cannot be written.
    """
    rows = list(rows)
    rounds = path.with_suffix(".rounds.csv")
    for table, file in ((measurements_table(rows), path), (rounds_table(rows), rounds)):
        try:
            table.to_csv(file, index=False)
        except OSError as error:
            raise BenchError(
                f"Table {file} cannot be written ({error.strerror or error}); give the"
                " path of a file in a folder that exists."
            ) from error
    return path, rounds


def _line(row: Measurement) -> dict[str, Any]:
    settings = json.loads(row.settings_key)
    failure = row.failure
    nothing = float("nan")
    return {
        "name": row.name,
        "sha256": row.sha256,
        "fingerprint": row.fingerprint,
        "tool": row.tool_key,
        "time": row.time,
        "threads": settings["threads"],
        "delegate": settings["delegate"],
        "rounds": len(row.rounds),
        "samples": sum(len(r.samples_us) for r in row.rounds),
        "p50_ms": nothing if failure else row.p50_ms,
        "p90_ms": nothing if failure else row.p90_ms,
        "mean_ms": nothing if failure else row.mean_ms,
        "spread": nothing if failure else row.spread,
        "flags": " ".join(row.flags),
        "failed_at": failure.stage if failure else "",
        "message": failure.message if failure else "",
        "settings": row.settings_key,
    }


def _round_line(
    row: Measurement, number: int, item: Round, set_aside: bool
) -> dict[str, Any]:
    conditions, summary = item.conditions, item.summary
    return {
        "name": row.name,
        "sha256": row.sha256,
        "fingerprint": row.fingerprint,
        "round": number,
        "set_aside": set_aside,
        "runs": item.runs,
        "init_us": item.init_us,
        "median_us": item.median_us,
        "samples_us": " ".join(f"{sample:g}" for sample in item.samples_us),
        "p95_us": summary.p95_us if summary else None,
        "mean_us": summary.mean_us if summary else None,
        "time": conditions.time,
        "temperature_c": conditions.temperature_c,
        "throttled": conditions.throttled,
        "battery_percent": conditions.battery_percent,
        "charging": conditions.charging,
        "load": conditions.load,
        "foreign_load": conditions.foreign_load,
        "governor": conditions.governor,
        "frequencies_khz": " ".join(map(str, conditions.frequencies_khz)),
    }
