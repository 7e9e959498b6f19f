"""One device and one precision: its exits, its answers, its Pareto front."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.compiling.latency_composition import compose_latencies
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.reporting.answers import make_answer, reproduces
from mess_tf.reporting.costs import macs_of_leaving, parts_ms
from mess_tf.reporting.inputs import FrontRow, Measured, Searched
from mess_tf.reporting.records import FrontPoint, HeadFigure, Ring, Target, View
from mess_tf.reporting.speedups import BestWithin, make_rings
from mess_tf.reporting.views import LeaveAt, make_views, told_images
from mess_tf.runs import Run, file_name


@dataclass(frozen=True)
class Tools:
    """What the search lends.

    Attributes:
        leave_at: per image, the position in a configuration at which it leaves.
        best_within: the most accurate configuration within a mean latency.
    """

    leave_at: LeaveAt
    best_within: BestWithin


@dataclass(frozen=True)
class Sources:
    """What is known of one precision; None where it is not there yet."""

    precision: str
    pieces: Pieces | None
    statistics: Statistics | None


def make_target(
    run: Run,
    spec: SupernetSpec,
    device: str,
    sources: Sources,
    measured: Sequence[Measured],
    searched: Sequence[Searched],
    tools: Tools,
    float_final: HeadFigure | None,
) -> Target:
    """Everything about one device and one precision.

    Args:
        device: its name.
        measured, searched: of all devices and precisions.
        float_final: the float32 final exit on the same device, if known.
    """
    if sources.pieces is not None:  # a fine-tuned precision has chosen heads only
        spec = sources.pieces.part_of(spec)
    found = next(
        (
            s
            for s in searched
            if s.device == file_name(device) and s.precision == sources.precision
        ),
        None,
    )
    results = () if found is None else found.results
    ways = [m for m in measured if m.device["name"] == device]
    way = pick_measured(spec, sources.pieces, ways, results)
    by_piece = latencies(spec, sources.pieces, way)
    figures = [
        way.pieces[piece.sha256]
        for piece in (sources.pieces.pieces if sources.pieces and way else ())
        if way and piece.sha256 in way.pieces
    ]
    times = sorted(figure.time for figure in figures)
    heads = head_figures(spec, sources.pieces, sources.statistics, by_piece)
    answers = tuple(
        make_answer(run, spec, result, device, sources.precision, by_piece, float_final)
        for result in results
    )
    front = tuple(
        FrontPoint(
            row,
            _rates(sources.statistics, row.configuration, tools.leave_at),
            _front_command(run, device, sources.precision, row),
        )
        for row in (found.front or () if found else ())
    )
    views: tuple[View, ...] = ()
    rings: tuple[Ring, ...] = ()
    no_rings = ""
    final_ms = next((head.latency_ms for head in heads if head.final), None)
    if sources.statistics is not None:
        at_search = answers[0].reference.mean_ms if answers else final_ms
        views = make_views(
            spec,
            sources.statistics,
            by_piece,
            answers,
            front,
            at_search or math.nan,
            tools.leave_at,
        )
        measured_all = sources.pieces and len(figures) == len(sources.pieces.pieces)
        if final_ms is not None and measured_all:
            try:
                rings = make_rings(
                    spec,
                    sources.statistics,
                    by_piece,
                    final_ms,
                    tools.best_within,
                    tools.leave_at,
                )
            except MessError as error:  # one figure less, not the whole report
                no_rings = str(error)
    return Target(
        run=str(run.folder),
        device=device,
        precision=sources.precision,
        measured=way,
        first=times[0] if times else "",
        last=times[-1] if times else "",
        flags=dict(Counter(flag for figure in figures for flag in figure.flags)),
        heads=heads,
        source=None if sources.statistics is None else sources.statistics.source,
        answers=answers,
        front=front,
        views=views,
        rings=rings,
        no_rings=no_rings,
    )


def pick_measured(
    spec: SupernetSpec,
    pieces: Pieces | None,
    ways: Sequence[Measured],
    results: Sequence[Mapping[str, Any]],
) -> Measured | None:
    """Of several ways of measuring, the one whose figures the search used.

    That is the one that reproduces most results; of equals, the most complete one.
    """

    def score(way: Measured) -> tuple[int, int]:
        by_piece = latencies(spec, pieces, way)
        fits = sum(reproduces(spec, by_piece, result) for result in results)
        return fits, len(by_piece)

    best = max(ways, key=score, default=None)
    return best if best is not None and latencies(spec, pieces, best) else None


def latencies(
    spec: SupernetSpec, pieces: Pieces | None, way: Measured | None
) -> dict[str, float]:
    """Milliseconds by name, of the pieces that are measured, as the search uses them.

    While some are not, the plain figures of those that are.
    """
    if pieces is None or way is None:
        return {}
    figures = {
        piece.name: way.pieces[piece.sha256]
        for piece in pieces.pieces
        if piece.sha256 in way.pieces
    }
    by_piece = {name: figure.ms for name, figure in figures.items()}
    if len(by_piece) < len(pieces.pieces):
        return by_piece
    rounds_ms = {name: figure.rounds_ms for name, figure in figures.items()}
    return compose_latencies(by_piece, spec, rounds_ms)


def head_figures(
    spec: SupernetSpec,
    pieces: Pieces | None,
    statistics: Statistics | None,
    by_piece: Mapping[str, float],
) -> tuple[HeadFigure, ...]:
    """Every head as a network of its own, in order of depth."""
    if pieces is None and statistics is None:
        return ()
    last = spec.exit_points[-1].index
    figures = []
    for index, head in spec.head_names():
        table = parts_ms(spec, by_piece, Configuration((ExitChoice(index, head),)))
        calibration, report = (
            None if statistics is None else _miou(statistics, (index, head), part)
            for part in ("calibration", "report")
        )
        figures.append(
            HeadFigure(
                exit=index,
                head=head,
                macs=None if pieces is None else macs_of_leaving(pieces, index, head),
                latency_ms=None if table is None else float(table.sum()),
                miou_calibration=calibration,
                miou_report=report,
                final=index == last and head == spec.final_head.id,
            )
        )
    return tuple(figures)


def best_of(heads: Sequence[HeadFigure], exit_index: int) -> HeadFigure | None:
    """The head of an exit point that is best on the calibration part."""
    here = [head for head in heads if head.exit == exit_index]
    return max(here, key=lambda head: head.miou_calibration or 0.0, default=None)


def _miou(statistics: Statistics, head: tuple[int, str], part: str) -> float | None:
    value = head_miou(statistics, head, part)
    return None if math.isnan(value) else value


def _rates(
    statistics: Statistics | None, configuration: Configuration, leave_at: LeaveAt
) -> tuple[float, ...]:
    """Part of the report images (all, if there are none) that leaves at each exit."""
    if statistics is None:
        return ()
    chosen = told_images(statistics)
    places = leave_at(statistics, configuration)[chosen]
    counts = np.bincount(places, minlength=len(configuration.exits))
    return tuple((counts / len(chosen)).tolist())


def _front_command(run: Run, device: str, precision: str, row: FrontRow) -> str:
    """Finds a point of the front again (or a better one) and exports it."""
    budget = _rounded_up(row.calibration.mean_ms)
    where = ["--device", device, "--precision", precision]
    early = len(row.configuration.exits) - 1
    search = ["mess", "search", str(run.folder), "--max-latency-ms", budget]
    export = ["mess", "export", str(run.folder), "--choice", f"mean_ms{budget}"]
    return " && ".join(
        (
            shlex.join([*search, "--max-early-exits", str(early), *where]),
            shlex.join([*export, *where]),
        )
    )


def _rounded_up(value: float) -> str:
    """Six digits, never less: a budget below the latency would miss the point."""
    scale = 10.0 ** (5 - math.floor(math.log10(max(value, 1e-9))))
    return f"{math.ceil(value * scale) / scale:g}"
