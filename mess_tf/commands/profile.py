"""``mess profile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from android_bench.options import Delegate, MeasureOptions, Preset
from android_bench.profile import profile as profile_files
from android_bench.store_errors import without_password
from android_bench.tables import check_csv, rounds_path, write_csv
from mess_tf.commands.active_profiling import informative_pieces, predictions
from mess_tf.commands.arguments import as_tuple, check_choice, next_command
from mess_tf.commands.latencies import compared_with_probes
from mess_tf.commands.operator_profiles import measure_operators, operator_lines
from mess_tf.core.errors import UsageError
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from mess_tf.terminal.progress import parallel_progress

LOST = "device"
"""Stage of the failure that stands for a device which was lost."""


def profile(
    target: str | Path,
    options: MeasureOptions = MeasureOptions(),
    *,
    device: str | Sequence[str] = (),
    precision: Precision | None = None,
    store: str | Path | None = None,
    csv: str | Path | None = None,
    share: float | None = None,
    operators: bool = False,
) -> dict[str, Any]:
    """Measures latencies on one or more devices: of a run's pieces or a .tflite file.

    Each figure is stored at once: after Ctrl-C, a pulled cable or a crash the same
    command goes on where it stopped. The exit code is 3 where a device was lost or a
    model could not be measured.

    Args:
        target: run folder or .tflite file.
        options: how to measure; where it names no preset or threads, the recipe's.
        device: name of a device as ``mess devices`` lists it, e.g. host or a phone's
            serial number; may be repeated: several are measured at the same time; 'all'
            is every phone within reach (default: the recipe's).
        precision: only this precision of a run (default: the recipe's).
        store: where the measurements are stored: an SQLite file, or the URL of a
            database that a team shares, e.g. postgresql://user@host/name (default: the
            run's profiles.sqlite; beside a single file, FILE.profiles.sqlite).
        csv: also write the figures as a table to this file, and every round with its
            raw samples to <stem>.rounds.csv beside it.
        share: part of a run's pieces to measure, above 0 and at most 1, e.g. 0.2: what
            cannot be predicted and what ``mess search`` has chosen, then the heads that
            tell most about the others; ``mess search --predicted`` predicts the rest
            (default: all).
        operators: profile the models' operators instead, in a separate pass: which
            operators cost what, in which piece, and where int8 is slower than float32.
            Times taken under profiling are stored apart and are never latencies; --csv
            writes one line per operator.

    Returns:
        ``store``, ``csv`` (the tables that were written), ``devices`` (per device its
        ``name``, ``model``, how many were ``measured``, ``flagged`` and ``failed``, why
        it was ``lost``, and the other name it is the ``same_as``), ``measured`` (rows
        with device, name, p50_ms, p90_ms, spread and flags), ``predictions`` (with a
        share: per device and precision how many heads could be ``predicted`` from how
        many ``learnt``, half the ``interval`` of the median prediction as a part of it,
        and the parts of the held-out pieces ``within_5`` and ``within_10`` per cent)
        and ``failed_measurements`` (rows with device, name, stage and message; a lost
        device is one too). With ``operators`` also ``operators``,
        ``operator_families`` and ``slower_in_int8``; see ``measure_operators``.

    Raises:
        MessError, BenchError: nothing to measure, or nothing could be measured.
    """
    check_choice("preset", options.preset, get_args(Preset))
    check_choice("delegate", options.delegate, get_args(Delegate))
    target, names = Path(target), as_tuple(device)
    models, defaults, groups = _models(target, precision, share)
    place = store or defaults["store"]
    settings = options.settings(defaults["preset"], defaults["threads"])
    if csv is not None:
        check_csv(Path(csv))
    found: dict[str, Any] = {
        "target": str(target),
        "store": without_password(place),
        "measured": [],
        "predictions": [],
        "next": None,
    }
    if operators:
        if share is not None:
            raise UsageError("--operators profiles whole runs; leave --share out.")
        table = None if csv is None else Path(csv)
        devices = names or (defaults["device"],)
        profiled = measure_operators(models, devices, place, settings, options, table)
        return {**found, "csv": [] if csv is None else [str(csv)], **profiled}
    with parallel_progress() as step_of:
        runs = profile_files(
            models,
            names or (defaults["device"],),
            store=place,
            settings=settings,
            fresh=options.fresh,
            benchmark_model=options.benchmark_model,
            progress=lambda name, done, planned, text: step_of(f"Profiling {name}").at(
                done, planned, text
            ),
            groups=groups,
        )
    if csv is not None:
        rows = [row for run in runs for row in run.measurements]
        infos = [run.info for run in runs if run.info is not None]
        write_csv(rows, Path(csv), infos)
    predicted = [] if share is None else predictions(target, place, runs)
    return {
        **found,
        "csv": [] if csv is None else [str(p) for p in _tables(Path(csv))],
        "devices": [_summary(run) for run in runs],
        "measured": [
            _figures(run.name, row)
            for run in runs
            for row in run.measurements
            if not row.failed
        ],
        "predictions": predicted,
        "failed_measurements": [failure for run in runs for failure in _failures(run)],
        "next": None
        if target.is_file()
        else next_command(
            "search",
            target,
            device=names,
            precision=_to_search(precision, models),
            threads=options.threads,
            predicted=any(row["predicted"] for row in predicted),
        ),
    }


def _to_search(precision: Precision | None, models: dict[str, Path]) -> str | None:
    """What `mess search` has to be given; it takes int8 by itself."""
    measured = precision or next(iter(models)).split("/")[0]
    return None if any(n.startswith("int8/") for n in models) else measured


def _tables(csv: Path) -> tuple[Path, Path]:
    return csv, rounds_path(csv)


def _summary(run: Any) -> dict[str, Any]:
    failed = sum(row.failed for row in run.measurements)
    return {
        "name": run.name,
        "model": None if run.info is None else run.info.model,
        "measured": len(run.measurements) - failed,
        "flagged": sum(bool(row.flags) for row in run.measurements),
        "failed": failed,
        "lost": run.lost,
        "same_as": run.same_as,
    }


def _failures(run: Any) -> list[dict[str, Any]]:
    rows = [
        {
            "device": run.name,
            "name": row.name,
            "stage": row.failure.stage,
            "message": row.failure.message,
        }
        for row in run.measurements
        if row.failed
    ]
    if run.lost:
        lost = {"name": "(device)", "stage": LOST, "message": run.lost}
        rows.append({"device": run.name, **lost})
    return rows


def _models(
    target: Path, precision: Precision | None, share: float | None
) -> tuple[dict[str, Path], dict[str, Any], dict[str, str]]:
    """Files by name in tables, what is not reported, and the groups of the probes."""
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"Share {share:g} is no part; give more than 0, at most 1.")
    if target.is_file() and share is not None:
        raise UsageError(f"A share of one file ({target}) is nothing; leave it out.")
    if target.is_file() and precision is not None:
        raise UsageError(
            f"{target} is one file, which has its precision; leave --precision out."
        )
    if target.is_file():
        beside = target.with_name(target.name + ".profiles.sqlite")
        defaults = {"device": "host", "preset": "quick", "threads": 1, "store": beside}
        return {target.stem: target}, defaults, {}
    if target.suffix == ".tflite":
        raise UsageError(f"No file at {target}; give a .tflite file or a run folder.")
    run = Run.open(target)
    precisions: Sequence[Precision] = run.recipe.compile.precisions
    models, groups = {}, {}
    for wanted in [precision] if precision else precisions:
        pieces = Pieces.load(run.pieces(wanted))
        spec = pieces.part_of(SupernetSpec.load(run.supernet_structure))
        beside_probes = compared_with_probes(pieces, spec)
        selected = (
            None if share is None else informative_pieces(run, pieces, spec, share)
        )
        for piece in pieces.pieces:
            if selected is not None and piece.name not in selected:
                continue
            name = f"{wanted}/{piece.name}"
            models[name] = run.pieces(wanted) / piece.file
            if piece.name in beside_probes:
                groups[name] = f"probes of {wanted}"
    settings = run.recipe.profile
    defaults = {
        "device": settings.device,
        "preset": settings.preset,
        "threads": settings.threads,
        "store": run.profiles,
    }
    return models, defaults, groups


def _figures(device: str, row: Any) -> dict[str, Any]:
    return {
        "device": device,
        "name": row.name,
        "p50_ms": row.p50_ms,
        "p90_ms": row.p90_ms,
        "spread": row.spread,
        "flags": list(row.flags),
    }


def render(result: dict[str, Any]) -> str:
    """Figures of a few models, then a line per device; what failed, and why."""
    devices, rows = result["devices"], result["measured"]
    several = len(devices) > 1
    lines = [
        f"{row['device'] + ' ' if several else ''}{row['name']}: p50"
        f" {row['p50_ms']:.3f} ms, p90 {row['p90_ms']:.3f} ms, rounds spread"
        f" {row['spread']:.1%} {' '.join(row['flags'])}".rstrip()
        for row in (rows if len(rows) <= 8 else [])
    ]
    lines += operator_lines(result) if "operators" in result else []
    lines += _table(devices)
    lines += _doubts(rows)
    lines += [f"  {d['name']} was lost: {d['lost']}" for d in devices if d["lost"]]
    lines += [
        f"  {d['name']} is the same device as {d['same_as']}"
        for d in devices
        if d["same_as"]
    ]
    lines += [
        f"  failed on {r['device']}: {r['name']} ({r['stage']}): {r['message']}"
        for r in result["failed_measurements"]
        if r["stage"] != LOST
    ]
    lines += [
        f"  {row['device']} {row['precision']}: {row['predicted']} heads can be"
        f" predicted from {row['learnt']} pieces, to {row['interval']:.0%} in the"
        f" median (95 % interval); held out, {row['within_5']:.0%} of these pieces were"
        f" predicted within 5 %, {row['within_10']:.0%} within 10 %"
        for row in result["predictions"]
    ]
    lines.append(f"Stored in {result['store']}")
    if result["csv"]:
        lines.append(f"Tables: {', '.join(result['csv'])}")
    return "\n".join(lines)


# Flags of a measurement (android_bench.records.Measurement).
_MEANING = {
    "unstable": "rounds disagree by more than 5 %",
    "disturbed": "other programs took processor time",
    "throttled": "the device slowed itself down, being hot",
    "few_runs": "a round's time limit came first",
    "mean_only": "the tool tells no median",
    "power_save": "the phone saves power",
    "low_battery": "the battery is low",
    "screen_off": "the screen was off",
    "capped": "the phone holds its cores below their highest frequency",
    "rebooted": "the phone started anew between two rounds",
}


def _doubts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What flags mean, how many have them, and what to do."""
    counts = Counter(flag for row in rows for flag in row["flags"])
    reported = [f"  {n} {flag}: {_MEANING[flag]}" for flag, n in counts.items()]
    if not reported:
        return []
    return [
        *reported,
        "  They are stored and used; on a calm device --fresh measures again.",
    ]


def _table(devices: Sequence[dict[str, Any]]) -> list[str]:
    """A line per device under a heading, in columns."""
    counts = ("measured", "flagged", "failed")
    cells = [("device", "model", *counts)]
    cells += [
        (d["name"], d["model"] or "", *(str(d[c]) for c in counts)) for d in devices
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
