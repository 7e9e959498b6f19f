"""``mess search``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mess_tf.commands.arguments import as_tuple, next_command
from mess_tf.commands.cards import Source
from mess_tf.commands.latencies import Unmeasured
from mess_tf.commands.search_options import SearchOptions, anytime_name
from mess_tf.commands.search_results import FRONT_EARLY_EXITS, DeviceResults
from mess_tf.commands.search_text import render as render
from mess_tf.core.errors import UsageError
from mess_tf.core.precisions import Precision
from mess_tf.runs import Run
from mess_tf.terminal.progress import Step, progress
from search.anytime import AnytimeResult, search_anytime
from search.generalisation.parts import calibration_groups
from search.infeasible import InfeasibleError
from search.jobs import JobResult, SearchJob, run_jobs
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.resources import Resources
from search.solver.branch_and_bound import Progress

Result: TypeAlias = JobResult | AnytimeResult

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
ROBUST_GROUPS = 8
"""Groups to calibrate on from which `--robust upper-bound` is recommended
(docs/results.md, thresholds on sequences left out)."""


@dataclass(frozen=True, eq=False)
class _SearchTask:
    """One search.

    Attributes:
        device: name of the device.
        name: of the result.
        requirement: None for the Pareto front and for deadlines.
    """

    device: str
    name: str
    requirement: Requirement | None


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
        device: device to search for, e.g. host; may be repeated: each gets
            configurations for it (default: the recipe's).
        precision: precision of the pieces.
        threads: CPU threads the pieces were measured with (default: the recipe's).
        predicted: predict the latencies of heads that are not measured (after ``mess
            profile --share``); no Pareto front is written then, and ``mess export``
            refuses what rests on a prediction.

    Returns:
        ``run`` and ``devices``: per device ``device``, ``folder``, ``results`` and
        ``anytime`` (as in ``chosen.json``), ``unmet`` (name and reason per search
        without an answer), ``hypervolume`` (part of the rectangle up to the final
        exit's latency that the front beats; None without) and ``front_early_exits``
        (how many early exits the front has at most). ``hint``: what to try for limits
        that hold on other scenes too; None where nothing is to be said.

    Raises:
        MessError: not evaluated or not profiled yet, no search has a result on any
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
    results = (
        _search_anytime(options, sources)
        if options.setting == "anytime"
        else _search_requirements(requirement, options, sources, early)
    )
    by_device = {
        n: DeviceResults(sources[n], opened.search(n, precision)) for n in names
    }
    for task, result in results:
        by_device[task.device].add(task.name, result)
    if all(found.is_empty for found in by_device.values()):
        raise by_device[names[0]].errors[0]
    quiet = requirement.robust or options.confidence or options.deadlines
    return {
        "run": str(run),
        "devices": [found.finish(n, early) for n, found in by_device.items()],
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


def _search_requirements(
    requirement: Requirement,
    options: SearchOptions,
    sources: Mapping[str, Source],
    early_exits: int,
) -> Iterator[tuple[_SearchTask, Result]]:
    """Every device's results for the requirement, or the recipe's and the front.

    Args:
        sources: by device.
        early_exits: at most.
    """
    recipe = next(iter(sources.values())).run.recipe
    requirements = [requirement]
    if not requirement.limits:
        requirements = [
            dataclasses.replace(requirement, max_drop_pp=drop_pp)
            for drop_pp in recipe.search.drops_pp
        ]
    tasks = [
        _SearchTask(name, _result_name(wanted, options), wanted)
        for name in sources
        for wanted in requirements
    ]
    if not requirement.limits:
        tasks += [
            _SearchTask(name, FRONT, None)
            for name, source in sources.items()
            if not source.latencies.predicted
        ]
    jobs = [_job(q, sources[q.device], options, early_exits) for q in tasks]
    yield from _run(next(iter(sources.values())), tasks, jobs, options)


def _search_anytime(
    options: SearchOptions, sources: Mapping[str, Source]
) -> Iterator[tuple[_SearchTask, Result]]:
    """Every device's exits for the deadlines; they are found within seconds."""
    early = options.max_early_exits
    for name, source in sources.items():
        task = _SearchTask(name, anytime_name(options.deadlines), None)
        try:
            yield (
                task,
                search_anytime(
                    source.statistics,
                    source.spec,
                    source.latencies.by_piece,
                    options.deadlines,
                    None if early is None else early + 1,
                    name=task.name,
                ),
            )
        except InfeasibleError as error:
            yield task, error


