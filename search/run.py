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
from search.generalisation.guarantees import learn_then_test
from search.generalisation.parts import split_groups_in_half
from search.generalisation.robust import RobustChoice, best_choice, tighten_until_met
from search.infeasible import InfeasibleError as InfeasibleError
from search.infeasible import failure
from search.parameters import SearchParameters
from search.problem import Problem
from search.requirement import Requirement
from search.resources import MB, Resources
from search.result import Finalist, Outcome, Robustness, SearchResult
from search.solver.branch_and_bound import BranchAndBound, Optimum, ProgressCall
from search.solver.space import space_size
from search.solver.target import Target


def search(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    requirement: Requirement,
    parameters: SearchParameters = SearchParameters(),
    *,
    name: str = "chosen",
    resources: Resources | None = None,
    progress: ProgressCall | None = None,
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
        parameters: the space, the time limit and what else is asked of the result.
        name: of the result.
        resources: bytes of the pieces, for limits of size or memory.
        progress: called a few times per second.

    Raises:
        InfeasibleError: no configuration keeps the requirement.
        MessError: the statistics or the latencies cannot be used, or the time limit
            passed before anything that keeps the requirement was found.
    """
    started = time.monotonic()
    resources = resources or Resources()
    resources.check(requirement)
    guarantee, seed = parameters.guarantee, parameters.seed
    testing = np.zeros(0, np.int64)
    if guarantee is not None:
        statistics, testing = split_groups_in_half(statistics, seed)
    task = _Task(spec, latency_ms, parameters, resources, progress)
    robust = None
    if requirement.robust is not None:
        robust = _robust(statistics, requirement, task)
    found = task.find(statistics, requirement if robust is None else robust.asked)
    reporter = Reporter(statistics, spec, latency_ms, requirement, seed, resources)
    configuration, certified = found.configuration, None
    if robust is not None:
        configuration = robust.configuration
    if guarantee is not None:
        configuration, certified = learn_then_test(
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
    runner_ups = () if drawn_back else found.runner_ups[1 : parameters.finalists]
    others = [reporter.outcome(other) for other in runner_ups]
    seen = chosen.calibration
    moved = seen.mean_ms if found.target.minimise_latency else seen.miou
    static = BranchAndBound(found.problem, found.target, 0, math.inf).run().incumbent
    return SearchResult(
        name=name,
        setting=parameters.setting,
        requirement=requirement,
        max_early_exits=found.early,
        chosen=chosen,
        value=moved if drawn_back else found.value,
        bound=found.optimum.bound,
        proven=found.optimum.proven and not drawn_back,
        space_size=space_size(found.problem, found.early),
        thresholds_per_policy=parameters.thresholds_per_policy,
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
        if parameters.finalists > 1
        else (),
    )


# Promises are off by about so much (`docs/results.md`): what lies closer may be better.
RUNNER_UP_TOLERANCE = 0.03


@dataclass(frozen=True, eq=False)
class _Found:
    """A search's answer with what it was found in."""

    problem: Problem
    target: Target
    early: int
    optimum: Optimum
    configuration: Configuration
    value: float
    runner_ups: tuple[Configuration, ...]


@dataclass(frozen=True, eq=False)
class _Task:
    """Everything about a search but the images and the requirement."""

    spec: SupernetSpec
    latency_ms: Mapping[str, float]
    parameters: SearchParameters
    resources: Resources
    progress: ProgressCall | None

    def find(self, statistics: Statistics, requirement: Requirement) -> _Found:
        """The best configuration on the calibration part.

        Raises:
            InfeasibleError: no configuration keeps the requirement.
            MessError: the time limit passed first, or something cannot be used.
        """
        time_limit_s = self.parameters.time_limit_s
        deadline = self.parameters.solver.clock() + time_limit_s
        problem, early = prepare(
            statistics,
            self.spec,
            self.latency_ms,
            self.parameters,
            self.resources,
            requirement,
        )
        target = target_of(problem, requirement)
        tolerance = RUNNER_UP_TOLERANCE if self.parameters.finalists > 1 else 0.0
        optimum = BranchAndBound(
            problem,
            target,
            early,
            deadline,
            self.progress,
            options=dataclasses.replace(
                self.parameters.solver, runner_up_tolerance=tolerance
            ),
        ).run()
        best = optimum.incumbent
        if best is None:
            raise failure(problem, requirement, target, early, optimum, self.parameters)
        value = best.latency_ms if target.minimise_latency else best.miou
        chosen = problem.configuration(best.heads, best.gates)
        runner_ups = tuple(
            problem.configuration(r.heads, r.gates) for r in optimum.runner_ups
        )
        return _Found(problem, target, early, optimum, chosen, value, runner_ups)


def _robust(
    statistics: Statistics, requirement: Requirement, task: _Task
) -> RobustChoice:
    """How far the limits must be tightened for the measure asked for.

    Single exits are tried by themselves, too: without a threshold they keep limits at
    once that a faster configuration may break until they are very tight.
    """

    def evaluate(images: Statistics, configuration: Configuration) -> RoutedEvaluation:
        return RoutedEvaluation.of(
            images, task.spec, task.latency_ms, configuration, task.resources
        )

    final = final_configuration(task.spec)
    choices: list[RobustChoice] = []
    asked = task.parameters.setting
    for setting in dict.fromkeys(("budgeted", asked)):
        parameters = dataclasses.replace(task.parameters, setting=setting)
        restricted = dataclasses.replace(task, parameters=parameters)

        def find(
            images: Statistics, wish: Requirement, restricted: _Task = restricted
        ) -> Configuration:
            return restricted.find(images, wish).configuration

        try:
            choice = tighten_until_met(
                statistics, requirement, find, evaluate, final, task.parameters.seed
            )
        except MessError:
            if setting == asked and not choices:
                raise
        else:
            choices.append(choice)
    return best_choice(choices, requirement)


def _robustness(choice: RobustChoice) -> Robustness:
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
    parameters: SearchParameters,
    resources: Resources | None = None,
    requirement: Requirement | None = None,
) -> tuple[Problem, int]:
    """The search's arrays, and the number of early exits that there can be."""
    exit_points = len({exit_index for exit_index, _ in statistics.heads})
    early = min(parameters.early_exits, exit_points - 1)
    memory = None if requirement is None else requirement.max_memory_mb
    problem = Problem.build(
        statistics,
        spec,
        latency_ms,
        parameters.thresholds_per_policy,
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
        min_miou=requirement.lowest_miou_allowed(problem.reference_miou),
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
