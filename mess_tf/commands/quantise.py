"""``mess quantise``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mess_tf.commands.arguments import as_tuple, check_choice, next_command
from mess_tf.commands.compile import calibration_images
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.latencies import Latencies, measured_latencies
from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.json_files import write_json
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.policies.comparison_exit import compared_with
from mess_tf.policies.registry import POLICIES
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress
from search.infeasible import InfeasibleError
from search.parameters import SearchParameters
from search.resources import Resources
from search.result import SearchResult, load_results, save_results
from search.run import search as solve

QAT: Precision = "int8-qat"
ALIKE: Precision = "int8"
"""Its pieces have the same operators and shapes, and so the same latencies."""
SearchedPrecision = Literal["float32", "int8"]
_BESIDE: tuple[Precision, ...] = ("float32", "int8")
RESULT_SCHEMA = 1
"""Version of ``quantise/result.json``."""
_PARTS = ("report", "calibration")
_THEN = ("profile", "export")


def quantise(
    run: str | Path,
    *,
    choice: str | Sequence[str] = (),
    device: str | None = None,
    precision: SearchedPrecision = "int8",
    epochs: int | None = None,
) -> dict[str, Any]:
    """Fine-tunes chosen networks for int8, and fits their thresholds anew.

    Trains with rounding in the loop (quantisation-aware training) and writes the
    pieces as precision int8-qat. Goes on after an interruption.

    The heads of all choices and the final head (and with the policy ``region`` those
    that they are compared with) are trained together on one backbone, under fake
    quantisation; the pieces, the statistics and the search results of the
    precision ``int8-qat`` come out of it. An interrupted training goes on.

    Args:
        run: the run folder.
        choice: name of a search result; may be repeated (default: all).
        device: device whose search results are taken, e.g. host (default: the
            recipe's).
        precision: precision of the pieces that the search was made for.
        epochs: epochs of fine-tuning (default: the recipe's).

    Returns:
        ``run``, ``pieces`` and ``bytes``; ``heads``: mIoU per head and precision on
        both parts; ``thresholds``: per choice, what the old thresholds do where they
        were fitted and on the fine-tuned graph, and what new ones do.

    Raises:
        MessError: not searched yet, int8 pieces not profiled yet (they tell what the
            fine-tuned ones take), no such search result, or a layer that fake
            quantisation cannot follow.
    """
    check_choice("precision", precision, get_args(SearchedPrecision))
    if epochs is not None and epochs < 1:
        raise UsageError(f"--epochs is {epochs}; it must be 1 or more.")
    opened = Run.open(run)
    recipe = _with_epochs(opened.recipe, epochs)
    results = _chosen(opened, as_tuple(choice), device, precision)
    whole = SupernetSpec.load(opened.supernet_structure)
    final = (whole.exit_points[-1].index, whole.final_head.id)
    heads = {(c.exit, c.head) for r in results for c in r.configuration.exits} | {final}
    if any(POLICIES[name].compares for name in recipe.statistics.policies):
        heads |= compared_with(whole, heads)
    spec = whole.with_heads(heads)
    # Before the training, not behind it, is the time to say that something is missing.
    latencies = measured_latencies(opened, ALIKE, device)
    before = Statistics.load(opened.statistics(precision))
    pieces = _train(opened, recipe, spec)
    evaluate(run, precision=QAT)
    after = Statistics.load(opened.statistics(QAT))
    fitted, thresholds = [], []
    for result in results:
        new, reason = _fit_anew(result, after, spec, latencies, pieces, final)
        fitted += [] if new is None else [new]
        thresholds.append(
            {
                "name": result.name,
                "fitted_on": _does(before, result.configuration, final),
                "kept": _does(after, result.configuration, final),
                "fitted_anew": None
                if new is None
                else _does(after, new.configuration, final),
                "unmet": reason,
            }
        )
    folder = opened.search(device or recipe.profile.device, QAT)
    save_results(folder / "chosen.json", fitted)
    outcome = {
        "run": str(run),
        "precision": precision,
        "pieces": len(pieces.pieces),
        "bytes": sum(piece.size_bytes for piece in pieces.pieces),
        "heads": _head_rows(opened, spec),
        "thresholds": thresholds,
    }
    write_json(opened.quantise / "result.json", {"schema": RESULT_SCHEMA, **outcome})
    steps = [next_command(c, run, device=device, precision=QAT) for c in _THEN]
    return outcome | {"next": " && ".join(steps)}


def _with_epochs(recipe: Recipe, epochs: int | None) -> Recipe:
    if epochs is None:
        return recipe
    settings = dataclasses.replace(recipe.quantise, epochs=epochs)
    return dataclasses.replace(recipe, quantise=settings)


def _chosen(
    run: Run, choice: Sequence[str], device: str | None, precision: Precision
) -> list[SearchResult]:
    name = device or run.recipe.profile.device
    results = load_results(run.search(name, precision) / "chosen.json")
    by_name = {result.name: result for result in results}
    for wanted in choice:
        if wanted not in by_name:
            raise MessError(
                f"No search result named {wanted!r} for {name} and {precision}; there"
                f" are {', '.join(by_name) or 'none'}."
            )
    if not by_name:
        raise MessError(
            f"The search for {name} and {precision} found nothing to quantise; run"
            f" `mess search {run.folder}` with another requirement."
        )
    return [by_name[wanted] for wanted in choice or by_name]


def _train(run: Run, recipe: Recipe, spec: SupernetSpec) -> Pieces:
    from mess_tf.quantising.finetune import fine_tune
    from mess_tf.quantising.pieces import write_quantised

    images = calibration_images(run, spec, recipe.compile.calibration_images)
    trained = fine_tune(recipe, run.folder, run.quantise, spec, images, progress)
    with progress("Converting") as step:
        pieces = write_quantised(
            trained, spec, run.pieces(QAT), recipe.statistics.policies
        )
        step()
    return pieces


def _fit_anew(
    result: SearchResult,
    statistics: Statistics,
    spec: SupernetSpec,
    latencies: Latencies,
    pieces: Pieces,
    final: tuple[int, str],
) -> tuple[SearchResult | None, str | None]:
    """The same requirement, exits and heads; thresholds fitted on other statistics.

    Args:
        latencies: of the int8 pieces, whatever precision the result was found with.

    Returns:
        The new result and None, or None and why the requirement cannot be met.
    """
    from mess_tf.quantising.thresholds import only_heads

    heads = [(c.exit, c.head) for c in result.configuration.exits]
    sizes = {piece.name: piece.size_bytes for piece in pieces.pieces}
    certified = result.certified
    try:
        new = solve(
            only_heads(statistics, [*heads, final]),
            spec,
            latencies.by_piece,
            result.requirement,
            SearchParameters(
                setting=result.setting,
                max_early_exits=result.max_early_exits,
                thresholds_per_policy=result.thresholds_per_policy,
                guarantee=None if certified is None else certified.guarantee,
            ),
            resources=Resources(sizes),
            name=result.name,
        )
    except InfeasibleError as error:
        return None, str(error)
    return new, None


def _does(
    statistics: Statistics, configuration: Configuration, final: tuple[int, str]
) -> dict[str, Any]:
    """What a configuration does on both parts, as plain values."""
    from mess_tf.quantising.thresholds import routed

    place = exit_position_per_image(statistics, configuration)
    result: dict[str, Any] = {"configuration": configuration.to_json()}
    for part in _PARTS:
        figures = routed(statistics, configuration, place, final, part)
        result[part] = None if figures is None else dataclasses.asdict(figures)
    return result


def _head_rows(run: Run, spec: SupernetSpec) -> list[dict[str, Any]]:
    """mIoU of every quantised head on both parts, per precision that has statistics."""
    known = {
        precision: Statistics.load(run.statistics(precision))
        for precision in (*_BESIDE, QAT)
        if run.statistics(precision).is_file()
    }
    return [
        {
            "exit": head[0],
            "head": head[1],
            "miou": {
                precision: {p: head_miou(statistics, head, p) for p in _PARTS}
                for precision, statistics in known.items()
            },
        }
        for head in spec.head_names()
    ]


def render(result: dict[str, Any]) -> str:
    """Accuracy per head and precision, and what thresholds do."""
    lines = [
        f"{result['pieces']} pieces, {result['bytes'] / 1e6:.1f} MB. mIoU on the report"
        " part (calibration part):"
    ]
    for row in result["heads"]:
        figures = ", ".join(
            f"{precision} {miou['report']:.2%} ({miou['calibration']:.2%})"
            for precision, miou in row["miou"].items()
        )
        lines.append(f"  exit {row['exit']} {row['head']}: {figures}")
    for row in result["thresholds"]:
        lines.append(f"{row['name']}:")
        for title, key in (
            (f"thresholds on {result['precision']}", "fitted_on"),
            (f"the same on {QAT}", "kept"),
            (f"fitted anew on {QAT}", "fitted_anew"),
        ):
            if row[key] is None:
                lines.append(f"  {title}: NOT MET. {row['unmet']}")
            else:
                lines.append(f"  {title}: {_figures(row[key])}")
    return "\n".join(lines)


def _figures(row: dict[str, Any]) -> str:
    figures = row["report"] or row["calibration"]
    rates = "/".join(f"{rate:.0%}" for rate in figures["exit_rates"])
    exits = " > ".join(str(choice["exit"]) for choice in row["configuration"])
    return (
        f"exits {exits} at {rates}, mIoU {figures['miou']:.2%}"
        f" (drop {figures['drop_pp']:+.2f} pp)"
    )
