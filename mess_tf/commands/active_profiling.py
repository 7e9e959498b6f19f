"""Measuring a share of a run's pieces, so that the others can be predicted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from android_bench.latency_model.learn import choose_files, predict_files
from android_bench.records import MeasureSettings
from android_bench.store import Store
from mess_tf.commands.latencies import always_measured, predictable
from mess_tf.core.piece_names import head_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from search.result import load_anytime_results, load_results


def informative_pieces(
    run: Run, pieces: Pieces, spec: SupernetSpec, share: float
) -> set[str]:
    """Pieces to measure so that the other heads can be predicted best."""
    known = {piece.name for piece in pieces.pieces}
    selected = always_measured(pieces, spec) | (
        _heads_of_results(run, pieces.precision) & known
    )
    count = max(0, math.ceil(share * len(pieces.pieces)) - len(selected))
    files = predictable(pieces)
    count = min(count, len(set(files) - selected))
    return selected | set(choose_files(files, count, selected & set(files)))


def _heads_of_results(run: Run, precision: Precision) -> set[str]:
    """Heads of all search results of a precision, whatever the device."""
    heads = set()
    for path in run.folder.glob(f"search/*/{precision}/chosen.json"):
        for result in load_results(path):
            for outcome in (result.chosen, result.best_static):
                exits = () if outcome is None else outcome.configuration.exits
                heads |= {head_name(choice.exit, choice.head) for choice in exits}
        for ladder in load_anytime_results(path):
            singles = (d.best_single for d in ladder.deadlines if d.best_single)
            heads |= {head_name(e.exit, e.head) for e in (*ladder.exits, *singles)}
    return heads


def predictions(
    target: Path, place: str | Path, runs: Sequence[Any]
) -> list[dict[str, Any]]:
    """How well the rest can be predicted, by device and precision."""
    opened, rows = Run.open(target), []
    settings_from = MeasureSettings.from_key
    with Store(place) as store:
        for run in runs:
            if run.lost:
                continue
            measured = [row for row in run.measurements if not row.failed]
            for precision in dict.fromkeys(r.name.split("/")[0] for r in measured):
                found, model = predict_files(
                    predictable(Pieces.load(opened.pieces(precision))),
                    store,
                    measured[0].fingerprint,
                    settings_from(measured[0].settings_key),
                )
                off = [abs(error) for error in model.errors.values()]
                ends = [row.high_ms / row.latency_ms - 1 for row in found.values()]
                rows.append(
                    {
                        "device": run.name,
                        "precision": precision,
                        "learnt": len(model.models),
                        "predicted": len(found),
                        "interval": statistics.median(ends) if ends else 0.0,
                        "within_5": sum(error <= 0.05 for error in off) / len(off),
                        "within_10": sum(error <= 0.10 for error in off) / len(off),
                    }
                )
    return rows
