"""The search as users call it: statistics and latencies in, a proven choice out."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from search.evaluation import RoutedEvaluation, final_configuration
from search.generalisation.guarantees import Guarantee, certify
from search.generalisation.parts import halves
from search.generalisation.robust import Tightened, better, tighten
from search.infeasible import InfeasibleError as InfeasibleError
from search.infeasible import failure
from search.problem import Problem
from search.requirement import SETTINGS, Requirement, Setting
from search.resources import MB, Resources
from search.result import Finalist, Outcome, Robustness, SearchResult
from search.solver.branch_and_bound import BranchAndBound, Optimum, ProgressCall
from search.solver.options import SolverOptions
from search.solver.space import space_size
from search.solver.target import Target


def search(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    requirement: Requirement,
    setting: Setting = "input-dependent",
    max_early_exits: int = 3,
    time_limit_s: float = 120.0,
    progress: ProgressCall | None = None,
    *,
    name: str = "chosen",
    thresholds_per_policy: int = 24,
    resources: Resources | None = None,
    guarantee: Guarantee | None = None,
    finalists: int = 1,
    seed: int = 0,
) -> SearchResult:
    """Finds the best configuration for a requirement.

    Only images of the part ``calibration`` are looked at; figures on ``report`` are
    computed after the choice.

    Args:
        statistics: what every head does on every image.
        spec: structure of the supernet they come from.
        latency_ms: milliseconds by piece name.
        requirement: limits and objective; with ``robust`` the limits are tightened
            until they hold by that measure too.
        setting: ``input-dependent`` (confidence decides per image) or ``budgeted`` (one
            exit for all images).
        max_early_exits: kept exits before the last one, at most.
        time_limit_s: after this the best so far is given, with the gap left; for each
            of the searches that a robust choice takes.
        progress: called a few times per second.
        name: of the result.
        thresholds_per_policy: at most so many thresholds per head and policy.
        resources: bytes of the pieces, for limits of size or memory.
        guarantee: half of the calibration's groups are kept for testing, and thresholds
            are drawn back until it holds.
        finalists: keep so many of the best, each of other heads and at most
            ``FINALISTS_WITHIN`` worse than the best, for ``search.finalists.pick``.
        seed: of the bootstrap and of what is kept for testing.

    Raises:
        InfeasibleError: no configuration keeps the requirement.
        MessError: an argument, the statistics or the latencies cannot be used, or the
            time limit passed before anything that keeps the requirement was found.
    """
    started = time.monotonic()
    if not time_limit_s > 0:
        raise MessError(f"time_limit_s is {time_limit_s}; it must be positive.")
    resources = resources or Resources()
    resources.check(requirement)
    if finalists < 1:
        raise MessError(f"finalists is {finalists}; it must be at least 1.")
    if finalists > 1 and guarantee is not None:
        raise MessError(
            "Finalists were asked for together with a guarantee, which is tested for"
            " one configuration; leave one of them out."
        )
    testing = np.zeros(0, np.int64)
    if guarantee is not None:
        statistics, testing = halves(statistics, seed)
    task = _Task(
        spec,
        latency_ms,
        setting,
        max_early_exits,
        time_limit_s,
        progress,
        thresholds_per_policy,
        resources,
        FINALISTS_WITHIN if finalists > 1 else 0.0,
    )
    robust = None
    if requirement.robust is not None:
        robust = _robust(statistics, requirement, task, seed)
    found = task.find(statistics, requirement if robust is None else robust.asked)
    reporter = Reporter(statistics, spec, latency_ms, requirement, seed, resources)
    configuration, certified = found.configuration, None
    if robust is not None:
        configuration = robust.configuration
    if guarantee is not None:
        configuration, certified = certify(
            statistics,
            configuration,
            final_configuration(spec),
            part_images(statistics, "calibration"),
            testing,
            guarantee,
            functools.partial(RoutedEvaluation.of, statistics, spec, latency_ms),
        )
    chosen = reporter.outcome(configuration)
    drawn_back = configuration != found.configuration
    runners = () if drawn_back else found.runners[1:finalists]
    others = [reporter.outcome(other) for other in runners]
    seen = chosen.calibration
    moved = seen.mean_ms if found.target.minimise_latency else seen.miou
    static = BranchAndBound(found.problem, found.target, 0, math.inf).run().incumbent
    return SearchResult(
        name=name,
        setting=setting,
        requirement=requirement,
        max_early_exits=found.early,
        chosen=chosen,
        value=moved if drawn_back else found.value,
        bound=found.optimum.bound,
        proven=found.optimum.proven and not drawn_back,
        space_size=space_size(found.problem, found.early),
        thresholds_per_policy=thresholds_per_policy,
        best_static=None
        if static is None
        else reporter.outcome(found.problem.configuration(static.heads, ())),
        reference=reporter.outcome(final_configuration(spec)),
        source=statistics.source,
        nodes=found.optimum.nodes,
        listed=found.optimum.evaluated,
        wall_s=time.monotonic() - started,
        robustness=None if robust is None else _robustness(robust),
        certified=certified,
        finalists=tuple(Finalist(outcome) for outcome in [chosen, *others])
        if finalists > 1
        else (),
    )


# Promises are off by about so much (`docs/results.md`): what lies closer may be better.
FINALISTS_WITHIN = 0.03


@dataclass(frozen=True, eq=False)
class _Found:
    """A search's answer with what it was found in."""

    problem: Problem
    target: Target
    early: int
    optimum: Optimum
    configuration: Configuration
    value: float
    runners: tuple[Configuration, ...]


