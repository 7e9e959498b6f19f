"""``mess export``."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mess_tf.commands.shared import measured_latencies
from mess_tf.data.open import open_data
from mess_tf.doors import open_door
from mess_tf.errors import MessError
from mess_tf.files import sha256_of
from mess_tf.records import (
    SCHEMA,
    Configuration,
    Pieces,
    Precision,
    SupernetSpec,
    head_name,
    segment_name,
    write_json,
)
from mess_tf.runs import Run

_VERSIONS = ("mess-tf", "tensorflow", "keras", "ai-edge-litert", "numpy")


def export(
    run: Path,
    choice: Sequence[str] = (),
    device: str | None = None,
    precision: Precision = "int8",
) -> dict[str, Any]:
    """Writes chosen configurations as one ``.tflite`` file each, with a card.

    Args:
        run: folder of the run.
        choice: names of search results; empty means all.
        device: whose search results; None takes the recipe's.
        precision: of the pieces the search was made for.

    Returns:
        ``run`` and ``exports``: per export its name, model, size and exits.

    Raises:
        MessError: no such search result, or pieces that do not fit together.
    """
    from mess_tf.compile.link import link_configuration

    opened = Run.open(run)
    name = device or opened.recipe.profile.device
    spec = SupernetSpec.load(opened.supernet_structure)
    pieces = Pieces.load(opened.pieces(precision))
    results = open_door("load_results")(opened.search(name, precision) / "chosen.json")
    by_name = {result.name: result for result in results}
    for wanted in choice:
        if wanted not in by_name:
            raise MessError(
                f"No search result named {wanted!r} for {name} and {precision}; there"
                f" are {', '.join(by_name) or 'none'}."
            )
    latencies = measured_latencies(opened, precision, device)
    palette = open_data(opened.recipe.data).train.palette.tolist()
    exports = []
    for wanted in choice or by_name:
        result = by_name[wanted]
        folder = opened.export(f"{wanted}_{precision}")
        model = folder / "model.tflite"
        link_configuration(pieces, spec, result.configuration, model)
        card = _card(
            model, spec, pieces, result, latencies.device, latencies.threads, palette
        )
        card["latency"]["preset"] = latencies.preset
        write_json(folder / "card.json", card)
        exports.append(
            {
                "name": folder.name,
                "model": str(model),
                "size_bytes": card["size_bytes"],
                "exits": card["exits"],
                "float_operators": card["inventory"]["float_operators"],
            }
        )
    return {"run": str(run), "exports": exports}


def _card(
    model: Path,
    spec: SupernetSpec,
    pieces: Pieces,
    result: Any,
    device: dict[str, Any],
    threads: int,
    palette: list[list[int]],
) -> dict[str, Any]:
    from mess_tf.compile.inventory import DECISION_REASON, inventory
    from mess_tf.compile.runner import LinkedModel

    linked = LinkedModel(model)
    parts = inventory(model)
    outcome = result.chosen.as_json()
    return {
        "schema": SCHEMA,
        "name": model.parent.name,
        "precision": pieces.precision,
        "size_bytes": model.stat().st_size,
        "sha256": sha256_of(model),
        "signature": "serve",
        "input": dataclasses.asdict(linked.image),
        "outputs": {
            "logits": linked.logits and dataclasses.asdict(linked.logits),
            "exit": "int32 (1,): exit point taken, 1-based",
        },
        "preprocessing": dataclasses.asdict(spec.preprocessing),
        "classes": list(spec.classes),
        "palette": palette,
        "exits": _exits(spec, pieces, result.configuration),
        "inventory": parts,
        "float_reason": DECISION_REASON
        if pieces.precision.startswith("int8")
        else "float model",
        "requirement": result.as_json()["requirement"],
        "promise": outcome,
        "best_static": None
        if result.best_static is None
        else result.best_static.as_json(),
        "reference": result.reference.as_json(),
        "latency": {
            "device": device,
            "threads": threads,
            "statistic": "sum of the pieces' medians, mean over images",
        },
        "statistics_source": result.source,
        "pieces": {
            name: pieces[name].sha256 for name in _piece_names(result.configuration)
        },
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def _piece_names(configuration: Configuration) -> list[str]:
    last = configuration.exits[-1].exit
    return [segment_name(k) for k in range(1, last + 1)] + [
        head_name(choice.exit, choice.head) for choice in configuration.exits
    ]


def _exits(
    spec: SupernetSpec, pieces: Pieces, configuration: Configuration
) -> list[dict[str, Any]]:
    """Per exit: where it sits, its rule, and the MACs of an image that leaves there."""
    rows, macs, done = [], 0, 0
    for choice in configuration.exits:
        macs += sum(
            pieces[segment_name(k)].macs for k in range(done + 1, choice.exit + 1)
        )
        macs += pieces[head_name(choice.exit, choice.head)].macs
        done = choice.exit
        point = spec.exit_points[choice.exit - 1]
        rows.append({**dataclasses.asdict(choice), "layer": point.layer, "macs": macs})
    return rows


def render(result: dict[str, Any]) -> str:
    """One paragraph per export."""
    lines = []
    for row in result["exports"]:
        exits = " > ".join(f"{e['exit']}:{e['head']}" for e in row["exits"])
        kept = ", ".join(f"{n} {k}" for k, n in row["float_operators"].items())
        lines.append(f"{row['model']} ({row['size_bytes'] / 1e6:.2f} MB): {exits}")
        if "_int8" in row["name"]:
            lines.append(f"  operators in float: {kept or 'none'}")
    return "\n".join([*lines, f"Next: mess check {result['run']}"])
