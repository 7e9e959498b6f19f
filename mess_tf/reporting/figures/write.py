"""Every figure as files: charts as PNG and SVG, sheets of pictures as PNG, CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mess_tf.core.files import write_atomically
from mess_tf.reporting.charts.bars import result_latency_chart, result_rates_chart
from mess_tf.reporting.charts.latency_accuracy import exits_chart, front_chart
from mess_tf.reporting.charts.radar import HEADS_TITLES, exit_radar, speedup_radar
from mess_tf.reporting.configuration_records import ReportedConfiguration
from mess_tf.reporting.figures import supplement, tables
from mess_tf.reporting.figures.drawings import (
    draw_bars,
    draw_radar,
    draw_radars,
    draw_scatter,
)
from mess_tf.reporting.gallery import Gallery
from mess_tf.reporting.illustrate import IllustratedReport
from mess_tf.reporting.records import Deployment, ExitRow, RunReport
from mess_tf.reporting.side_by_side import SideBySide
from mess_tf.runs import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figures(illustrated: IllustratedReport, folder: Path) -> list[Path]:
    """Writes every figure that there is something to draw for.

    Args:
        illustrated: the report with its sample images.
        folder: for the files.

    Returns:
        the files written.

    Raises:
        MessError: a file cannot be written.
    """
    written = []
    report = illustrated.report
    for device, table in report.exits.items():
        written += _of_device(device, table, folder)
    for deployment in report.deployments:
        written += _of_target(report, deployment, folder)
        gallery, reported = (
            illustrated.galleries.get(deployment.precision),
            deployment.featured_configuration,
        )
        if gallery is not None and reported is not None:
            written += _of_gallery(gallery, deployment, reported, folder)
    return written


def write_side_by_side(rows: SideBySide | None, folder: Path) -> list[Path]:
    """Writes Fig. 8, where there are runs to compare."""
    if rows is None:
        return []
    return _pictures(folder / "side_by_side", supplement.side_by_side(rows))


def _of_device(device: str, table: Sequence[ExitRow], folder: Path) -> list[Path]:
    base = folder / f"exits_{file_name(device)}"
    written = [_csv(base, tables.exit_lines(table))]
    chart = exits_chart(table)
    if chart is not None:
        written += _charts(base, draw_scatter(chart))
    return written


def _of_gallery(
    gallery: Gallery,
    deployment: Deployment,
    reported: ReportedConfiguration,
    folder: Path,
) -> list[Path]:
    suffix = _suffix(deployment)
    outputs, sure = folder / f"outputs_{suffix}", folder / f"confidence_{suffix}"
    return [
        _csv(outputs, tables.output_lines(gallery, deployment.configurations)),
        *_pictures(outputs, supplement.progressive_outputs(gallery, reported)),
        _csv(sure, tables.confidence_lines(gallery)),
        *_pictures(sure, supplement.confidence_maps(gallery, reported)),
    ]


def _of_target(report: RunReport, deployment: Deployment, folder: Path) -> list[Path]:
    suffix = _suffix(deployment)
    written = []
    if deployment.heads:
        written.append(_csv(folder / f"heads_{suffix}", tables.head_lines(deployment)))
    if deployment.front:
        base = folder / f"pareto_{suffix}"
        written.append(_csv(base, tables.front_lines(deployment)))
        written += _charts(base, draw_scatter(front_chart(deployment)))
    if deployment.results:
        base = folder / f"exit_rates_{suffix}"
        written.append(_csv(base, tables.rate_lines(deployment.results)))
        written += _charts(base, draw_bars(result_rates_chart(deployment.results)))
    if any(result.breakdowns for result in deployment.results):
        base = folder / f"latency_{suffix}"
        written.append(_csv(base, tables.breakdown_lines(deployment.results)))
        written += _charts(base, draw_bars(result_latency_chart(deployment.results)))
    reported = deployment.featured_configuration
    if reported is not None:
        base = folder / f"class_iou_{suffix}"
        written.append(
            _csv(base, tables.iou_lines(deployment.configurations, report.classes))
        )
        written += _charts(base, draw_radar(exit_radar(reported, report.classes)))
    if deployment.speedups:
        base = folder / f"speedups_{suffix}"
        written.append(
            _csv(base, tables.speedup_lines(deployment.speedups, report.classes))
        )
        charts = [
            speedup_radar(deployment.speedups, heads, report.classes)
            for heads in HEADS_TITLES
        ]
        titles = list(HEADS_TITLES.values())
        written += _charts(base, draw_radars(charts, titles))
    return written


def _suffix(deployment: Deployment) -> str:
    return f"{file_name(deployment.device)}_{deployment.precision}"


def _csv(base: Path, lines: tables.Lines) -> Path:
    path = base.with_name(base.name + ".csv")
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    return path


def _charts(base: Path, figure: Figure) -> list[Path]:
    """A chart as PNG and SVG."""
    return _save(base, figure, ("png", "svg"))


def _pictures(base: Path, figure: Figure) -> list[Path]:
    """A sheet of photographs as PNG: there are no lines that an SVG would keep."""
    return _save(base, figure, ("png",))


def _save(base: Path, figure: Figure, kinds: Sequence[str]) -> list[Path]:
    written = []
    for kind in kinds:
        path = base.with_name(f"{base.name}.{kind}")
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=150, format=kind)
        figure.set_layout_engine("none")  # found once, it fits the other kind too
        written.append(path)
    return written
