"""Robust choices: requirements that hold by a pessimistic estimate on other scenes.

A configuration is the best of very many on the calibration images, so its figures there
are biased upwards (the winner's curse), and other scenes differ. Here the mIoU drop and
the mean latency are estimated pessimistically from the calibration part alone, and the
search is repeated with tighter limits until the estimates meet the limits asked for. If
no tightening does, two more are tried: the other objective within the limits (the most
accurate instead of the fastest, or the reverse) and the final head alone, which loses
nothing anywhere; of those that meet the limits, the one with the better estimate of the
objective is taken. ``search.run`` does all that for single exits as well and takes the
better choice. The estimates are:

- ``worst-group``: the maximum over the groups (sequences);
- ``left-out``: cross-validation: each group (of more than ten: each tenth of them) is
  answered by the optimum of a search without it; figures over all groups together;
- ``upper-bound``: the upper end of the 90 % percentile bootstrap interval over groups
  (5 % lie above).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics, part_images
from search.evaluation import RoutedEvaluation
from search.generalisation.parts import (
    calibration_groups,
    folds,
    leave_groups_out,
)
from search.requirement import Objective, Requirement

# The first step by which limits are tightened; each further one is larger by GROWTH.
STEP_PP = 0.25
STEP_LATENCY = 0.03
GROWTH = 1.3
STEPS = 10

# Finds the best configuration for a requirement on some statistics.
Find = Callable[[Statistics, Requirement], Configuration]
# Makes a configuration's evaluation on some statistics.
Evaluate = Callable[[Statistics, Configuration], RoutedEvaluation]


@dataclass(frozen=True)
class PessimisticFigures:
    """Pessimistic estimates of a configuration's figures on other scenes.

    Attributes:
        drop_pp: mIoU drop, absolute points.
        mean_ms: mean latency.
    """

    drop_pp: float
    mean_ms: float

    def keeps(self, requirement: Requirement, reference_miou: float) -> bool:
        """Whether the estimates meet the limits of drop, mIoU and mean latency."""
        miou = reference_miou - self.drop_pp / 100
        flags = requirement.met(miou, reference_miou, self.mean_ms, 0.0)
        return all(flags.values())


@dataclass(frozen=True)
class RobustChoice:
    """A robust choice.

    Attributes:
        configuration: the choice.
        asked: the requirement that it was searched with.
        pessimistic: its figures by the requirement's ``robust``.
        steps: by how many steps the limits were tightened; ``STEPS`` for the other
            objective, one more for the final head alone.
    """

    configuration: Configuration
    asked: Requirement
    pessimistic: PessimisticFigures
    steps: int


def tighten_until_met(
    statistics: Statistics,
    requirement: Requirement,
    find: Find,
    evaluate: Evaluate,
    final: Configuration,
    seed: int = 0,
) -> RobustChoice:
    """The choice of the least tightening whose estimates meet the requirement.

    Args:
        find: raises MessError where nothing keeps its requirement.
        final: the final head alone.
        seed: of the bootstrap.

    Raises:
        MessError: fewer than two calibration groups; or nothing within the steps keeps
            the requirement: the message names the nearest that was found.
    """
    groups = calibration_groups(statistics)
    if len(groups) < 2:
        raise MessError(
            f"The calibration part has {len(groups)} group; robust choices need at"
            " least 2. Leave `robust` out or evaluate more sequences."
        )
    images = part_images(statistics, "calibration")
    if requirement.robust == "worst-group" and len(groups) == len(images):
        raise MessError(
            "Robust choices by 'worst-group' need groups of several images; here each"
            f" of the {len(groups)} calibration images is a group of its own, and the"
            " mIoU of one image is no estimate. Take 'left-out' or 'upper-bound', or"
            " set data.group to a pattern."
        )
    plain = dataclasses.replace(requirement, robust=None)
    itself = evaluate(statistics, final).figures(images, plain)
    last_resorts = []
    if all(itself.met.values()):
        # No image is answered otherwise than by the reference: no measure differs.
        figures = PessimisticFigures(0.0, itself.mean_ms)
        last_resorts.append(RobustChoice(final, plain, figures, STEPS + 1))
    nearest: RobustChoice | None = None
    for step in range(STEPS + 1):
        asked = (
            tightened_requirement(plain, step)
            if step < STEPS
            else _with_other_objective(plain)
        )
        try:
            found = find(statistics, asked)
            figures = pessimistic_figures(
                statistics, requirement, asked, found, find, evaluate, seed
            )
        except MessError:  # nothing keeps these limits, with or without a group
            if nearest is None and not last_resorts:
                raise
            continue
        choice = RobustChoice(found, asked, figures, step)
        if figures.keeps(plain, itself.miou):
            if step < STEPS:
                return choice
            last_resorts.append(choice)
        if nearest is None or figures.drop_pp < nearest.pessimistic.drop_pp:
            nearest = choice
    if not last_resorts:
        raise MessError(_failure(requirement, nearest))
    return best_choice(last_resorts, plain)


def best_choice(
    choices: Sequence[RobustChoice], requirement: Requirement
) -> RobustChoice:
    """The choice with the best pessimistic estimate of the objective."""
    if requirement.goal == "latency":
        return min(choices, key=lambda choice: choice.pessimistic.mean_ms)
    return min(choices, key=lambda choice: choice.pessimistic.drop_pp)


def tightened_requirement(requirement: Requirement, steps: int) -> Requirement:
    """The requirement with its limits of drop, mIoU and mean latency tightened."""
    changes: dict[str, Any] = {}
    steps_taken = (GROWTH**steps - 1) / (GROWTH - 1)
    if requirement.max_drop_pp is not None:
        changes["max_drop_pp"] = max(
            requirement.max_drop_pp - STEP_PP * steps_taken, -100.0
        )
    if requirement.min_miou is not None:
        changes["min_miou"] = min(
            requirement.min_miou + STEP_PP / 100 * steps_taken, 1.0
        )
    if requirement.max_latency_ms is not None:
        share = max(1 - STEP_LATENCY * steps_taken, 0.0)
        changes["max_latency_ms"] = requirement.max_latency_ms * share
    return dataclasses.replace(requirement, **changes)


def _with_other_objective(requirement: Requirement) -> Requirement:
    other: Objective = "accuracy" if requirement.goal == "latency" else "latency"
    return dataclasses.replace(requirement, objective=other)


def pessimistic_figures(
    statistics: Statistics,
    requirement: Requirement,
    asked: Requirement,
    found: Configuration,
    find: Find,
    evaluate: Evaluate,
    seed: int,
) -> PessimisticFigures:
    """Estimates by the measure that ``requirement.robust`` names."""
    if requirement.robust == "left-out":
        return _cross_validation(statistics, asked, find, evaluate, seed)
    evaluation = evaluate(statistics, found)
    images = part_images(statistics, "calibration")
    if requirement.robust == "upper-bound":
        intervals = evaluation.bootstrap(images, statistics.groups, seed, level=0.9)
        return PessimisticFigures(intervals["drop_pp"].high, intervals["mean_ms"].high)
    groups = np.array(statistics.groups)
    drops, means = [], []
    for group in calibration_groups(statistics):
        own = images[groups[images] == group]
        figures = evaluation.figures(own, Requirement())
        drops.append(figures.drop_pp)
        means.append(figures.mean_ms)
    return PessimisticFigures(float(np.nanmax(drops)), max(means))


def _cross_validation(
    statistics: Statistics,
    asked: Requirement,
    find: Find,
    evaluate: Evaluate,
    seed: int,
) -> PessimisticFigures:
    """Cross-validation of the search, figures over all groups together."""
    images, parts = [], []
    for fold in folds(statistics, seed):
        other = leave_groups_out(statistics, fold)
        own = part_images(other, "report")
        images.append(own)
        parts.append(evaluate(other, find(other, asked)).restricted(own))
    together = RoutedEvaluation.joined(parts)
    figures = together.figures(np.arange(sum(map(len, images))), Requirement())
    return PessimisticFigures(figures.drop_pp, figures.mean_ms)


def _failure(requirement: Requirement, nearest: RobustChoice | None) -> str:
    found = (
        ""
        if nearest is None
        else (
            f": the nearest found has a {requirement.robust} drop of"
            f" {nearest.pessimistic.drop_pp:.2f} pp and"
            f" {nearest.pessimistic.mean_ms:.3f} ms"
        )
    )
    return (
        f"NOT MET: nothing keeps the requirement ({requirement}) by the measure"
        f" {requirement.robust!r}{found}. Relax a limit to that or leave `robust` out."
    )
