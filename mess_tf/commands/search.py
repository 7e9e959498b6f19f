"""``mess search``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mess_tf.commands.arguments import check_choice, next_command, several
from mess_tf.commands.cards import Source
from mess_tf.commands.finalists import pick_by_measurement
from mess_tf.commands.latencies import Latencies, Unmeasured
from mess_tf.commands.search_text import render as render
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.piece_names import head_name
from mess_tf.core.precisions import Precision
from mess_tf.runs import Run
from mess_tf.terminal.progress import Step, progress
from search.generalisation.guarantees import Guarantee
from search.infeasible import InfeasibleError
from search.jobs import Job, answer_all
from search.pareto import hypervolume, save_pareto
from search.requirement import Requirement
from search.resources import Resources
from search.result import load_results, save_results

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
ROBUST_GROUPS = 8
"""Groups to calibrate on from which `--robust upper-bound` is worth while
(docs/results.md, thresholds on sequences left out)."""


@dataclass(frozen=True, eq=False)
class _Question:
    """One search: on a device, for a wish (None: the front), under a label."""

    device: str
    label: str
    wish: dict[str, Any] | None


@dataclass(eq=False)
class _Answers:
    """A device's answers; each is written as it comes, since the next takes minutes.

    Attributes:
        source: what was asked about.
        folder: of the device's search results.
        results, front: as the search gives them.
        unmet: name and reason of each question without an answer; ``errors`` likewise.
    """

    source: Source
    folder: Path
    results: list[Any] = field(default_factory=list)
    front: Any = None
    unmet: list[dict[str, str]] = field(default_factory=list)
    errors: list[MessError] = field(default_factory=list)

    @property
    def chosen(self) -> Path:
        return self.folder / "chosen.json"

    def take(self, question: _Question, answer: Any) -> None:
        """Files an answer, or why there is none."""
        if isinstance(answer, MessError):
            self.unmet.append({"name": question.label, "reason": str(answer)})
            self.errors.append(answer)
            # An older answer stays unless it is proven that there is none.
            if isinstance(answer, InfeasibleError):
                _store(self.chosen, [], without=question.label)
        elif question.wish is None:
            self.front = answer
            save_pareto(self.folder / "pareto.csv", answer)
        else:
            result = _with_predicted(answer, self.source.latencies)
            self.results.append(result)
            _store(self.chosen, [result])


def search(
    run: str | Path,
    device: str | Sequence[str] = (),
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
        the front beats; None without). ``hint``: what to try for limits that hold on
        other scenes too; None where nothing is to be said.

    Raises:
        MessError: not evaluated or not profiled yet, no question has an answer on any
            device, or the cluster fails.
        UsageError: ``all`` as a device.
    """
    check_choice("setting", setting, get_args(Setting))
    check_choice("robust", robust, get_args(Robust))
    check_choice("engine", engine, get_args(Engine))
    opened = Run.open(run)
    recipe = opened.recipe
    named = tuple(dict.fromkeys(several(device)))
    names = named or (recipe.profile.device,)
    if "all" in names:
        raise UsageError(
            "--device all is for measuring; name the devices to search for, as `mess"
            " devices` lists them."
        )
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
        promise = Guarantee(max_image_drop_pp, 1 - confidence, confidence)
        own["guarantee"] = promise
    jobs = [
        _job(question, sources[question.device], robust, own, common)
        for question in questions
    ]
    any_source = sources[names[0]]
    answers = _answers(any_source, questions, jobs, engine, scheduler, time_limit_s)
    found = {n: _Answers(sources[n], opened.search(n, precision)) for n in names}
    for question, answer in answers:
        found[question.device].take(question, answer)
    if not any(own.results or own.front for own in found.values()):
        raise found[names[0]].errors[0]
    return {
        "run": str(run),
        "devices": [_finish(name, found[name]) for name in names],
        "hint": None if robust or confidence else _hint(any_source),
        "next": next_command(
            "export",
            run,
            # Exports are of one device at a time.
            device=named[:1],
            precision=None if precision == "int8" else precision,
        ),
    }


def _hint(source: Source) -> str | None:
    told = source.statistics
    pairs = zip(told.groups, told.parts, strict=True)
    groups = len({group for group, part in pairs if part == "calibration"})
    if groups < ROBUST_GROUPS:
        return None
    return (
        f"Limits were kept on the calibration images. With their {groups} groups"
        " `--robust upper-bound` keeps them on other scenes more often"
        " (docs/search.md)."
    )


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
        return Job(by_piece, None, {"max_early_exits": early, **common})
    requirement = Requirement(**question.wish, robust=robust)
    sizes = {piece.name: piece.size_bytes for piece in source.pieces.pieces}
    takes = Resources(sizes)
    options = {"name": question.label, "resources": takes, **own}
    return Job(by_piece, requirement, options)


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
    answers = answer_all(
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
        what += f" (at most {time_limit_s:g} s)"  # most answers take far less
        with progress(what, time_limit_s) as step:
            told["step"] = step
            yield question, next(answers)


def _tell(step: Step, state: Any, limit_s: float) -> None:
    """The search tells seconds, best and bound; the display wants a share."""
    text = "nothing found yet"
    if state.value is not None:
        text = f"best {state.value:.4g}, bound {state.bound:.4g}"
    step.at(min(state.elapsed_s, limit_s), limit_s, text)


def _finish(device: str, found: _Answers) -> dict[str, Any]:
    """Measures a device's finalists, if any, and tells of all its answers."""
    picked = pick_by_measurement(found.source, found.results, device)
    results = [_with_predicted(result, found.source.latencies) for result in picked]
    if results != found.results:
        _store(found.chosen, results)
    return {
        "device": device,
        "folder": str(found.folder),
        "results": [result.as_json() for result in results],
        "unmet": found.unmet,
        "hypervolume": _hypervolume(found.front, results) if found.front else None,
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
    return float(hypervolume(points, slowest))


def _store(path: Path, results: list[Any], without: str = "") -> None:
    """Adds results to those of earlier calls; one of the same name is replaced."""
    old = load_results(path) if path.is_file() else ()
    names = {result.name for result in results} | {without}
    kept = [result for result in old if result.name not in names]
    save_results(path, [*kept, *results])


def _label(wish: dict[str, float], setting: Setting) -> str:
    parts = [f"{_LIMITS[key]}{value:g}" for key, value in wish.items()]
    return "-".join([*parts, *(["budgeted"] if setting == "budgeted" else [])])
