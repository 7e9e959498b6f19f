"""One device and one precision: heads, search results, Pareto front, speed-ups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mess_tf.compiling.latency_composition import compose_latencies
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.latency import PathLatency
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.reporting.configuration_records import (
    FrontPoint,
    ReportedConfiguration,
    ResultSummary,
    SpeedupPoint,
)
from mess_tf.reporting.configurations import reported_configurations
from mess_tf.reporting.inputs import DeviceLatencies, FrontRow, StoredSearch
from mess_tf.reporting.latency_breakdown import head_macs, terms_if_measured
from mess_tf.reporting.records import Deployment, HeadFigures
from mess_tf.reporting.routed import Router, report_images
from mess_tf.reporting.search_results import Setup, reproduces, summarise_result
from mess_tf.reporting.speedups import SpeedupSearch
from mess_tf.runs import file_name

if TYPE_CHECKING:
    from search.result import SearchResult


@dataclass(frozen=True)
class PrecisionFiles:
    """Pieces and statistics of one precision; None where they are not there yet.

    Attributes:
        spec: structure of the supernet, with the heads that this precision has.
    """

    precision: str
    spec: SupernetSpec
    pieces: Pieces | None
    statistics: Statistics | None


@dataclass(frozen=True)
class LoadedInputs:
    """What was measured and searched in a run, of all devices and precisions."""

    latencies: Sequence[DeviceLatencies]
    searches: Sequence[StoredSearch]

    def of_device(self, device: str) -> list[DeviceLatencies]:
        """Latencies of the device, one record per settings of measuring."""
        return [one for one in self.latencies if one.device.name == device]

    def search(self, setup: Setup) -> StoredSearch | None:
        """Search results for a device and precision."""
        key = (file_name(setup.device), setup.precision)
        return next((s for s in self.searches if (s.device, s.precision) == key), None)


def make_deployment(
    setup: Setup,
    files: PrecisionFiles,
    inputs: LoadedInputs,
    float_final: HeadFigures | None,
    speedup_time_limit_s: float,
) -> Deployment:
    """Everything about one device and one precision.

    Args:
        setup: run, device and precision.
        files: of the precision.
        inputs: of the run.
        float_final: the float32 final exit on the same device, if known.
        speedup_time_limit_s: for each search of Fig. 7.
    """
    stored = inputs.search(setup)
    results = () if stored is None else stored.results
    measured = pick_settings(files, inputs.of_device(setup.device), results)
    latency = PathLatency(files.spec, piece_latencies(files, measured))
    pieces = () if files.pieces is None or measured is None else files.pieces.pieces
    figures = [
        measured.pieces[piece.sha256]
        for piece in pieces
        if measured is not None and piece.sha256 in measured.pieces
    ]
    times = sorted(figure.time for figure in figures)
    heads = head_figures(files, latency)
    router = None if files.statistics is None else Router(files.statistics)
    summaries = tuple(
        summarise_result(setup, result, latency, float_final) for result in results
    )
    front = tuple(
        FrontPoint(row, _rates(router, row), _front_command(setup, row))
        for row in (stored.front or () if stored else ())
    )
    configurations: tuple[ReportedConfiguration, ...] = ()
    speedups: tuple[SpeedupPoint, ...] = ()
    speedups_error = ""
    final_ms = next((head.latency_ms for head in heads if head.final), None)
    if router is not None:
        configurations = reported_configurations(
            router, latency, summaries, front, _final_ms(summaries, final_ms)
        )
        if final_ms is not None and pieces and len(figures) == len(pieces):
            search = SpeedupSearch(
                files.spec, latency.latency_ms, final_ms, speedup_time_limit_s
            )
            try:
                speedups = search.points(router)
            except MessError as error:  # one figure less, not the whole report
                speedups_error = str(error)
    return Deployment(
        run=str(setup.run.folder),
        device=setup.device,
        precision=setup.precision,
        measured=measured,
        first_measured=times[0] if times else "",
        last_measured=times[-1] if times else "",
        flags=dict(Counter(flag for figure in figures for flag in figure.flags)),
        heads=heads,
        source=None if files.statistics is None else files.statistics.source,
        results=summaries,
        front=front,
        configurations=configurations,
        speedups=speedups,
        speedups_error=speedups_error,
    )


def pick_settings(
    files: PrecisionFiles,
    measured: Sequence[DeviceLatencies],
    results: Sequence[SearchResult],
) -> DeviceLatencies | None:
    """Of several settings of measuring, those whose latencies the search used.

    These reproduce most results; of equals, the most complete ones.
    """

    def score(one: DeviceLatencies) -> tuple[int, int]:
        latency = PathLatency(files.spec, piece_latencies(files, one))
        fits = sum(reproduces(latency, result) for result in results)
        return fits, len(latency.latency_ms)

    best = max(measured, key=score, default=None)
    return best if best is not None and piece_latencies(files, best) else None


def piece_latencies(
    files: PrecisionFiles, measured: DeviceLatencies | None
) -> dict[str, float]:
    """Milliseconds by name, of the pieces that are measured, as the search uses them.

    While some are not, the plain figures of those that are.
    """
    if files.pieces is None or measured is None:
        return {}
    figures = {
        piece.name: measured.pieces[piece.sha256]
        for piece in files.pieces.pieces
        if piece.sha256 in measured.pieces
    }
    latency_ms = {name: figure.ms for name, figure in figures.items()}
    if len(latency_ms) < len(files.pieces.pieces):
        return latency_ms
    rounds_ms = {name: figure.rounds_ms for name, figure in figures.items()}
    return compose_latencies(latency_ms, files.spec, rounds_ms)


def head_figures(
    files: PrecisionFiles, latency: PathLatency
) -> tuple[HeadFigures, ...]:
    """Every head as a network with this single exit, in order of depth."""
    if files.pieces is None and files.statistics is None:
        return ()
    last = files.spec.exit_points[-1].index
    figures = []
    for index, head in files.spec.head_names():
        alone = Configuration((ExitChoice(index, head),))
        terms = terms_if_measured(latency, alone)
        calibration, report = (
            None
            if files.statistics is None
            else _miou(files.statistics, (index, head), part)
            for part in ("calibration", "report")
        )
        figures.append(
            HeadFigures(
                exit=index,
                head=head,
                macs=None
                if files.pieces is None
                else head_macs(files.pieces, index, head),
                latency_ms=None if terms is None else float(terms.sum()),
                miou_calibration=calibration,
                miou_report=report,
                final=index == last and head == files.spec.final_head.id,
            )
        )
    return tuple(figures)


def best_head(heads: Sequence[HeadFigures], exit_index: int) -> HeadFigures | None:
    """The head of an exit point that is best on the calibration part."""
    here = [head for head in heads if head.exit == exit_index]
    return max(here, key=lambda head: head.miou_calibration or 0.0, default=None)


def _miou(statistics: Statistics, head: tuple[int, str], part: str) -> float | None:
    value = head_miou(statistics, head, part)
    return None if math.isnan(value) else value


def _final_ms(results: Sequence[ResultSummary], measured_ms: float | None) -> float:
    """Mean latency of the final exit: as at the search, else as measured now."""
    at_search = results[0].reference.mean_ms if results else measured_ms
    return at_search or math.nan


def _rates(router: Router | None, row: FrontRow) -> tuple[float, ...]:
    """Share of the report images (all, if there are none) that leaves at each exit."""
    if router is None:
        return ()
    return router(row.configuration).exit_rates(report_images(router.statistics))


def _front_command(setup: Setup, row: FrontRow) -> str:
    """Finds a point of the front again (or a better one) and exports it."""
    budget = rounded_up(row.calibration.mean_ms)
    early = len(row.configuration.exits) - 1
    limits = ("--max-latency-ms", budget, "--max-early-exits", str(early))
    search = setup.command("search", *limits)
    return f"{search} && {setup.command('export', '--choice', f'mean_ms{budget}')}"


def rounded_up(value: float) -> str:
    """A number with six digits, never less: a budget below a latency would miss it."""
    scale = 10.0 ** (5 - math.floor(math.log10(max(value, 1e-9))))
    return f"{math.ceil(value * scale) / scale:g}"
