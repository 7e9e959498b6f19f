"""The anytime setting: exits answer one after the other until a deadline.

Every image runs through the same chain of exits, whatever their confidence. A stage is
the backbone from the exit before, the head and its output step: features are carried
on, and earlier heads are paid for. Exit ``k`` is thus complete at

    segments up to k + sum over j <= k of (head j + output j).

At a deadline the answer of the deepest complete exit counts (an mIoU of 0 if there is
none). Maximised is the weighted mean, over the deadlines, of the answers' data-set mIoU
on the calibration part.

The optimum is exact: with ``W(t)`` the weight of all deadlines at or after ``t``, an
exit that completes at ``t`` adds ``(mIoU - mIoU of the exit before) W(t)``. What later
exits can add depends on the last head and on what the heads so far have cost alone; so
of the partial chains that end with a head and have as many exits, only the Pareto front
of cost and value is extended (label-setting dynamic programming).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.pareto import pareto_indices
from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from search.infeasible import InfeasibleError
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS


@dataclass(frozen=True)
class Deadline:
    """A time at which an answer is wanted.

    Attributes:
        deadline_ms: since the image arrived.
        weight: in the mean over the deadlines; weights need not sum to 1.

    Raises:
        MessError: a value that is not positive and finite.
    """

    deadline_ms: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("time", self.deadline_ms), ("weight", self.weight)):
            if not 0 < value < math.inf:
                raise MessError(
                    f"The {name} of a deadline is {value}; it must be positive and"
                    " finite."
                )


@dataclass(frozen=True)
class ExitFigures:
    """Completion time and accuracy of an exit that answers every image.

    Attributes:
        exit, head: exit index, 1-based, and head id.
        completion_ms: since the image arrived, the same for every image.
        calibration_miou, report_miou: of its answers, data set, 0..1; the second is
            None where the report part is empty.
    """

    exit: int
    head: str
    completion_ms: float
    calibration_miou: float
    report_miou: float | None


@dataclass(frozen=True)
class DeadlineFigures:
    """What is answered by one deadline, beside the best single exit for it.

    Attributes:
        deadline_ms, weight: as asked.
        position: index, in the result's exits, of the deepest one that is complete;
            None where none is.
        calibration_miou, report_miou: of its answers, 0..1; 0 where none is complete.
        best_single: of all heads, the one of the highest calibration mIoU that alone
            is complete by this deadline; None where none is. What it is better by is
            the price of answering at the other deadlines, too.
    """

    deadline_ms: float
    weight: float
    position: int | None
    calibration_miou: float
    report_miou: float | None
    best_single: ExitFigures | None


@dataclass(frozen=True)
class AnytimeResult:
    """The optimal chain of exits for some deadlines.

    Attributes:
        name: for files and tables.
        exits: in order of depth; all of them answer, and none has a threshold.
        deadlines: in order of time.
        weighted_calibration_miou: weighted mean of the calibration mIoU over the
            deadlines: the optimum.
        weighted_report_miou: the same on the report part; None where it is empty.
        max_exits: exits of the chain were to be at most so many; None for any number.
        source: what the statistics were measured on.
        predicted: by name of a head of ``exits`` or of a best single exit whose latency
            was predicted and not measured: the milliseconds that it is likely between.
        setting: always ``anytime``.
    """

    name: str
    exits: tuple[ExitFigures, ...]
    deadlines: tuple[DeadlineFigures, ...]
    weighted_calibration_miou: float
    weighted_report_miou: float | None
    max_exits: int | None
    source: str
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    setting: Literal["anytime"] = "anytime"


@dataclass(frozen=True)
class _Label:
    """A partial chain: what its heads cost, its value, and its head indices."""

    paid_ms: float
    value: float
    heads: tuple[int, ...]


def search_anytime(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    deadlines: Sequence[Deadline],
    max_exits: int | None = None,
    *,
    name: str = "anytime",
) -> AnytimeResult:
    """The chain of exits with the highest weighted mean mIoU over some deadlines.

    Args:
        statistics: what every head does on every image; the part ``calibration`` is
            searched on, the part ``report`` only reported.
        spec: structure of the supernet they come from.
        latency_ms: milliseconds by piece name; decisions are not needed.
        deadlines: at different times.
        max_exits: exits of the chain, at most; None for any number.
        name: of the result.

    Raises:
        InfeasibleError: no exit is complete by the last deadline.
        MessError: no deadline or two at one time, or the statistics or latencies cannot
            be used.
    """
    if not deadlines:
        raise MessError("There is no deadline; give at least one.")
    times = [deadline.deadline_ms for deadline in deadlines]
    if len(set(times)) < len(times):
        raise MessError(f"Two deadlines are at the same time; got {times} ms.")
    if max_exits is not None and max_exits < 1:
        raise MessError(f"max_exits is {max_exits}; it must be at least 1.")
    problem = Problem.build(statistics, spec, latency_ms, with_gates=False)
    ordered = sorted(deadlines, key=lambda deadline: deadline.deadline_ms)
    calibration = _single_mious(statistics, problem, "calibration")
    chain = _best_chain(problem, calibration, ordered, max_exits)
    if not chain:
        fastest = float(_single_ms(problem).min())
        raise InfeasibleError(
            f"NOT MET: no exit answers by {ordered[-1].deadline_ms:g} ms, the last"
            f" deadline; the fastest takes {fastest:.3f} ms."
        )
    chain = _without_unused(problem, ordered, chain)
    report = _single_mious(statistics, problem, "report")
    figures = _Figures(problem, calibration, report)
    exits = figures.of(chain, _chain_ms(problem, chain))
    rows = tuple(figures.at(deadline, exits) for deadline in ordered)
    weights = np.array([row.weight for row in rows])
    unseen = [row.report_miou for row in rows if row.report_miou is not None]
    return AnytimeResult(
        name=name,
        exits=exits,
        deadlines=rows,
        weighted_calibration_miou=float(
            np.average([row.calibration_miou for row in rows], weights=weights)
        ),
        weighted_report_miou=float(np.average(unseen, weights=weights))
        if unseen
        else None,
        max_exits=max_exits,
        source=statistics.source,
    )


def _best_chain(
    problem: Problem,
    miou: np.ndarray,
    deadlines: Sequence[Deadline],
    max_exits: int | None,
) -> tuple[int, ...]:
    """Head indices of the optimal chain; empty when no exit meets a deadline.

    Args:
        miou: float64 array of shape (H,), of each head alone on the calibration part.
    """
    most = len(problem.heads) if max_exits is None else max_exits
    fronts: dict[tuple[int, int], list[_Label]] = {}
    best = _Label(0.0, -1.0, ())  # any chain is better than none, an mIoU of 0, too
    for head in np.argsort(problem.exit_of, kind="stable").tolist():
        stage_ms = float(problem.head_ms[head] + problem.output_ms[head])
        before = [_Label(0.0, 0.0, ())]
        for (last, _), labels in fronts.items():
            if problem.exit_of[last] < problem.exit_of[head]:
                before += labels
        grown: dict[int, list[_Label]] = {}
        for label in before:
            if len(label.heads) >= most:
                continue
            paid = label.paid_ms + stage_ms
            weight = _weight_from(deadlines, float(problem.segments_ms[head]) + paid)
            if weight == 0:
                continue
            known = miou[label.heads[-1]] if label.heads else 0.0
            value = label.value + (miou[head] - known) * weight
            heads = (*label.heads, head)
            grown.setdefault(len(heads), []).append(_Label(paid, value, heads))
        for count, labels in grown.items():
            fronts[head, count] = _undominated(labels)
            best = max(best, *labels, key=lambda label: label.value)
    return best.heads


def _weight_from(deadlines: Sequence[Deadline], time_ms: float) -> float:
    """Total weight of the deadlines that a completion at ``time_ms`` meets."""
    return sum(
        d.weight for d in deadlines if d.deadline_ms >= time_ms - LATENCY_TOLERANCE_MS
    )


def _undominated(labels: list[_Label]) -> list[_Label]:
    paid, values = [x.paid_ms for x in labels], [x.value for x in labels]
    return [labels[i] for i in pareto_indices(paid, values)]


def _chain_ms(problem: Problem, chain: Sequence[int]) -> np.ndarray:
    """Completion time of each exit of a chain, ms; float64 array of shape (n,)."""
    heads = list(chain)
    stage_ms = problem.head_ms[heads] + problem.output_ms[heads]
    return np.asarray(problem.segments_ms[heads] + np.cumsum(stage_ms))


def _single_ms(problem: Problem) -> np.ndarray:
    """Completion time of each head as the only one, ms; shape (H,)."""
    return np.asarray(problem.segments_ms + problem.head_ms + problem.output_ms)


def _complete(times_ms: np.ndarray, deadline: Deadline) -> np.ndarray:
    """Which completion times meet a deadline; bool array of their shape."""
    return np.asarray(times_ms <= deadline.deadline_ms + LATENCY_TOLERANCE_MS)


def _without_unused(
    problem: Problem, deadlines: Sequence[Deadline], chain: tuple[int, ...]
) -> tuple[int, ...]:
    """An optimal chain without the exits that are the deepest at no deadline.

    They add nothing, and without them the later exits are complete sooner.
    """
    while True:
        times_ms = _chain_ms(problem, chain)
        used = {int(_complete(times_ms, d).sum()) - 1 for d in deadlines}
        kept = tuple(head for k, head in enumerate(chain) if k in used)
        if kept == chain:
            return chain
        chain = kept


def _single_mious(statistics: Statistics, problem: Problem, part: str) -> np.ndarray:
    """Data-set mIoU of each head alone on a part, shape (H,); empty without images."""
    images = part_images(statistics, part)
    if not len(images):
        return np.zeros(0)
    columns = [statistics.heads.index(head) for head in problem.heads]
    intersection = statistics.intersection[images].sum(0)[columns]
    predicted = statistics.predicted_area[images].sum(0)[columns]
    union = statistics.true_area[images].sum(0) + predicted - intersection
    return mean_iou_of_sums(intersection, union)


@dataclass(frozen=True, eq=False)
class _Figures:
    """Makes records of exits and deadlines.

    Attributes:
        calibration, report: float64 arrays of shape (H,), mIoU of each head alone; the
            second is empty where the part is.
    """

    problem: Problem
    calibration: np.ndarray
    report: np.ndarray

    def of(self, heads: Sequence[int], times_ms: np.ndarray) -> tuple[ExitFigures, ...]:
        return tuple(
            ExitFigures(
                *self.problem.heads[head],
                float(time_ms),
                float(self.calibration[head]),
                float(self.report[head]) if len(self.report) else None,
            )
            for head, time_ms in zip(heads, times_ms, strict=True)
        )

    def at(self, deadline: Deadline, exits: Sequence[ExitFigures]) -> DeadlineFigures:
        times_ms = np.array([one.completion_ms for one in exits])
        complete = int(_complete(times_ms, deadline).sum())
        deepest = exits[complete - 1] if complete else None
        nothing = 0.0 if len(self.report) else None
        return DeadlineFigures(
            deadline.deadline_ms,
            deadline.weight,
            complete - 1 if complete else None,
            0.0 if deepest is None else deepest.calibration_miou,
            nothing if deepest is None else deepest.report_miou,
            self._best_single(deadline),
        )

    def _best_single(self, deadline: Deadline) -> ExitFigures | None:
        times_ms = _single_ms(self.problem)
        fits = np.flatnonzero(_complete(times_ms, deadline))
        if not len(fits):
            return None
        # Of equally accurate ones, the fastest.
        order = np.lexsort((times_ms[fits], -self.calibration[fits]))
        best = int(fits[order[0]])
        return self.of([best], times_ms[[best]])[0]
