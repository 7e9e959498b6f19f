"""``mess search``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from mess_tf.commands.shared import Latencies, measured_latencies
from mess_tf.doors import open_door
from mess_tf.progress import Step, progress
from mess_tf.records import Pieces, Precision, Statistics, SupernetSpec, head_name
from mess_tf.runs import Run

Setting = Literal["input-dependent", "budgeted"]
Robust = Literal["worst-group", "left-out", "upper-bound"]

# Limits of a requirement, and what they are called in a result's name.
_LIMITS = {
    "max_drop_pp": "drop",
    "min_miou": "miou",
    "max_latency_ms": "mean_ms",
    "max_p90_ms": "p90_ms",
    "max_size_mb": "mb",
}


def search(
    run: Path,
    device: str | None = None,
    precision: Precision = "int8",
    threads: int | None = None,
    setting: Setting = "input-dependent",
    max_drop_pp: float | None = None,
    min_miou: float | None = None,
    max_latency_ms: float | None = None,
    max_p90_ms: float | None = None,
    max_size_mb: float | None = None,
    robust: Robust | None = None,
    confidence: float | None = None,
    max_image_drop_pp: float = 10.0,
    max_early_exits: int | None = None,
    time_limit_s: float = 120.0,
    predicted: bool = False,
) -> dict[str, Any]:
    """Finds the best exits, heads and thresholds for a device and a requirement.

    Choices are made on the calibration part alone; the report part is only reported.
    Without a requirement the recipe's accuracy drops are answered, each under the name
    ``drop<pp>``, and the Pareto front is written.

    Args:
        run: folder of the run.
        device: e.g. ``host``; None takes the recipe's.
        precision: of the pieces.
        threads: CPU threads the pieces were measured with; None takes the recipe's.
        setting: ``input-dependent``, or ``budgeted`` (one exit for all images).
        max_drop_pp: largest loss of mIoU against the final exit, absolute points.
        min_miou: least data-set mIoU, 0..1.
        max_latency_ms: largest mean latency.
        max_p90_ms: largest 90th percentile of the latency over images.
        max_size_mb: most that the kept pieces' files may take, millions of bytes.
        robust: measure by which limits are to hold on other scenes too:
            ``worst-group``, ``left-out`` or ``upper-bound``.
        confidence: probability, e.g. 0.95, with which at most the rest of new images
            (5 %) is to lose more than ``max_image_drop_pp``; half of the calibration's
            groups are kept to test that.
        max_image_drop_pp: loss of an image's own mIoU against the final exit.
        max_early_exits: exits before the last one, at most; None takes the recipe's.
        time_limit_s: per requirement.
        predicted: predict the latencies of heads that are not measured; no Pareto front
            is written then, and `mess export` refuses what rests on a prediction.

    Returns:
        ``run``, ``folder``, ``results`` (as in ``chosen.json``), ``unmet`` (name and
        reason per requirement that nothing keeps) and ``hypervolume`` (part of the
        rectangle up to the final exit's latency that the front beats; None without).

    Raises:
        MessError: not evaluated or not profiled yet, or the one requirement given
            cannot be kept.
    """
    opened = Run.open(run)
    recipe = opened.recipe
    spec = SupernetSpec.load(opened.supernet_structure)
    statistics = Statistics.load(opened.statistics(precision))
    latencies = measured_latencies(
        opened, precision, device, threads, "predict" if predicted else "refuse"
    )
    name = device or recipe.profile.device
    given = dict(
        zip(
            _LIMITS,
            (max_drop_pp, min_miou, max_latency_ms, max_p90_ms, max_size_mb),
            strict=True,
        )
    )
    early = (
        recipe.search.max_early_exits if max_early_exits is None else max_early_exits
    )
    common = {
        "setting": setting,
        "max_early_exits": early,
        "thresholds_per_policy": recipe.search.thresholds_per_policy,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    wishes = [asked] if asked else [{"max_drop_pp": d} for d in recipe.search.drops_pp]
    find, requirement = open_door("search"), open_door("requirement")
    pieces = Pieces.load(opened.pieces(precision)).pieces
    takes = open_door("resources")({piece.name: piece.size_bytes for piece in pieces})
    promise = None
    if confidence is not None:
        promise = open_door("guarantee")(max_image_drop_pp, 1 - confidence, confidence)
    results, unmet = [], []
    for wish in wishes:
        label = _label(wish, setting)
        label += f"-{robust}" if robust else ""
        label += f"-{confidence:g}" if confidence is not None else ""
        with progress(f"Searching {label}", time_limit_s) as step:
            try:
                results.append(
                    find(
                        statistics,
                        spec,
                        latencies.by_piece,
                        requirement(**wish, robust=robust),
                        resources=takes,
                        guarantee=promise,
                        time_limit_s=time_limit_s,
                        progress=_shown(step, time_limit_s),
                        name=label,
                        **common,
                    )
                )
            except open_door("infeasible_error") as error:
                if asked:
                    raise
                unmet.append({"name": label, "reason": str(error)})
    results = [_with_predicted(result, latencies) for result in results]
    folder = opened.search(name, precision)
    _store(folder / "chosen.json", results, {row["name"] for row in unmet})
    volume = None
    if not asked and not latencies.predicted:
        with progress("Pareto front", time_limit_s) as step:
            front = open_door("pareto_front")(
                statistics,
                spec,
                latencies.by_piece,
                time_limit_s=time_limit_s,
                progress=_shown(step, time_limit_s),
                **{**common, "max_early_exits": min(early, 2)},
            )
        open_door("save_pareto")(folder / "pareto.csv", front)
        volume = _hypervolume(front, results)
    return {
        "run": str(run),
        "folder": str(folder),
        "results": [result.as_json() for result in results],
        "unmet": unmet,
        "hypervolume": volume,
    }


def _with_predicted(result: Any, latencies: Latencies) -> Any:
    """The result, saying which of its heads' latencies were predicted."""
    outcomes = (result.chosen, result.best_static)
    heads = {
        head_name(choice.exit, choice.head)
        for outcome in outcomes
        if outcome is not None
        for choice in outcome.configuration.exits
    }
    ends = {n: e for n, e in latencies.predicted.items() if n in heads}
    return dataclasses.replace(result, predicted=ends)


def _hypervolume(front: Any, results: list[Any]) -> float | None:
    """Of a front, up to the final exit's latency; None where no result tells that."""
    if not results:
        return None
    seen = [point.outcome.calibration for point in front]
    slowest = results[0].reference.calibration.mean_ms
    points = [(figures.mean_ms, figures.miou) for figures in seen]
    return float(open_door("hypervolume")(points, slowest))


def _shown(step: Step, limit_s: float) -> Any:
    """The search tells seconds, best and bound; the display wants a share."""

    def show(state: Any) -> None:
        step.at(min(state.elapsed_s, limit_s), limit_s, _progress_text(state))

    return show


def _progress_text(state: Any) -> str:
    if state.value is None:
        return "nothing found yet"
    return f"best {state.value:.4g}, bound {state.bound:.4g}"


def _store(path: Path, results: list[Any], unmet: set[str]) -> None:
    """Adds results to those of earlier calls; one of the same name is replaced."""
    old = open_door("load_results")(path) if path.is_file() else ()
    names = {result.name for result in results} | unmet
    kept = [result for result in old if result.name not in names]
    open_door("save_results")(path, [*kept, *results])


def _label(wish: dict[str, float], setting: Setting) -> str:
    parts = [f"{_LIMITS[key]}{value:g}" for key, value in wish.items()]
    return "-".join([*parts, *(["budgeted"] if setting == "budgeted" else [])])


def render(result: dict[str, Any]) -> str:
    """Every result beside the best static exit and the final exit."""
    lines = []
    for row in result["results"]:
        proof = (
            "proven optimal"
            if row["proven"]
            else f"gap {row['gap']:.3g} at the time limit"
        )
        lines.append(f"{row['name']} ({proof} of {row['space_size']:.2g}):")
        for title, outcome in (
            ("chosen", row["chosen"]),
            ("best static exit", row["best_static"]),
            ("final exit", row["reference"]),
        ):
            if outcome is not None:
                lines.append(f"  {title:17s} {_outcome(outcome)}")
        lines += [f"  {line}" for line in _assurances(row)]
        lines += [f"  {line}" for line in _predictions(row, result["run"])]
    lines += [f"{row['name']}: NOT MET. {row['reason']}" for row in result["unmet"]]
    if result["hypervolume"] is not None:
        lines.append(f"Pareto front: hypervolume {result['hypervolume']:.4f}")
    return "\n".join([*lines, f"Next: mess export {result['run']}"])


def _assurances(row: dict[str, Any]) -> list[str]:
    """What a robust choice or a guarantee says beyond the figures."""
    lines = []
    robust, certified = row["robustness"], row["certified"]
    if robust is not None:
        lines.append(
            f"by {row['requirement']['robust']}: {robust['mean_ms']:.2f} ms mean, drop"
            f" {robust['drop_pp']:+.2f} pp"
        )
    if certified is not None:
        wish = certified["guarantee"]
        held = certified["step"] > 0 or certified["steps"] == 0
        lines.append(
            f"guarantee {'met' if held else 'NOT MET beyond the final exit'}: at most"
            f" {wish['max_share']:.1%} of new groups' images lose more than"
            f" {wish['max_image_drop_pp']:g} pp, with confidence"
            f" {wish['confidence']:g} (tested on {certified['groups']} groups, at least"
            f" {certified['least_groups']} are needed; step {certified['step']} of"
            f" {certified['steps']})"
        )
    return lines


def _predictions(row: dict[str, Any], run: str) -> list[str]:
    """Which heads have no measured latency, and what to do about it."""
    if not row["predicted"]:
        return []
    ends = ", ".join(
        f"{name} {low:.3f} to {high:.3f} ms"
        for name, (low, high) in sorted(row["predicted"].items())
    )
    return [
        f"PREDICTED, not measured: {ends}; run `mess profile {run} --share 0.2` to"
        " measure what was chosen, and this search again, before you publish it"
    ]


def _outcome(outcome: dict[str, Any]) -> str:
    figures = outcome["report"] or outcome["calibration"]
    exits = " > ".join(
        f"{c['exit']}:{c['head']}"
        + (f" [{c['policy']} >= {c['threshold']:.4g}]" if c["policy"] else "")
        for c in outcome["configuration"]
    )
    rates = "/".join(f"{rate:.0%}" for rate in figures["exit_rates"])
    part = "calibration" if outcome["report"] is None else "report"
    kept = all(figures["met"].values())
    met = f", {'met' if kept else 'NOT MET'} on the {part} part"
    return (
        f"{figures['mean_ms']:.2f} ms mean, {figures['p90_ms']:.2f} ms p90, mIoU"
        f" {figures['miou']:.2%} (drop {figures['drop_pp']:+.2f} pp), exits {rates}"
        f"{met}: {exits}"
    )
