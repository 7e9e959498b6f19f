"""``mess search``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mess_tf.commands.cards import Source
from mess_tf.commands.finalists import pick_by_measurement
from mess_tf.commands.search_text import render as render
from mess_tf.commands.shared import Latencies, Unmeasured
from mess_tf.doors import open_door
from mess_tf.errors import MessError
from mess_tf.progress import Step, progress
from mess_tf.records import Precision, head_name
from mess_tf.runs import Run

Setting = Literal["input-dependent", "budgeted"]
Robust = Literal["worst-group", "left-out", "upper-bound"]
Engine = Literal["local", "dask"]

# Limits of a requirement, and what they are called in a result's name.
_LIMITS = {
    "max_drop_pp": "drop",
    "min_miou": "miou",
    "max_latency_ms": "mean_ms",
    "max_p90_ms": "p90_ms",
    "max_size_mb": "mb",
}
FRONT = "Pareto front"


@dataclass(frozen=True, eq=False)
class _Question:
    """One search: on a device, for a wish (None: the front), under a label."""

    device: str
    label: str
    wish: dict[str, float] | None


def search(
    run: Path,
    device: Sequence[str] = (),
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
    finalists: int = 1,
    engine: Engine = "local",
    scheduler: str | None = None,
    predicted: bool = False,
) -> dict[str, Any]:
    """Finds the best exits, heads and thresholds for devices and a requirement.

    Choices are made on the calibration part alone; the report part is only reported.
    Without a requirement the recipe's accuracy drops are answered, each under the name
    ``drop<pp>``, and the Pareto front is written.

    Args:
        run: folder of the run.
        device: e.g. ``host``; each of several gets its own configurations; none given
            takes the recipe's.
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
        finalists: so many of the best are linked and measured on the device, and the
            one that measures best is chosen; 1 chooses by the promise alone, for which
            the device only has to say who it is.
        engine: ``local``, or ``dask``: devices and requirements go to a cluster.
        scheduler: address of the Dask cluster; None starts two workers here.
        predicted: predict the latencies of heads that are not measured; no Pareto front
            is written then, and `mess export` refuses what rests on a prediction.

    Returns:
        ``run`` and ``devices``: per device ``device``, ``folder``, ``results`` (as in
        ``chosen.json``), ``unmet`` (name and reason per question without an answer)
        and ``hypervolume`` (part of the rectangle up to the final exit's latency that
        the front beats; None without).

    Raises:
        MessError: not evaluated or not profiled yet, no question has an answer on any
            device, or the cluster fails.
    """
    opened = Run.open(run)
    recipe = opened.recipe
    names = tuple(dict.fromkeys(device)) or (recipe.profile.device,)
    unmeasured: Unmeasured = "predict" if predicted else "refuse"
    sources = {n: Source.open(opened, precision, n, threads, unmeasured) for n in names}
    given = {
        "max_drop_pp": max_drop_pp,
        "min_miou": min_miou,
        "max_latency_ms": max_latency_ms,
        "max_p90_ms": max_p90_ms,
        "max_size_mb": max_size_mb,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    wishes = [asked] if asked else [{"max_drop_pp": d} for d in recipe.search.drops_pp]
    suffix = f"-{robust}" if robust else ""
    suffix += f"-{confidence:g}" if confidence is not None else ""
    questions = [
        _Question(name, _label(wish, setting) + suffix, wish)
        for name in names
        for wish in wishes
    ]
    if not asked:
        questions += [
            _Question(name, FRONT, None)
            for name in names
            if not sources[name].latencies.predicted
        ]
    early = (
        recipe.search.max_early_exits if max_early_exits is None else max_early_exits
    )
    common = {
        "setting": setting,
        "thresholds_per_policy": recipe.search.thresholds_per_policy,
        "time_limit_s": time_limit_s,
    }
    own: dict[str, Any] = {"max_early_exits": early, "finalists": finalists, **common}
    if confidence is not None:
        promise = open_door("guarantee")(max_image_drop_pp, 1 - confidence, confidence)
        own["guarantee"] = promise
    jobs = [
        _job(question, sources[question.device], robust, own, common)
        for question in questions
    ]
    any_source = sources[names[0]]
    answers = _answers(any_source, questions, jobs, engine, scheduler, time_limit_s)
    rows: dict[str, dict[str, Any]] = {
        name: {"results": [], "unmet": [], "front": None, "errors": []}
        for name in names
    }
    for question, answer in answers:
        _file_answer(rows[question.device], question, answer)
    if not any(row["results"] or row["front"] for row in rows.values()):
        raise rows[names[0]]["errors"][0]
    return {
        "run": str(run),
        "devices": [
            _finish(name, sources[name], rows[name], opened.search(name, precision))
            for name in names
        ],
    }


def _job(
    question: _Question,
    source: Source,
    robust: Robust | None,
    own: dict[str, Any],
    common: dict[str, Any],
) -> Any:
    """The question as the search takes it."""
    by_piece = source.latencies.by_piece
    if question.wish is None:
        early = min(own["max_early_exits"], 2)
        return open_door("job")(by_piece, None, {"max_early_exits": early, **common})
    requirement = open_door("requirement")(**question.wish, robust=robust)
    sizes = {piece.name: piece.size_bytes for piece in source.pieces.pieces}
    takes = open_door("resources")(sizes)
    options = {"name": question.label, "resources": takes, **own}
    return open_door("job")(by_piece, requirement, options)


def _answers(
    source: Source,
    questions: Sequence[_Question],
    jobs: Sequence[Any],
    engine: Engine,
    scheduler: str | None,
    time_limit_s: float,
) -> Iterator[tuple[_Question, Any]]:
    """Every question with its answer, while it is shown how far things are."""
    several = len({question.device for question in questions}) > 1
    told: dict[str, Step] = {}
    answers = open_door("answer_all")(
        source.statistics,
        source.spec,
        jobs,
        engine,
        scheduler,
        lambda state: _tell(told["step"], state, time_limit_s),
    )
    if engine != "local":
        with progress(f"Searching on {engine}", len(jobs)) as step:
            for question, answer in zip(questions, answers, strict=True):
                step(note=question.label)
                yield question, answer
        return
    for question in questions:
        what = f"{'' if question.wish is None else 'Searching '}{question.label}"
        what += f" on {question.device}" if several else ""
        with progress(what, time_limit_s) as step:
            told["step"] = step
            yield question, next(answers)


def _tell(step: Step, state: Any, limit_s: float) -> None:
    """The search tells seconds, best and bound; the display wants a share."""
    text = "nothing found yet"
    if state.value is not None:
        text = f"best {state.value:.4g}, bound {state.bound:.4g}"
    step.at(min(state.elapsed_s, limit_s), limit_s, text)


def _file_answer(row: dict[str, Any], question: _Question, answer: Any) -> None:
    """Puts an answer where it belongs in its device's row."""
    if isinstance(answer, MessError):
        row["unmet"].append({"name": question.label, "reason": str(answer)})
        row["errors"].append(answer)
    elif question.wish is None:
        row["front"] = answer
    else:
        row["results"].append(answer)


def _finish(
    name: str, source: Source, row: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Measures finalists, writes a device's files, and tells of them."""
    picked = pick_by_measurement(source, row["results"], name)
    results = [_with_predicted(result, source.latencies) for result in picked]
    unmet, front = row["unmet"], row["front"]
    _store(folder / "chosen.json", results, {u["name"] for u in unmet})
    if front is not None:
        open_door("save_pareto")(folder / "pareto.csv", front)
    return {
        "device": name,
        "folder": str(folder),
        "results": [result.as_json() for result in results],
        "unmet": unmet,
        "hypervolume": None if front is None else _hypervolume(front, results),
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


def _store(path: Path, results: list[Any], unmet: set[str]) -> None:
    """Adds results to those of earlier calls; one of the same name is replaced."""
    old = open_door("load_results")(path) if path.is_file() else ()
    names = {result.name for result in results} | unmet
    kept = [result for result in old if result.name not in names]
    open_door("save_results")(path, [*kept, *results])


def _label(wish: dict[str, float], setting: Setting) -> str:
    parts = [f"{_LIMITS[key]}{value:g}" for key, value in wish.items()]
    return "-".join([*parts, *(["budgeted"] if setting == "budgeted" else [])])
