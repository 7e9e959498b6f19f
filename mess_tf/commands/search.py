"""``mess search``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mess_tf.commands.arguments import as_tuple, next_command
from mess_tf.commands.cards import Source
from mess_tf.commands.finalists import pick_by_measurement
from mess_tf.commands.latencies import Latencies, Unmeasured
from mess_tf.commands.search_options import SearchOptions, anytime_name
from mess_tf.commands.search_text import render as render
from mess_tf.core.configuration import ExitChoice
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.json_files import to_json
from mess_tf.core.piece_names import head_name
from mess_tf.core.precisions import Precision
from mess_tf.runs import Run
from mess_tf.terminal.progress import Step, progress
from search.anytime import AnytimeResult, ExitFigures, search_anytime
from search.infeasible import InfeasibleError
from search.jobs import SearchJob, run_jobs
from search.parameters import SearchParameters
from search.pareto import hypervolume, save_pareto
from search.requirement import Requirement
from search.resources import Resources
from search.result import (
    SearchResult,
    load_anytime_results,
    load_results,
    save_results,
)

# Limits of a requirement, and what they are called in a result's name.
_LIMITS = {
    "max_drop_pp": "drop",
    "min_miou": "miou",
    "max_latency_ms": "mean_ms",
    "max_p90_ms": "p90_ms",
    "max_size_mb": "mb",
    "max_memory_mb": "memory_mb",
}
FRONT = "Pareto front"
FRONT_EARLY_EXITS = 2
"""Early exits of a configuration of the Pareto front, at most: it is many searches."""
ROBUST_GROUPS = 8
"""Groups to calibrate on from which `--robust upper-bound` is worth while
(docs/results.md, thresholds on sequences left out)."""


@dataclass(frozen=True, eq=False)
class _Question:
    """One search: on a device, for a wish (None: the front), under a label."""

    device: str
    label: str
    wish: Requirement | None


@dataclass(eq=False)
class _Answers:
    """A device's answers; each is written as it comes, since the next takes minutes.

    Attributes:
        source: what was asked about.
        folder: of the device's search results.
        results, anytime, front: as the search returns them.
        unmet: name and reason of each question without an answer; ``errors`` likewise.
    """

    source: Source
    folder: Path
    results: list[Any] = field(default_factory=list)
    anytime: list[AnytimeResult] = field(default_factory=list)
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
        elif isinstance(answer, AnytimeResult):
            heads = [*answer.exits, *(d.best_single for d in answer.deadlines)]
            answer = dataclasses.replace(
                answer, predicted=_predicted(heads, self.source.latencies)
            )
            self.anytime.append(answer)
            _store(self.chosen, [answer])
        elif question.wish is None:
            self.front = answer
            save_pareto(self.folder / "pareto.csv", answer)
        else:
            result = _with_predicted(answer, self.source.latencies)
            self.results.append(result)
            _store(self.chosen, [result])


def search(
    run: str | Path,
    requirement: Requirement = Requirement(),
    options: SearchOptions = SearchOptions(),
    *,
    device: str | Sequence[str] = (),
    precision: Precision = "int8",
    threads: int | None = None,
    predicted: bool = False,
) -> dict[str, Any]:
    """Finds the best exits, heads and thresholds for devices and a requirement.

    Without a limit it answers the recipe's accuracy drops, each under the name
    drop<pp>, and writes the Pareto front. With --setting anytime it finds the exits
    that answer one after the other, for some deadlines. Choices are made on the
    calibration part alone; the report part is only reported.

    Args:
        run: the run folder.
        requirement: limits to keep.
        options: how to search.
        device: device to search for, e.g. host; may be repeated: each gets its own
            configurations (default: the recipe's).
        precision: precision of the pieces.
        threads: CPU threads the pieces were measured with (default: the recipe's).
        predicted: predict the latencies of heads that are not measured (after ``mess
            profile --share``); no Pareto front is written then, and ``mess export``
            refuses what rests on a prediction.

    Returns:
        ``run`` and ``devices``: per device ``device``, ``folder``, ``results`` and
        ``anytime`` (as in ``chosen.json``), ``unmet`` (name and reason per question
        without an answer), ``hypervolume`` (part of the rectangle up to the final
        exit's latency that the front beats; None without) and ``front_early_exits``
        (how many early exits the front has at most). ``hint``: what to try for limits
        that hold on other scenes too; None where nothing is to be said.

    Raises:
        MessError: not evaluated or not profiled yet, no question has an answer on any
            device, or the cluster fails.
        UsageError: ``all`` as a device, nothing to predict, or limits beside deadlines.
    """
    if options.setting == "anytime":
        _check_anytime(requirement)
    opened = Run.open(run)
    recipe = opened.recipe
    named = tuple(dict.fromkeys(as_tuple(device)))
    names = named or (recipe.profile.device,)
    if "all" in names:
        raise UsageError(
            "--device all is for measuring; name the devices to search for, as `mess"
            " devices` lists them."
        )
    unmeasured: Unmeasured = "predict" if predicted else "refuse"
    sources = {n: Source.open(opened, precision, n, threads, unmeasured) for n in names}
    if predicted and not any(s.latencies.predicted for s in sources.values()):
        raise UsageError(
            "--predicted is without effect: every head is measured on"
            f" {', '.join(names)}; leave it out."
        )
    early = options.max_early_exits
    if early is None:
        early = recipe.search.max_early_exits
    answers = (
        _anytime_answers(requirement, options, sources)
        if options.setting == "anytime"
        else _routed_answers(requirement, options, sources, early)
    )
    found = {n: _Answers(sources[n], opened.search(n, precision)) for n in names}
    for question, answer in answers:
        found[question.device].take(question, answer)
    if not any(own.results or own.anytime or own.front for own in found.values()):
        raise found[names[0]].errors[0]
    quiet = requirement.robust or options.confidence or options.deadlines
    return {
        "run": str(run),
        "devices": [_finish(name, found[name], early) for name in names],
        "hint": None if quiet else _hint(sources[names[0]]),
        "next": next_command(
            "export",
            run,
            choice=[anytime_name(options.deadlines)] if options.deadlines else None,
            # Exports are of one device at a time.
            device=named[:1],
            precision=None if precision == "int8" else precision,
        ),
    }


def _routed_answers(
    requirement: Requirement,
    options: SearchOptions,
    sources: Mapping[str, Source],
    early_exits: int,
) -> Iterator[tuple[_Question, Any]]:
    """Every device's answers to a requirement, or to the recipe's and the front.

    Args:
        sources: by device.
        early_exits: at most.
    """
    recipe = next(iter(sources.values())).run.recipe
    wishes = [requirement]
    if not requirement.limits:
        wishes = [
            dataclasses.replace(requirement, max_drop_pp=drop_pp)
            for drop_pp in recipe.search.drops_pp
        ]
    questions = [
        _Question(name, _label(wish, options), wish)
        for name in sources
        for wish in wishes
    ]
    if not requirement.limits:
        questions += [
            _Question(name, FRONT, None)
            for name, source in sources.items()
            if not source.latencies.predicted
        ]
    jobs = [_job(q, sources[q.device], options, early_exits) for q in questions]
    yield from _answers(next(iter(sources.values())), questions, jobs, options)


def _anytime_answers(
    requirement: Requirement, options: SearchOptions, sources: Mapping[str, Source]
) -> Iterator[tuple[_Question, Any]]:
    """Every device's exits for the deadlines; they are found at once."""
    early = options.max_early_exits
    for name, source in sources.items():
        question = _Question(name, anytime_name(options.deadlines), requirement)
        try:
            yield (
                question,
                search_anytime(
                    source.statistics,
                    source.spec,
                    source.latencies.by_piece,
                    options.deadlines,
                    None if early is None else early + 1,
                    name=question.label,
                ),
            )
        except InfeasibleError as error:
            yield question, error


def _check_anytime(requirement: Requirement) -> None:
    """Raises UsageError where a limit stands beside deadlines."""
    given: dict[str, float | str] = dict(requirement.limits)
    if requirement.robust is not None:
        given["robust"] = requirement.robust
    for name, value in given.items():
        raise UsageError(
            f"--{name.replace('_', '-')} {value} is without effect with --setting"
            " anytime, which keeps deadlines alone; leave it out."
        )


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
    question: _Question, source: Source, options: SearchOptions, early_exits: int
) -> SearchJob:
    """The question as the search takes it."""
    if options.setting == "anytime":
        raise ValueError("Deadlines are searched for by search_anytime, not by jobs.")
    by_piece = source.latencies.by_piece
    parameters = SearchParameters(
        setting=options.setting,
        max_early_exits=early_exits,
        thresholds_per_policy=source.run.recipe.search.thresholds_per_policy,
        time_limit_s=options.time_limit_s,
    )
    if question.wish is None:
        early = min(early_exits, FRONT_EARLY_EXITS)
        parameters = dataclasses.replace(parameters, max_early_exits=early)
        return SearchJob(by_piece, None, parameters)
    sizes = {piece.name: piece.size_bytes for piece in source.pieces.pieces}
    parameters = dataclasses.replace(
        parameters, finalists=options.finalists, guarantee=options.guarantee
    )
    return SearchJob(
        by_piece, question.wish, parameters, question.label, Resources(sizes)
    )


def _answers(
    source: Source,
    questions: Sequence[_Question],
    jobs: Sequence[SearchJob],
    options: SearchOptions,
) -> Iterator[tuple[_Question, Any]]:
    """Every question with its answer, while it is shown how far things are."""
    several = len({question.device for question in questions}) > 1
    told: dict[str, Step] = {}
    limit_s = options.time_limit_s
    answers = run_jobs(
        source.statistics,
        source.spec,
        jobs,
        options.engine,
        options.scheduler,
        lambda state: _tell(told["step"], state, limit_s),
    )
    if options.engine != "local":
        with progress(f"Searching on {options.engine}", len(jobs)) as step:
            for question, answer in zip(questions, answers, strict=True):
                step(note=question.label)
                yield question, answer
        return
    for question in questions:
        what = f"{'' if question.wish is None else 'Searching '}{question.label}"
        what += f" on {question.device}" if several else ""
        what += f" (at most {limit_s:g} s)"  # most answers take far less
        with progress(what, limit_s) as step:
            told["step"] = step
            yield question, next(answers)


def _tell(step: Step, state: Any, limit_s: float) -> None:
    """The search tells seconds, best and bound; the display wants a share."""
    text = "nothing found yet"
    if state.value is not None:
        text = f"best {state.value:.4g}, bound {state.bound:.4g}"
    step.at(min(state.elapsed_s, limit_s), limit_s, text)


def _finish(device: str, found: _Answers, early_exits: int) -> dict[str, Any]:
    """Measures a device's finalists, if any, and tells of all its answers."""
    picked = pick_by_measurement(found.source, found.results, device)
    results = [_with_predicted(result, found.source.latencies) for result in picked]
    if results != found.results:
        _store(found.chosen, results)
    return {
        "device": device,
        "folder": str(found.folder),
        "results": [to_json(result) for result in results],
        "anytime": [to_json(result) for result in found.anytime],
        "unmet": found.unmet,
        "hypervolume": _hypervolume(found.front, results) if found.front else None,
        "front_early_exits": min(early_exits, FRONT_EARLY_EXITS)
        if found.front
        else None,
    }


def _with_predicted(result: Any, latencies: Latencies) -> Any:
    """The result, saying which of its heads' latencies were predicted."""
    heads = [
        choice
        for outcome in (result.chosen, result.best_static)
        if outcome is not None
        for choice in outcome.configuration.exits
    ]
    return dataclasses.replace(result, predicted=_predicted(heads, latencies))


def _predicted(
    heads: Iterable[ExitChoice | ExitFigures | None], latencies: Latencies
) -> dict[str, tuple[float, float]]:
    """The heads whose latency was predicted, with the milliseconds it is between."""
    names = {head_name(head.exit, head.head) for head in heads if head is not None}
    return {n: ends for n, ends in latencies.predicted.items() if n in names}


def _hypervolume(front: Any, results: list[Any]) -> float | None:
    """Of a front, up to the final exit's latency; None where no result tells that."""
    if not results:
        return None
    seen = [point.outcome.calibration for point in front]
    slowest = results[0].reference.calibration.mean_ms
    points = [(figures.mean_ms, figures.miou) for figures in seen]
    return float(hypervolume(points, slowest))


def _store(
    path: Path, new: Sequence[SearchResult | AnytimeResult], without: str = ""
) -> None:
    """Adds results to those of earlier calls; one of the same name is replaced."""
    old: list[SearchResult | AnytimeResult] = []
    if path.is_file():
        old = [*load_results(path), *load_anytime_results(path)]
    names = {result.name for result in new} | {without}
    kept = [*(result for result in old if result.name not in names), *new]
    save_results(
        path,
        [result for result in kept if isinstance(result, SearchResult)],
        [result for result in kept if isinstance(result, AnytimeResult)],
    )


def _label(wish: Requirement, options: SearchOptions) -> str:
    """Name of a requirement's result: ``drop1-mean_ms20-budgeted``."""
    parts = [f"{_LIMITS[name]}{value:g}" for name, value in wish.limits.items()]
    if options.setting == "budgeted":
        parts.append("budgeted")
    if wish.robust:
        parts.append(wish.robust)
    if options.confidence is not None:
        parts.append(f"{options.confidence:g}")
    return "-".join(parts)
