"""``mess profile --operators``: a separate pass, beside the latencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from android_bench.operator_profiling import OperatorRun, profile_operators
from android_bench.options import MeasureOptions
from android_bench.records import MeasureSettings
from android_bench.tables import check_csv, write_operators_csv
from mess_tf.reporting.operators import OperatorCosts, operator_costs
from mess_tf.terminal.progress import parallel_progress

MOST_LINES = 12
"""Of a table on the terminal; the CSV file and ``--json`` have all."""


def measure_operators(
    models: Mapping[str, Path],
    devices: Sequence[str],
    store: str | Path,
    settings: MeasureSettings,
    options: MeasureOptions,
    csv: Path | None,
) -> dict[str, Any]:
    """Profiles the operators of models.

    Args:
        models: files by name in tables.
        csv: file for one line per operator.

    Returns:
        ``devices`` and ``failed_measurements`` as of latencies; ``operators`` (per
        device and model its ``operators``, each a dict, and their sum ``total_us``);
        ``operator_families`` and ``slower_in_int8`` (rows of
        ``mess_tf.reporting.operators``, with the device's name).

    Raises:
        BenchError: no device could be profiled.
    """
    if csv is not None:
        check_csv(csv)
    with parallel_progress() as step_of:
        runs = profile_operators(
            models,
            devices,
            store=store,
            settings=settings,
            fresh=options.fresh,
            benchmark_model=options.benchmark_model,
            progress=lambda name, done, planned, text: step_of(
                f"Profiling operators on {name}"
            ).at(done, planned, text),
        )
    if csv is not None:
        rows = [profile for run in runs for profile in run.profiles]
        write_operators_csv(rows, csv, [r.info for r in runs if r.info is not None])
    costs = [operator_costs(run.name, run.profiles) for run in runs if run.profiles]
    return {
        "devices": [_summary(run) for run in runs],
        "operators": [
            {
                "device": run.name,
                "name": profile.name,
                "total_us": profile.total_us,
                "operators": [dataclasses.asdict(o) for o in profile.operators],
            }
            for run in runs
            for profile in run.profiles
            if not profile.failed
        ],
        "operator_families": _rows(costs, "families"),
        "slower_in_int8": _rows(costs, "slower"),
        "failed_measurements": [row for run in runs for row in _failures(run)],
    }


def _rows(costs: Sequence[OperatorCosts], field: str) -> list[dict[str, Any]]:
    return [
        {"device": one.device, **dataclasses.asdict(row)}
        for one in costs
        for row in getattr(one, field)
    ]


def _summary(run: OperatorRun) -> dict[str, Any]:
    failed = sum(profile.failed for profile in run.profiles)
    return {
        "name": run.name,
        "model": None if run.info is None else run.info.model,
        "measured": len(run.profiles) - failed,
        "flagged": 0,
        "failed": failed,
        "lost": run.lost,
        "same_as": "",
    }


def _failures(run: OperatorRun) -> list[dict[str, Any]]:
    rows = [
        {
            "device": run.name,
            "name": profile.name,
            "stage": profile.failure.stage,
            "message": profile.failure.message,
        }
        for profile in run.profiles
        if profile.failure is not None
    ]
    if run.lost:
        lost = {"name": "(device)", "stage": "device", "message": run.lost}
        rows.append({"device": run.name, **lost})
    return rows


def operator_lines(result: Mapping[str, Any]) -> list[str]:
    """The costliest operators by piece, and where int8 is slower than float32."""
    rows = sorted(result["operator_families"], key=lambda row: -row["time_us"])
    lines = [
        f"{row['device']} {_piece(row)}: {row['family']}"
        f"{' x' + str(row['operators']) if row['operators'] > 1 else ''}"
        f" {row['time_us']:.0f} us, {row['share']:.0%} of its operators"
        for row in rows[:MOST_LINES]
    ]
    if len(rows) > MOST_LINES:
        lines.append(f"  and {len(rows) - MOST_LINES} more (--json, --csv)")
    for row in result["slower_in_int8"][:MOST_LINES]:
        number = "" if row["number"] is None else f" {row['number']}"
        lines.append(
            f"  slower in {row['precision']}: {row['piece']}, {row['family']}{number}:"
            f" {row['int8_us']:.0f} us, float32 {row['float32_us']:.0f} us"
        )
    return lines


def _piece(row: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (row["precision"], row["piece"])))
