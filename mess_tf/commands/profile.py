"""``mess profile``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mess_tf.doors import open_door
from mess_tf.errors import UsageError
from mess_tf.progress import progress
from mess_tf.records import Pieces, Precision
from mess_tf.runs import Run

Preset = Literal["quick", "report"]


def profile(
    target: Path,
    device: str | None = None,
    precision: Precision | None = None,
    preset: Preset | None = None,
    threads: int | None = None,
    store: str | Path | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Measures every piece of a run, or one ``.tflite`` file, on a device.

    What the store holds already is not measured again.

    Args:
        target: run folder, or a ``.tflite`` file.
        device: e.g. ``host``; None takes the recipe's.
        precision: only this one of a run; None takes the recipe's.
        preset: ``quick`` or ``report``; None takes the recipe's.
        threads: CPU threads; None takes the recipe's.
        store: file or database URL; None takes the run's. A single file without a store
            is measured into ``<file>.profiles.sqlite`` beside it.
        fresh: measure again what is stored.

    Returns:
        ``device``, ``store``, ``measured`` (rows with name, p50_ms, p90_ms, spread and
        flags) and ``failed_measurements`` (rows with name, stage and message).

    Raises:
        MessError, BenchError: nothing to measure, or the device cannot be used.
    """
    models, defaults = _models(target, precision)
    chosen = {
        "device": device or defaults["device"],
        "preset": preset or defaults["preset"],
        "threads": threads or defaults["threads"],
    }
    place = store or defaults["store"]
    with progress("Profiling") as step:
        rows = open_door("profile")(
            models,
            store=place,
            fresh=fresh,
            progress=lambda done, planned, text: step.at(done, planned, text),
            **chosen,
        )
    return {
        "target": str(target),
        "device": chosen["device"],
        "store": str(place),
        "measured": [_figures(row) for row in rows if not row.failed],
        "failed_measurements": [
            {
                "name": row.name,
                "stage": row.failure.stage,
                "message": row.failure.message,
            }
            for row in rows
            if row.failed
        ],
    }


def _models(
    target: Path, precision: Precision | None
) -> tuple[dict[str, Path], dict[str, Any]]:
    target = Path(target)
    if target.is_file():
        beside = target.with_name(target.name + ".profiles.sqlite")
        defaults = {"device": "host", "preset": "quick", "threads": 1, "store": beside}
        return {target.stem: target}, defaults
    if target.suffix == ".tflite":
        raise UsageError(f"No file at {target}; give a .tflite file or a run folder.")
    run = Run.open(target)
    precisions: Sequence[Precision] = run.recipe.compile.precisions
    models = {
        f"{wanted}/{piece.name}": run.pieces(wanted) / piece.file
        for wanted in ([precision] if precision else precisions)
        for piece in Pieces.load(run.pieces(wanted)).pieces
    }
    settings = run.recipe.profile
    return models, {
        "device": settings.device,
        "preset": settings.preset,
        "threads": settings.threads,
        "store": run.profiles,
    }


def _figures(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "p50_ms": row.p50_ms,
        "p90_ms": row.p90_ms,
        "spread": row.spread,
        "flags": list(row.flags),
    }


def render(result: dict[str, Any]) -> str:
    """A short account; one file gets its figures."""
    rows, failed = result["measured"], result["failed_measurements"]
    lines = [
        f"{row['name']}: p50 {row['p50_ms']:.3f} ms, p90 {row['p90_ms']:.3f} ms, rounds"
        f" spread {row['spread']:.1%} {' '.join(row['flags'])}".rstrip()
        for row in (rows if len(rows) <= 8 else [])
    ]
    flagged = sum(bool(row["flags"]) for row in rows)
    lines.append(
        f"{len(rows)} measured on {result['device']} ({flagged} flagged),"
        f" {len(failed)} failed; stored in {result['store']}"
    )
    lines += [f"  failed: {r['name']} ({r['stage']}): {r['message']}" for r in failed]
    if Path(result["target"]).is_dir():
        lines.append(f"Next: mess search {result['target']}")
    return "\n".join(lines)
