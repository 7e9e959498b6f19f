"""Writes the report of one or several runs: the page and the figures beside it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mess_tf.core.files import write_atomically
from mess_tf.reporting.anytime import write_deadlines
from mess_tf.reporting.build_report import build_report
from mess_tf.reporting.illustrate import (
    IllustratedReport,
    OpenPieces,
    illustrate,
    open_piece_runner,
)
from mess_tf.reporting.operators import write_operators
from mess_tf.reporting.records import MissingPart
from mess_tf.reporting.side_by_side import side_by_side
from mess_tf.reporting.speedups import TIME_LIMIT_S
from mess_tf.runs import Run
from mess_tf.terminal.progress import progress


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made.

    Attributes:
        figures: write every figure as a file, too, which takes seconds.
        speedup_time_limit_s: for each search of Fig. 7.
        open_pieces: gives what runs the pieces on the sample images.
    """

    figures: bool = True
    speedup_time_limit_s: float = TIME_LIMIT_S
    open_pieces: OpenPieces = open_piece_runner


@dataclass(frozen=True)
class WrittenReport:
    """Files of a report.

    Attributes:
        page: the HTML file.
        figures: files of the figures.
        reports: per run its figures and sample images.
    """

    page: Path
    figures: tuple[Path, ...]
    reports: tuple[IllustratedReport, ...]

    @property
    def missing(self) -> list[MissingPart]:
        """Parts that are not there yet, of all runs."""
        return [part for one in self.reports for part in one.report.missing]


def write_report(
    runs: Sequence[Run], page: Path, options: ReportOptions | None = None
) -> WrittenReport:
    """Writes one page with everything found in the runs, and the figures.

    Args:
        runs: the opened run folders; images of the first are shown of all.
        page: HTML file to write.
        options: None takes the defaults.

    Raises:
        MessError: a run is not trained yet, a file in it is broken, or one cannot be
            written.
    """
    from mess_tf.reporting.figures.write import write_figures, write_side_by_side
    from mess_tf.reporting.page.render import render_page

    options = options or ReportOptions()
    figures: list[Path] = []
    reports: list[IllustratedReport] = []
    with progress("Report", 2 * len(runs) + 1) as step:
        for run in runs:
            now = datetime.datetime.now(datetime.UTC)
            report = build_report(run, now, options.speedup_time_limit_s)
            first = reports[0] if reports else None
            reports.append(illustrate(run, report, first, options.open_pieces))
            step(1)
            if options.figures:
                figures += write_figures(reports[-1], run.folder / "report")
                figures += write_operators(report.operators, run.folder / "report")
                figures += write_deadlines(report.deadlines, run.folder / "report")
            step(1)
        rows = side_by_side(reports)
        if options.figures:
            figures += write_side_by_side(rows, runs[0].folder / "report")
        with write_atomically(page) as temporary:
            temporary.write_text(render_page(reports, rows), encoding="utf-8")
        step(1)
    return WrittenReport(page, tuple(figures), tuple(reports))
