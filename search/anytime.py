"""The anytime setting: exits that answer one after the other until time is up.

A ladder of deadlines is given. Every kept exit answers, in order of depth, and pays for
the backbone up to it and for all kept heads and output steps so far; at a deadline the
last answer counts (none yet: an mIoU of 0). Sought is the highest weighted mean of the
answers' mIoU over the deadlines.

It is exact: with ``W(t)`` the weight of all deadlines at or after ``t``, an exit that
answers at ``t`` adds ``(mIoU - mIoU of the answer before) W(t)``. What later exits can
add depends on the last head and on what its heads have cost; so of all beginnings that
end with a head, only those matter that no other one beats in both cost and value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.pareto import pareto_indices
from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from search.evaluation import RoutedEvaluation
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, Requirement


@dataclass(frozen=True)
class Rung:
    """One deadline of the ladder.

    Attributes:
        deadline_ms: since the image arrived.
        weight: how much it counts; the weights of a ladder need not sum to 1.
    """

    deadline_ms: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("deadline", self.deadline_ms), ("weight", self.weight)):
            if not 0 < value < math.inf:
                raise MessError(
                    f"The {name} of a rung is {value}; it must be positive and finite."
                )


@dataclass(frozen=True)
class AnytimeAnswer:
    """What is there at one deadline: the exit that answered last, None if none did.

    Attributes:
        ready_ms: when it answered; infinite if none did.
        calibration_miou, report_miou: 0..1; None where the part is empty.
    """

    rung: Rung
    exit: tuple[int, str] | None
    ready_ms: float
    calibration_miou: float
    report_miou: float | None


@dataclass(frozen=True)
class AnytimeResult:
    """The best exits for a ladder of deadlines.

    Attributes:
        exits: (exit, head) in order of depth; all of them answer.
        value: weighted mean of the mIoU over the ladder, calibration part; the optimum.
        report: the same on the report part; None where it is empty.
        answers: per rung, in order of deadline.
    """

    exits: tuple[tuple[int, str], ...]
    value: float
    report: float | None
    answers: tuple[AnytimeAnswer, ...]


@dataclass(frozen=True)
class _Label:
    """A beginning: its heads' cost so far, its value, and what it consists of."""

    paid_ms: float
    value: float
    heads: tuple[int, ...]


def search_anytime(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    ladder: Sequence[Rung],
    max_exits: int | None = None,
) -> AnytimeResult:
    """Finds the exits with the best answers over a ladder of deadlines.

    Args:
        ladder: deadlines with weights.
        max_exits: exits that answer, at most; None means any number.

    Raises:
        MessError: no deadline, or the first exit of all comes after the last one.
    """
    if not ladder:
        raise MessError("The ladder has no deadline; give at least one.")
    if max_exits is not None and max_exits < 1:
        raise MessError(f"max_exits is {max_exits}; it must be at least 1.")
    problem = Problem.build(statistics, spec, latency_ms, with_gates=False)
    rungs = sorted(ladder, key=lambda rung: rung.deadline_ms)
    heads = _best_chain(problem, rungs, max_exits)
    if not heads:
        cost = problem.segments_ms + problem.head_ms + problem.output_ms
        raise MessError(
            f"No exit answers by {rungs[-1].deadline_ms:g} ms, the last deadline; the"
            f" fastest takes {cost.min():.3f} ms."
        )
    return _report(statistics, spec, latency_ms, problem, rungs, heads)


def _best_chain(
    problem: Problem, rungs: Sequence[Rung], max_exits: int | None
) -> tuple[int, ...]:
    """Head indices of the best exits; empty when none is in time."""
    miou = single_mious(problem)
    most = len(problem.heads) if max_exits is None else max_exits
    fronts: dict[tuple[int, int], list[_Label]] = {}
    best = _Label(0.0, 0.0, ())
    for head in np.argsort(problem.exit_of, kind="stable").tolist():
        own_ms = float(problem.head_ms[head] + problem.output_ms[head])
        before = [_Label(0.0, 0.0, ())]
        for (last, _), labels in fronts.items():
            if problem.exit_of[last] < problem.exit_of[head]:
                before += labels
        grown: dict[int, list[_Label]] = {}
        for label in before:
            if len(label.heads) >= most:
                continue
            paid = label.paid_ms + own_ms
            weight = _weight_from(rungs, float(problem.segments_ms[head]) + paid)
            if weight == 0:
                continue
            known = miou[label.heads[-1]] if label.heads else 0.0
            value = label.value + (miou[head] - known) * weight
            heads = (*label.heads, head)
            grown.setdefault(len(heads), []).append(_Label(paid, value, heads))
        for count, labels in grown.items():
            fronts[head, count] = _unbeaten(labels)
            best = max(best, *labels, key=lambda label: label.value)
    return best.heads


def _weight_from(rungs: Sequence[Rung], time_ms: float) -> float:
    """Weight of the deadlines that an answer at ``time_ms`` is in time for."""
    return sum(
        r.weight for r in rungs if r.deadline_ms >= time_ms - LATENCY_TOLERANCE_MS
    )


def _unbeaten(labels: list[_Label]) -> list[_Label]:
    paid, values = [x.paid_ms for x in labels], [x.value for x in labels]
    return [labels[i] for i in pareto_indices(paid, values)]


def single_mious(problem: Problem) -> np.ndarray:
    """Data-set mIoU of each head alone, shape (H,)."""
    both = problem.intersection.sum(1, dtype=np.float64)
    return np.asarray(mean_iou_of_sums(both, problem.union.sum(1, dtype=np.float64)))


def _report(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    problem: Problem,
    rungs: Sequence[Rung],
    heads: tuple[int, ...],
) -> AnytimeResult:
    """Figures of the chosen exits on both parts."""
    chain = list(heads)
    ready = problem.segments_ms[chain] + np.cumsum(
        problem.head_ms[chain] + problem.output_ms[chain]
    )
    seen: list[float] = []
    unseen: list[float] = []
    for head in heads:
        alone = Configuration((ExitChoice(*problem.heads[head]),))
        evaluation = RoutedEvaluation.of(statistics, spec, latency_ms, alone)
        for part, figures in (("calibration", seen), ("report", unseen)):
            images = part_images(statistics, part)
            if len(images):
                figures.append(evaluation.figures(images, Requirement()).miou)
    answers = []
    for rung in rungs:
        place = int((ready <= rung.deadline_ms + LATENCY_TOLERANCE_MS).sum()) - 1
        there = place >= 0
        answers.append(
            AnytimeAnswer(
                rung,
                problem.heads[heads[place]] if there else None,
                float(ready[place]) if there else math.inf,
                seen[place] if there else 0.0,
                None if not unseen else unseen[place] if there else 0.0,
            )
        )
    total = sum(rung.weight for rung in rungs)

    def mean(values: list[float]) -> float:
        return sum(r.weight * v for r, v in zip(rungs, values, strict=True)) / total

    return AnytimeResult(
        exits=tuple(problem.heads[h] for h in heads),
        value=mean([a.calibration_miou for a in answers]),
        report=mean([a.report_miou or 0.0 for a in answers]) if unseen else None,
        answers=tuple(answers),
    )
