"""Choices that keep their promise elsewhere: limits are tightened until they do.

A configuration is the best of very many on the calibration images, so its figures
there are flattering, and other scenes differ. Here a *pessimistic* figure of the mIoU
drop and of the mean latency is taken from the calibration part alone, and the search is
repeated with tighter limits until the pessimistic figures keep the limits that were
asked for. Last of all, the other objective is tried within the limits (the most
accurate instead of the fastest, or the other way round) and the final head alone, which
loses nothing anywhere; of the two, what does the objective better is taken.
``search.run`` does all that for single exits as well and takes the better choice. The
measures are:

- ``worst-group``: the worst figure over the groups (sequences), each on its own;
- ``left-out``: for each group, what a search without it promises is tried on it; the
  figures over all groups, each answered by the search that has not seen it;
- ``upper-bound``: the upper end of the 90 % bootstrap interval over groups (5 % lie
  above).
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
from search.generalisation.parts import calibration_groups, without_group
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
class Pessimistic:
    """What a configuration is expected to do where it was not chosen.

    Attributes:
        drop_pp: mIoU drop, absolute points.
        mean_ms: mean latency.
    """

    drop_pp: float
    mean_ms: float

    def keeps(self, requirement: Requirement, reference_miou: float) -> bool:
        """Whether the limits of drop, mIoU and mean latency are kept."""
        miou = reference_miou - self.drop_pp / 100
        flags = requirement.met(miou, reference_miou, self.mean_ms, 0.0)
        return all(flags.values())


@dataclass(frozen=True)
class Tightened:
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
    pessimistic: Pessimistic
    steps: int


def tighten(
    statistics: Statistics,
    requirement: Requirement,
    find: Find,
    evaluate: Evaluate,
    final: Configuration,
    seed: int = 0,
) -> Tightened:
    """The least tightened choice whose pessimistic figures keep the requirement.

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
    plain = dataclasses.replace(requirement, robust=None)
    images = part_images(statistics, "calibration")
    itself = evaluate(statistics, final).figures(images, plain)
    last_resorts = []
    if all(itself.met.values()):
        # No image is answered otherwise than by the reference: no measure differs.
        figures = Pessimistic(0.0, itself.mean_ms)
        last_resorts.append(Tightened(final, plain, figures, STEPS + 1))
    nearest: Tightened | None = None
    for step in range(STEPS + 1):
        asked = tightened(plain, step) if step < STEPS else _other_way(plain)
        try:
            found = find(statistics, asked)
            figures = pessimistic(
                statistics, requirement, asked, found, find, evaluate, seed
            )
        except MessError:  # nothing keeps these limits, with or without a group
            if nearest is None and not last_resorts:
                raise
            continue
        choice = Tightened(found, asked, figures, step)
        if figures.keeps(plain, itself.miou):
            if step < STEPS:
                return choice
            last_resorts.append(choice)
        if nearest is None or figures.drop_pp < nearest.pessimistic.drop_pp:
            nearest = choice
    if not last_resorts:
        raise MessError(_failure(requirement, nearest))
    return better(last_resorts, plain)


def better(choices: Sequence[Tightened], requirement: Requirement) -> Tightened:
    """The choice that does the objective best, by its pessimistic figures."""
    if requirement.goal == "latency":
        return min(choices, key=lambda choice: choice.pessimistic.mean_ms)
    return min(choices, key=lambda choice: choice.pessimistic.drop_pp)


def tightened(requirement: Requirement, steps: int) -> Requirement:
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


def _other_way(requirement: Requirement) -> Requirement:
    other: Objective = "accuracy" if requirement.goal == "latency" else "latency"
    return dataclasses.replace(requirement, objective=other)


def pessimistic(
    statistics: Statistics,
    requirement: Requirement,
    asked: Requirement,
    found: Configuration,
    find: Find,
    evaluate: Evaluate,
    seed: int,
) -> Pessimistic:
    """Figures by the way that ``requirement.robust`` names."""
    if requirement.robust == "left-out":
        return _left_out(statistics, asked, find, evaluate)
    evaluation = evaluate(statistics, found)
    images = part_images(statistics, "calibration")
    if requirement.robust == "upper-bound":
        intervals = evaluation.bootstrap(images, statistics.groups, seed, level=0.9)
        return Pessimistic(intervals["drop_pp"].high, intervals["mean_ms"].high)
    groups = np.array(statistics.groups)
    drops, means = [], []
    for group in calibration_groups(statistics):
        own = images[groups[images] == group]
        figures = evaluation.figures(own, Requirement())
        drops.append(figures.drop_pp)
        means.append(figures.mean_ms)
    return Pessimistic(float(np.nanmax(drops)), max(means))


def _left_out(
    statistics: Statistics, asked: Requirement, find: Find, evaluate: Evaluate
) -> Pessimistic:
    """Each group answered by what a search without it found; figures over all."""
    images, parts = [], []
    for group in calibration_groups(statistics):
        other = without_group(statistics, group)
        own = part_images(other, "report")
        images.append(own)
        parts.append(evaluate(other, find(other, asked)).restricted(own))
    together = RoutedEvaluation.joined(parts)
    figures = together.figures(np.arange(sum(map(len, images))), Requirement())
    return Pessimistic(figures.drop_pp, figures.mean_ms)


def _failure(requirement: Requirement, nearest: Tightened | None) -> str:
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
