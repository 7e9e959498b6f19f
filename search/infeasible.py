"""When nothing keeps a requirement: why, and what could be had instead."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.quantiles import quantile
from mess_tf.core.routing import first_exit
from search.parameters import SearchParameters
from search.problem import Problem
from search.requirement import Requirement
from search.resources import MB
from search.solver.branch_and_bound import BranchAndBound, Optimum
from search.solver.target import Target

_DIAGNOSIS_LIMIT_S = 20.0


class InfeasibleError(MessError):
    """Nothing keeps the requirement; the message names the nearest that can be kept."""


def failure(
    problem: Problem,
    requirement: Requirement,
    target: Target,
    early: int,
    optimum: Optimum,
    parameters: SearchParameters,
) -> MessError:
    """The error that says why there is no configuration, and the nearest there are.

    Args:
        early: early exits of a configuration, at most.
        optimum: of the search that found nothing.
        parameters: of that search; its solver options serve for the nearest, too.
    """
    time_limit_s, options = parameters.time_limit_s, parameters.solver
    started = options.clock()
    limit_s = min(time_limit_s, _DIAGNOSIS_LIMIT_S)
    half, deadline = started + limit_s / 2, started + limit_s
    advice = []
    any_latency = dataclasses.replace(
        target, max_latency_ms=math.inf, max_p90_ms=math.inf
    )
    fast_target = dataclasses.replace(any_latency, minimise_latency=True)
    fast = BranchAndBound(problem, fast_target, early, half, options=options).run()
    if fast.incumbent is not None:
        p90 = _p90_of(problem, fast.incumbent.heads, fast.incumbent.gates)
        sure = "" if fast.proven else " found so far"
        advice.append(
            f"with the accuracy asked, the lowest mean latency{sure} is"
            f" {fast.incumbent.latency_ms:.3f} ms (p90 {p90:.3f} ms)"
        )
    good_target = dataclasses.replace(target, min_miou=0.0, minimise_latency=False)
    good = BranchAndBound(problem, good_target, early, deadline, options=options).run()
    if good.incumbent is not None:
        drop = 100 * (problem.reference_miou - good.incumbent.miou)
        sure = "" if good.proven else " found so far"
        advice.append(
            f"within the latency asked, the highest mIoU{sure} is"
            f" {100 * good.incumbent.miou:.2f} % (drop {drop:.2f} pp)"
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
            f"NOT MET so far: nothing that keeps the requirement ({requirement}) was"
            f" found within {time_limit_s:g} s, nor shown not to exist: {nearest}."
            " Raise time_limit_s or relax the requirement."
        )
    return InfeasibleError(
        f"NOT MET: no configuration keeps the requirement ({requirement}): {nearest}."
        " Relax one of the limits."
    )


def _p90_of(problem: Problem, heads: tuple[int, ...], gates: tuple[int, ...]) -> float:
    """90th percentile of a configuration's latency over the calibration images."""
    early = [problem.gates[head] for head in heads[:-1]]
    leaves = np.zeros((len(early), problem.images), bool)
    decision_ms = np.zeros(len(heads))
    for position, (gates_here, gate) in enumerate(zip(early, gates, strict=True)):
        leaves[position] = gates_here.masks[gate]
        decision_ms[position] = gates_here.decision_ms[gate]
    path_ms = problem.path_ms(heads) + np.cumsum(decision_ms)
    return quantile(path_ms[first_exit(leaves)], 0.9)