@dataclass(frozen=True, eq=False)
class _Task:
    """Everything about a search but the images and the requirement."""

    spec: SupernetSpec
    latency_ms: Mapping[str, float]
    setting: Setting
    max_early_exits: int
    time_limit_s: float
    progress: ProgressCall | None
    thresholds_per_policy: int
    resources: Resources
    within: float

    def find(self, statistics: Statistics, requirement: Requirement) -> _Found:
        """The best configuration on the calibration part.

        Raises:
            InfeasibleError: no configuration keeps the requirement.
            MessError: the time limit passed first, or something cannot be used.
        """
        deadline = time.monotonic() + self.time_limit_s
        problem, early = prepare(
            statistics,
            self.spec,
            self.latency_ms,
            self.setting,
            self.max_early_exits,
            self.thresholds_per_policy,
            self.resources,
            requirement,
        )
        target = target_of(problem, requirement)
        optimum = BranchAndBound(
            problem,
            target,
            early,
            deadline,
            self.progress,
            options=SolverOptions(runner_up_tolerance=self.within),
        ).run()
        best = optimum.incumbent
        if best is None:
            raise failure(
                problem, requirement, target, early, optimum, self.time_limit_s
            )
        value = best.latency_ms if target.minimise_latency else best.miou
        chosen = problem.configuration(best.heads, best.gates)
        runners = [problem.configuration(r.heads, r.gates) for r in optimum.runner_ups]
        return _Found(problem, target, early, optimum, chosen, value, tuple(runners))


def _robust(
    statistics: Statistics, requirement: Requirement, task: _Task, seed: int
) -> Tightened:
    """How far the limits must be tightened for the measure asked for.

    Single exits are tried by themselves, too: without a threshold they keep limits at
    once that a faster configuration may break until they are very tight.
    """

    def evaluate(images: Statistics, configuration: Configuration) -> RoutedEvaluation:
        return RoutedEvaluation.of(
            images, task.spec, task.latency_ms, configuration, task.resources
        )

    final = final_configuration(task.spec)
    choices: list[Tightened] = []
    ways: tuple[Setting, ...] = ("budgeted", task.setting)
    for setting in dict.fromkeys(ways):
        own = dataclasses.replace(task, setting=setting)

        def find(
            images: Statistics, wish: Requirement, own: _Task = own
        ) -> Configuration:
            return own.find(images, wish).configuration

        try:
            choice = tighten(statistics, requirement, find, evaluate, final, seed)
        except MessError:
            if setting == task.setting and not choices:
                raise
        else:
            choices.append(choice)
    return better(choices, requirement)


def _robustness(choice: Tightened) -> Robustness:
    return Robustness(
        asked=choice.asked,
        drop_pp=choice.pessimistic.drop_pp,
        mean_ms=choice.pessimistic.mean_ms,
        steps=choice.steps,
    )


def prepare(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    setting: Setting,
    max_early_exits: int,
    thresholds_per_policy: int,
    resources: Resources | None = None,
    requirement: Requirement | None = None,
) -> tuple[Problem, int]:
    """Checks the arguments; the search's arrays and the number of early exits."""
    if setting not in SETTINGS:
        raise MessError(f"Setting {setting!r} is unknown; accepted: {SETTINGS}.")
    if max_early_exits < 0:
        raise MessError(f"max_early_exits is {max_early_exits}; it must be at least 0.")
    early = 0 if setting == "budgeted" else max_early_exits
    early = min(early, len({e for e, _ in statistics.heads}) - 1)
    memory = None if requirement is None else requirement.max_memory_mb
    problem = Problem.build(
        statistics,
        spec,
        latency_ms,
        thresholds_per_policy,
        with_gates=early > 0,
        resources=resources,
        max_peak_bytes=math.inf if memory is None else memory * MB,
    )
    return problem, early


def target_of(problem: Problem, requirement: Requirement) -> Target:
    """The requirement in the search's terms, on the calibration images."""
    ceiling, p90 = requirement.max_latency_ms, requirement.max_p90_ms
    size = requirement.max_size_mb
    return Target(
        minimise_latency=requirement.goal == "latency",
        min_miou=requirement.miou_floor(problem.reference_miou),
        max_latency_ms=math.inf if ceiling is None else ceiling,
        max_p90_ms=math.inf if p90 is None else p90,
        max_size_bytes=math.inf if size is None else size * MB,
    )


class Reporter:
    """Computes a configuration's figures on both parts, once it has been chosen."""

    def __init__(
        self,
        statistics: Statistics,
        spec: SupernetSpec,
        latency_ms: Mapping[str, float],
        requirement: Requirement,
        seed: int,
        resources: Resources | None = None,
    ) -> None:
        self._given = (statistics, spec, latency_ms)
        self._resources = resources
        self._groups = statistics.groups
        self._requirement = requirement
        self._seed = seed
        self._calibration = part_images(statistics, "calibration")
        self._report = part_images(statistics, "report")

    def outcome(self, configuration: Configuration) -> Outcome:
        """Figures on both parts, with bootstrap intervals on the report part."""
        evaluation = RoutedEvaluation.of(*self._given, configuration, self._resources)

        calibration = evaluation.figures(self._calibration, self._requirement)
        if not len(self._report):
            return Outcome(configuration, calibration, None, {})
        return Outcome(
            configuration,
            calibration,
            evaluation.figures(self._report, self._requirement),
            evaluation.bootstrap(self._report, self._groups, self._seed),
        )