def _check_anytime(requirement: Requirement) -> None:
    """Raises UsageError where a limit stands beside deadlines."""
    given: dict[str, float | str] = dict(requirement.limits)
    if requirement.robust is not None:
        given["robust"] = requirement.robust
    for name, value in given.items():
        shown = f"{value:g}" if isinstance(value, float) else value
        raise UsageError(
            f"--{name.replace('_', '-')} {shown} is without effect with --setting"
            " anytime, which keeps deadlines alone; leave it out."
        )


def _hint(source: Source) -> str | None:
    """What to try for limits that hold on other scenes too; None for few groups."""
    groups = len(calibration_groups(source.statistics))
    if groups < ROBUST_GROUPS:
        return None
    return (
        f"Limits hold on the calibration images. With their {groups} groups"
        " `--robust upper-bound` keeps them on other scenes more often"
        " (docs/search.md)."
    )


def _job(
    task: _SearchTask, source: Source, options: SearchOptions, early_exits: int
) -> SearchJob:
    """The call of the search of a task."""
    if options.setting == "anytime":
        raise ValueError("Deadlines are searched for by search_anytime, not by jobs.")
    by_piece = source.latencies.by_piece
    parameters = SearchParameters(
        setting=options.setting,
        max_early_exits=early_exits,
        thresholds_per_policy=source.run.recipe.search.thresholds_per_policy,
        time_limit_s=options.time_limit_s,
    )
    if task.requirement is None:
        early = min(early_exits, FRONT_EARLY_EXITS)
        parameters = dataclasses.replace(parameters, max_early_exits=early)
        return SearchJob(by_piece, None, parameters)
    sizes = {piece.name: piece.size_bytes for piece in source.pieces.pieces}
    parameters = dataclasses.replace(
        parameters, finalists=options.finalists, guarantee=options.guarantee
    )
    return SearchJob(
        by_piece, task.requirement, parameters, task.name, Resources(sizes)
    )


def _run(
    source: Source,
    tasks: Sequence[_SearchTask],
    jobs: Sequence[SearchJob],
    options: SearchOptions,
) -> Iterator[tuple[_SearchTask, Result]]:
    """Every task with its result, in order, with a display of the progress."""
    many_devices = len({task.device for task in tasks}) > 1
    shown: dict[str, Step] = {}
    limit_s = options.time_limit_s
    results = run_jobs(
        source.statistics,
        source.spec,
        jobs,
        options.engine,
        options.scheduler,
        lambda state: _show(shown["step"], state, limit_s),
    )
    if options.engine != "local":
        with progress(f"Searching on {options.engine}", len(jobs)) as step:
            for task, result in zip(tasks, results, strict=True):
                step(note=task.name)
                yield task, result
        return
    for task in tasks:
        what = f"{'' if task.requirement is None else 'Searching '}{task.name}"
        what += f" on {task.device}" if many_devices else ""
        what += f" (at most {limit_s:g} s)"  # most searches take far less
        with progress(what, limit_s) as step:
            shown["step"] = step
            yield task, next(results)


def _show(step: Step, state: Progress, limit_s: float) -> None:
    """Shows the incumbent and the bound; the time that has passed as a share."""
    text = "nothing found yet"
    if state.value is not None:
        text = f"best {state.value:.4g}, bound {state.bound:.4g}"
    step.at(min(state.elapsed_s, limit_s), limit_s, text)


def _result_name(requirement: Requirement, options: SearchOptions) -> str:
    """Name of a requirement's result: ``drop1-mean_ms20-budgeted``."""
    parts = [f"{_LIMITS[name]}{value:g}" for name, value in requirement.limits.items()]
    if options.setting == "budgeted":
        parts.append("budgeted")
    if requirement.robust:
        parts.append(requirement.robust)
    if options.confidence is not None:
        parts.append(f"{options.confidence:g}")
    return "-".join(parts)
