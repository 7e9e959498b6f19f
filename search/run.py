"""The search as users call it: statistics and latencies in, a proven choice out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping

import numpy as np

from mess_tf.errors import MessError
from mess_tf.records import Configuration, Statistics, SupernetSpec
from search.evaluate import (
    Evaluation,
    final_configuration,
    part_images,
    quantile_of,
)
from search.exact import Optimum, ProgressCall, Search
from search.problem import Problem
from search.requirement import SETTINGS, Requirement, Setting
from search.resources import MB, Resources
from search.result import Outcome, SearchResult
from search.space import space_size
from search.target import Target

_DIAGNOSIS_LIMIT_S = 20.0


class InfeasibleError(MessError):
    """Nothing keeps the requirement; the message names the nearest that can be kept."""


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
    seed: int = 0,
) -> SearchResult:
    """Finds the best configuration for a requirement.

    Only images of the part ``calibration`` are looked at; figures on ``report`` are
    computed after the choice.

    Args:
        statistics: what every head does on every image.
        spec: structure of the supernet they come from.
        latency_ms: milliseconds by piece name.
        requirement: limits and objective.
        setting: ``input-dependent`` (confidence decides per image) or ``budgeted`` (one
            exit for all images).
        max_early_exits: kept exits before the last one, at most.
        time_limit_s: after this the best so far is given, with the gap left.
        progress: called a few times per second.
        name: of the result.
        thresholds_per_policy: at most so many thresholds per head and policy.
        resources: bytes of the pieces, for limits of size or memory.
        seed: of the bootstrap.

    Raises:
        InfeasibleError: no configuration keeps the requirement.
        MessError: an argument, the statistics or the latencies cannot be used, or the
            time limit passed before anything that keeps the requirement was found.
    """
    started = time.monotonic()
    resources = resources or Resources()
    resources.check(requirement)
    problem, early = prepare(
        statistics,
        spec,
        latency_ms,
        setting,
        max_early_exits,
        thresholds_per_policy,
        resources,
        requirement,
    )
    if not time_limit_s > 0:
        raise MessError(f"time_limit_s is {time_limit_s}; it must be positive.")
    target = target_of(problem, requirement)
    optimum = Search(problem, target, early, started + time_limit_s, progress).run()
    if optimum.best is None:
        raise _failure(problem, requirement, target, early, optimum, time_limit_s)
    static = Search(problem, target, 0, math.inf).run().best
    reporter = Reporter(statistics, spec, latency_ms, requirement, seed, resources)
    best = optimum.best
    return SearchResult(
        name=name,
        setting=setting,
        requirement=requirement,
        max_early_exits=early,
        chosen=reporter.outcome(problem.configuration(best.heads, best.gates)),
        value=best.latency_ms if target.minimise_latency else best.miou,
        bound=optimum.bound,
        proven=optimum.proven,
        space_size=space_size(problem, early),
        thresholds_per_policy=thresholds_per_policy,
        best_static=None
        if static is None
        else reporter.outcome(problem.configuration(static.heads, ())),
        reference=reporter.outcome(final_configuration(spec)),
        source=statistics.source,
        nodes=optimum.nodes,
        listed=optimum.listed,
        wall_s=time.monotonic() - started,
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
        floor=requirement.miou_floor(problem.reference_miou),
        ceiling_ms=math.inf if ceiling is None else ceiling,
        p90_ms=math.inf if p90 is None else p90,
        size_bytes=math.inf if size is None else size * MB,
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
        evaluation = Evaluation(*self._given, configuration, self._resources)

        calibration = evaluation.figures(self._calibration, self._requirement)
        if not len(self._report):
            return Outcome(configuration, calibration, None, {})
        return Outcome(
            configuration,
            calibration,
            evaluation.figures(self._report, self._requirement),
            evaluation.bootstrap(self._report, self._groups, self._seed),
        )


def _failure(
    problem: Problem,
    requirement: Requirement,
    target: Target,
    early: int,
    optimum: Optimum,
    time_limit_s: float,
) -> MessError:
    """Why there is no configuration, and what could be had instead."""
    deadline = time.monotonic() + min(time_limit_s, _DIAGNOSIS_LIMIT_S)
    half = (time.monotonic() + deadline) / 2
    advice = []
    open_latency = dataclasses.replace(target, ceiling_ms=math.inf, p90_ms=math.inf)
    fast = Search(
        problem, dataclasses.replace(open_latency, minimise_latency=True), early, half
    ).run()
    if fast.best is not None:
        p90 = _p90_of(problem, fast.best.heads, fast.best.gates)
        sure = "" if fast.proven else " found so far"
        advice.append(
            f"with the accuracy asked, the lowest mean latency{sure} is"
            f" {fast.best.latency_ms:.3f} ms (p90 {p90:.3f} ms)"
        )
    good_target = dataclasses.replace(target, floor=0.0, minimise_latency=False)
    good = Search(problem, good_target, early, deadline).run()
    if good.best is not None:
        drop = 100 * (problem.reference_miou - good.best.miou)
        sure = "" if good.proven else " found so far"
        advice.append(
            f"within the latency asked, the highest mIoU{sure} is"
            f" {100 * good.best.miou:.2f} % (drop {drop:.2f} pp)"
        )
    else:
        cost = problem.segments_ms + problem.head_ms + problem.output_ms
        advice.append(f"the fastest single exit takes {cost.min():.3f} ms")
    if requirement.max_size_mb is not None:
        size = (problem.segments_bytes + problem.head_bytes).min() / MB
        advice.append(f"the smallest configuration takes {size:.3f} MB")
    nearest = "; ".join(advice)
    if not optimum.proven:
        return MessError(
            f"Nothing that keeps the requirement ({requirement}) was found within"
            f" {time_limit_s:g} s, nor shown not to exist: {nearest}. Raise"
            " time_limit_s or relax the requirement."
        )
    return InfeasibleError(
        f"No configuration keeps the requirement ({requirement}): {nearest}. Relax one"
        " of the limits."
    )


def _p90_of(problem: Problem, heads: tuple[int, ...], gates: tuple[int, ...]) -> float:
    """90th percentile of a configuration's latency over the calibration images."""
    path = problem.path_ms(heads)
    stays = np.ones(problem.images, bool)
    asked = 0.0
    latency = np.zeros(problem.images)
    for place, head in enumerate(heads):
        if place < len(gates):
            own = problem.gates[head]
            asked += float(own.decision_ms[gates[place]])
            leaves = stays & (own.masks[gates[place]] > 0)
        else:
            leaves = stays
        latency[leaves] = path[place] + asked
        stays = stays & ~leaves
    return quantile_of(latency, 0.9)
