"""What rounding costs per exit, and what training under fake quantisation gives back.

For the exits of a run's search results, on the report part:

* mIoU per exit in float32, int8 after training and int8 after `mess quantise`;
* the *control*: the same fine-tuning without rounding, in float32 and in int8 after
  training. Only against it does a gain speak for rounding in the loop: fine-tuning is
  more training, which helps by itself where a network is not trained out;
* every result's thresholds, fitted on float32: what they do on float32, on both int8
  graphs as they are, and fitted anew there.

Needs `mess compile`, `evaluate` and `profile` in float32 and int8, `search` in int8,
`mess quantise`, and `profile` of its pieces. The control is trained here (as long as
`mess quantise` took) unless ``--no-control``, and goes on after an interruption.

    python benchmarks/bench_quantise.py runs/camvid
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

from mess_tf.commands.compile import calibration_images
from mess_tf.commands.latencies import measured_latencies
from mess_tf.core.configuration import Configuration
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import open_dataset
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.quantising.thresholds import only_heads, routed
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress, show_progress
from search.parameters import SearchParameters
from search.result import SearchResult, load_results
from search.run import InfeasibleError, search

QAT: Precision = "int8-qat"
GRAPHS: tuple[Precision, ...] = ("float32", "int8", QAT)
PART = "report"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="host")
    parser.add_argument("--epochs", type=int, help="of the control; as mess quantise")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    show_progress("lines")
    run = Run.open(arguments.run)
    whole = SupernetSpec.load(run.supernet_structure)
    spec = Pieces.load(run.pieces(QAT)).part_of(whole)
    known: dict[str, Statistics] = {
        precision: Statistics.load(run.statistics(precision)) for precision in GRAPHS
    }
    if not arguments.no_control:
        known |= control(run, spec, arguments.epochs)
    figures = {
        "exits": exit_table(spec, known),
        "thresholds": threshold_table(run, spec, known, arguments.device),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def exit_table(
    spec: SupernetSpec, known: dict[str, Statistics]
) -> list[dict[str, Any]]:
    """Prints and returns mIoU per kept exit, and the difference from float32 in pp."""
    print(f"\nmIoU per exit on the {PART} part; in brackets against float32, pp")
    print(f"{'exit':32s}" + "".join(f"{name:>20s}" for name in known))
    rows = []
    for head in spec.head_names():
        values = {name: head_miou(s, head, PART) for name, s in known.items()}
        base = values["float32"]
        print(
            f"{head[0]} {head[1]:30s}"
            + "".join(f"{v:12.2%} ({100 * (v - base):+5.2f})" for v in values.values())
        )
        rows.append({"exit": head[0], "head": head[1], "miou": values})
    return rows


def threshold_table(
    run: Run, spec: SupernetSpec, known: dict[str, Statistics], device: str
) -> list[dict[str, Any]]:
    """Prints and returns what float thresholds do elsewhere, kept and fitted anew."""
    final = (spec.exit_points[-1].index, spec.final_head.id)
    results = load_results(run.search(device, QAT) / "chosen.json")
    rows = []
    measured: dict[str, dict[str, float]] = {
        precision: measured_latencies(run, precision, device).by_piece
        for precision in GRAPHS
    }
    print(f"\nThresholds, {PART} part: exit rates, mIoU, drop below the final exit")
    for result in results:
        heads = [(c.exit, c.head) for c in result.configuration.exits]
        allowed = list(dict.fromkeys([*heads, final]))
        statistics = only_heads(known["float32"], allowed)
        fitted = fit(result, statistics, spec, measured["float32"])
        if fitted is None:
            print(f"{result.name}: not met in float32")
            continue
        print(f"{result.name}:")
        for name in GRAPHS:
            statistics = only_heads(known[name], allowed)
            anew = fit(result, statistics, spec, measured[name])
            for how, configuration in (("float thresholds", fitted), ("anew", anew)):
                if name == "float32" and how == "anew":
                    continue
                row = does(statistics, configuration, final)
                rows.append({"name": result.name, "graph": name, "how": how, **row})
                print(f"  {name:10s} {how:18s} {row['text']}")
    return rows


def fit(
    result: SearchResult,
    statistics: Statistics,
    spec: SupernetSpec,
    latencies: dict[str, float],
) -> Configuration | None:
    """A result's requirement on other statistics; None where nothing keeps it."""
    try:
        return search(
            statistics,
            spec,
            latencies,
            result.requirement,
            SearchParameters(
                setting=result.setting,
                max_early_exits=result.max_early_exits,
                thresholds_per_policy=result.thresholds_per_policy,
            ),
        ).configuration
    except InfeasibleError:
        return None


def does(
    statistics: Statistics,
    configuration: Configuration | None,
    final: tuple[int, str],
) -> dict[str, Any]:
    if configuration is None:
        return {"text": "nothing keeps the requirement"}
    place = exit_position_per_image(statistics, configuration)
    figures = routed(statistics, configuration, place, final, PART)
    if figures is None:
        return {"text": f"no images in the {PART} part"}
    exits = " > ".join(str(choice.exit) for choice in configuration.exits)
    rates = "/".join(f"{rate:.1%}" for rate in figures.exit_rates)
    text = f"{exits} at {rates}, {figures.miou:.2%}, {figures.drop_pp:+.2f} pp"
    return {"text": text, **dataclasses.asdict(figures)}


def control(run: Run, spec: SupernetSpec, epochs: int | None) -> dict[str, Statistics]:
    """Statistics of the same fine-tuning without rounding, float32 and int8."""
    from mess_tf.compiling.pieces import compile_supernet
    from mess_tf.evaluation.evaluate import evaluate
    from mess_tf.evaluation.runners import PiecesRunner
    from mess_tf.models.supernet import build_supernet
    from mess_tf.policies.comparison_exit import reference_exits
    from mess_tf.policies.registry import keys
    from mess_tf.quantising.finetune import fine_tune

    recipe = run.recipe
    if epochs is not None:
        settings = dataclasses.replace(recipe.quantise, epochs=epochs)
        recipe = dataclasses.replace(recipe, quantise=settings)
    images = calibration_images(run, spec, recipe.compile.calibration_images)
    trained = fine_tune(
        recipe, run.folder, run.quantise, spec, images, progress, rounded=False
    )
    size = (spec.image_height, spec.image_width)
    supernet = build_supernet(spec, size)
    for node in trained.mirror.trained().nodes:
        if node.weights:
            supernet.model.get_layer(node.name).set_weights(list(node.weights))
    data = open_dataset(recipe.data)
    asked = recipe.statistics
    compared = reference_exits(spec)
    policies = keys(asked.policies, asked.pixel_thresholds, compared)
    result = {}
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        with tempfile.TemporaryDirectory() as name, progress(precision, 1) as step:
            pieces = compile_supernet(
                supernet,
                Path(name) / "pieces",
                precision,
                images if precision == "int8" else None,
                recipe.statistics.policies,
            )
            shas = "".join(piece.sha256 for piece in pieces.pieces)
            result[f"control {precision}"] = evaluate(
                PiecesRunner(spec, pieces, policies, recipe.profile.threads),
                spec,
                data.evaluation,
                data.parts,
                policies,
                Path(name) / "statistics.npz",
                hashlib.sha256(shas.encode()).hexdigest(),
                lambda count: None,
            )
            step()
    return result


if __name__ == "__main__":
    main()
