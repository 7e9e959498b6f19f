"""The best trade-offs between latency and accuracy, from the fastest to the best."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.files import write_atomically
from mess_tf.core.pareto import pareto_indices
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from search.parameters import SearchParameters
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, Requirement
from search.result import Outcome
from search.run import Reporter, prepare
from search.solver.branch_and_bound import (
    BranchAndBound,
    Optimum,
    Progress,
    ProgressCall,
)
from search.solver.incumbent import Solution
from search.solver.target import Target

COLUMNS = (
    "mean_ms",
    "p90_ms",
    "miou",
    "drop_pp",
    "report_mean_ms",
    "report_p90_ms",
    "report_miou",
    "report_drop_pp",
    "budget_ms",
    "miou_bound",
    "proven",
    "exits",
)


@dataclass(frozen=True)
class ParetoPoint:
    """One trade-off.

    Attributes:
        outcome: the configuration with its figures on both parts.
        budget_ms: mean latency it was searched under; infinite without limit.
        miou_bound: no configuration within the budget has a higher mIoU.
        proven: ``outcome`` reaches the bound.
    """

    outcome: Outcome
    budget_ms: float
    miou_bound: float
    proven: bool


def pareto_front(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    parameters: SearchParameters = SearchParameters(max_early_exits=2),
    *,
    points: int = 12,
    progress: ProgressCall | None = None,
) -> tuple[ParetoPoint, ...]:
    """Highest mIoU within each of ``points`` latency budgets.

    The budgets lie evenly, in ratio, between the fastest and the most accurate single
    exit, the last one is without limit; budgets that give the same or a beaten
    configuration are merged, so there may be fewer points. Every point is optimal for
    its budget where ``proven``; between two budgets there may be further trade-offs.

    Args:
        parameters: the space and the time limit, of which each budget gets an equal
            share of what is left; neither finalists nor a guarantee.
        progress: called a few times per second, with the figures of the present budget
            and the time of all of it.

    Returns:
        from the fastest to the most accurate, judged on the calibration part.

    Raises:
        MessError: an argument, the statistics or the latencies cannot be used.
    """
    if points < 2:
        raise MessError(f"points is {points}; a front needs at least 2.")
    if parameters.finalists > 1 or parameters.guarantee is not None:
        raise MessError(
            "A front has neither finalists nor a guarantee; leave them out or search"
            " for one requirement."
        )
    problem, early = prepare(statistics, spec, latency_ms, parameters)
    clock = parameters.solver.clock
    began = clock()
    end = began + parameters.time_limit_s

    def tell(state: Progress) -> None:
        if progress is not None:
            progress(replace(state, elapsed_s=clock() - began))

    fastest = float((problem.segments_ms + problem.head_ms + problem.output_ms).min())

    def solve(budget_ms: float, left: int, start: Solution | None) -> Optimum:
        now = clock()
        target = Target(minimise_latency=False, min_miou=0.0, max_latency_ms=budget_ms)
        deadline = now + max(0.0, end - now) / left
        return BranchAndBound(
            problem, target, early, deadline, tell, start, parameters.solver
        ).run()

    static = BranchAndBound(
        problem, Target(minimise_latency=False, min_miou=0.0), 0, end
    ).run()
    slowest = fastest if static.incumbent is None else static.incumbent.latency_ms
    budgets = np.geomspace(max(fastest, 1e-6), max(slowest, 1e-6), points - 1)
    found: list[tuple[float, Optimum]] = []
    start = None
    # The one without a limit is the hardest to prove: last, it gets what is left.
    limits = [*(budgets + LATENCY_TOLERANCE_MS).tolist(), np.inf]
    for done, budget in enumerate(limits):
        optimum = solve(budget, len(limits) - done, start)
        start = optimum.incumbent
        found.append((budget, optimum))
    reporter = Reporter(statistics, spec, latency_ms, Requirement(), parameters.seed)
    return tuple(
        ParetoPoint(
            reporter.outcome(_configuration(problem, chosen)),
            budget,
            optimum.bound,
            optimum.proven,
        )
        for budget, optimum, chosen in _unbeaten(found)
    )


def _configuration(problem: Problem, chosen: Solution) -> Configuration:
    return problem.configuration(chosen.heads, chosen.gates)


def _unbeaten(
    found: Sequence[tuple[float, Optimum]],
) -> list[tuple[float, Optimum, Solution]]:
    """Leaves out what another point beats or equals in both figures."""
    rows = [(b, o, o.incumbent) for b, o in found if o.incumbent is not None]
    latency_ms = [best.latency_ms for _, _, best in rows]
    miou = [best.miou for _, _, best in rows]
    return [rows[i] for i in pareto_indices(latency_ms, miou)]


def save_pareto(path: Path, front: Sequence[ParetoPoint]) -> None:
    """Writes ``pareto.csv``: a row per point, its ``exits`` as JSON."""
    with write_atomically(path) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(_row(point) for point in front)


def _row(point: ParetoPoint) -> dict[str, object]:
    seen, report = point.outcome.calibration, point.outcome.report
    row: dict[str, object] = {
        "mean_ms": seen.mean_ms,
        "p90_ms": seen.p90_ms,
        "miou": seen.miou,
        "drop_pp": seen.drop_pp,
        "budget_ms": point.budget_ms,
        "miou_bound": point.miou_bound,
        "proven": int(point.proven),
        "exits": json.dumps(point.outcome.configuration.to_json()),
    }
    if report is not None:
        row |= {
            "report_mean_ms": report.mean_ms,
            "report_p90_ms": report.p90_ms,
            "report_miou": report.miou,
            "report_drop_pp": report.drop_pp,
        }
    return row


Row = dict[str, float | bool | None | Configuration]


def load_pareto(path: Path) -> list[Row]:
    """Reads ``pareto.csv``: numbers per column, ``exits`` as a configuration.

    Raises:
        MessError: the file is missing or broken.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise MessError(
            f"No Pareto front at {path} ({error.strerror}); run `mess search` first."
        ) from error
    points: list[Row] = []
    try:
        for row in rows:
            point: Row = {
                name: float(row[name]) if row[name] else None for name in COLUMNS[:-2]
            }
            point["proven"] = row["proven"] == "1"
            point["exits"] = Configuration.from_json(json.loads(row["exits"]))
            points.append(point)
    except (KeyError, ValueError, TypeError) as error:
        raise MessError(
            f"The Pareto front {path} cannot be read ({error}); run `mess search`"
            " again."
        ) from error
    return points


def hypervolume(
    points: Sequence[tuple[float, float]], latency_ms: float, miou: float = 0.0
) -> float:
    """Part of the rectangle between a reference and (0 ms, mIoU 1) that is beaten.

    Args:
        points: (mean ms, mIoU) of a front's points, in any order.
        latency_ms, miou: the reference: points slower or worse than it count nothing.

    Returns:
        0..1; larger is better.
    """
    if not latency_ms > 0 or not miou < 1:
        raise MessError(
            f"The reference ({latency_ms} ms, mIoU {miou}) leaves no rectangle; give a"
            " positive latency and an mIoU below 1."
        )
    area, best, reached = 0.0, miou, latency_ms
    # From the most accurate down, each point adds what lies right of it.
    for ms, value in sorted(points, key=lambda p: (-p[1], p[0])):
        if value <= best or ms >= reached:
            continue
        area += (reached - ms) * (value - best)
        reached = ms
    return area / (latency_ms * (1 - miou))
