"""The report's scatter charts: Pareto front, compared deployments, exits alone."""

from __future__ import annotations

from collections.abc import Sequence

from mess_tf.core.pareto import pareto_indices
from mess_tf.reporting.charts.axes import linear_axis, logarithmic_axis
from mess_tf.reporting.charts.scatter import (
    ChartPoint,
    LabelRequest,
    ScatterChart,
    Series,
    place_labels,
)
from mess_tf.reporting.configuration_records import (
    ConfigurationFigures,
    ReportedConfiguration,
)
from mess_tf.reporting.records import Deployment, ExitRow, HeadFigures
from mess_tf.reporting.text import configuration_text, ms, percent

MEAN_LATENCY, MIOU = "mean latency, ms", "mIoU, %"


def front_chart(deployment: Deployment) -> ScatterChart:
    """All configurations on both parts of the images, and every head alone.

    The axes hold the configurations and the final exit; slower or less accurate heads
    are left out. A point chooses its configuration by the index in
    ``deployment.configurations``.
    """
    configurations = deployment.configurations
    calibration = [(one, one.calibration) for one in configurations]
    report = [(one, one.report) for one in configurations if one.report is not None]
    unbeaten = pareto_indices(
        [figures.mean_ms for _, figures in calibration],
        [figures.miou for _, figures in calibration],
    )
    front = [configurations[k] for k in unbeaten]
    final = None if deployment.final is None else head_point(deployment.final)
    shown = [(f.mean_ms, 100 * f.miou) for _, f in [*calibration, *report]]
    if final is not None:
        shown.append((final.x, final.y))
    x = logarithmic_axis(MEAN_LATENCY, [value for value, _ in shown])
    y = linear_axis(MIOU, [value for _, value in shown])
    heads = [head_point(head) for head in deployment.heads if not head.final]
    static = tuple(
        point
        for point in heads
        if point is not None and x.holds(point.x) and y.holds(point.y)
    )
    series = [
        Series("static exit", "one static exit", static),
        Series(
            "calibration",
            "configuration, calibration part",
            _points(calibration, configurations, focusable=not report),
            _line([figures for one, figures in calibration if one in front]),
        ),
        Series(
            "report",
            "configuration, report part",
            _points(report, configurations, focusable=True),
            # By latency on this part, whose order need not be the other's.
            _line([figures for one, figures in report if one in front]),
        ),
    ]
    requests = [
        LabelRequest(one.name, one.shown.mean_ms, 100 * one.shown.miou)
        for one in configurations
        if one.result is not None
    ]
    if final is not None:
        series.append(Series("final exit", "final exit", (final,)))
        requests.append(LabelRequest("final exit", final.x, final.y, above=True))
    return ScatterChart(
        title=f"Pareto front of {deployment.precision} on {deployment.device}",
        x=x,
        y=y,
        series=tuple(one for one in series if one.points),
        labels=place_labels(x, y, requests),
    )


def comparison_chart(
    deployments: Sequence[Deployment], labels: Sequence[str]
) -> ScatterChart:
    """The configurations of all deployments on the part that is reported.

    Args:
        deployments: with at least one configuration each.
        labels: their names.
    """
    series = []
    for group, (deployment, label) in enumerate(zip(deployments, labels, strict=True)):
        points = [
            ChartPoint(
                x=one.shown.mean_ms,
                y=100 * one.shown.miou,
                title=f"{label}, {one.name}: {ms(one.shown.mean_ms)}, mIoU"
                f" {percent(one.shown.miou)}",
            )
            for one in deployment.configurations
        ]
        line = _line([one.shown for one in deployment.configurations])
        final = None if deployment.final is None else head_point(deployment.final)
        if final is not None:
            title = f"{label}, final exit alone: {ms(final.x)}"
            points.append(ChartPoint(final.x, final.y, title, final=True))
        series.append(Series("compared", label, tuple(points), line, group))
    every = [point for one in series for point in one.points]
    return ScatterChart(
        title="All devices and precisions compared",
        x=logarithmic_axis(MEAN_LATENCY, [point.x for point in every]),
        y=linear_axis(MIOU, [point.y for point in every]),
        series=tuple(series),
    )


def exits_chart(table: Sequence[ExitRow]) -> ScatterChart | None:
    """The best head of every exit point, a series per precision.

    Returns:
        None where no latency or no mIoU is known.
    """
    series, requests = [], []
    precisions = dict.fromkeys(p for row in table for p in row.best)
    for group, precision in enumerate(precisions):
        heads = [row.best[precision] for row in table if precision in row.best]
        points = []
        for head in heads:
            point = head_point(head)
            if point is not None:
                points.append(point)
                name = f"{head.exit}{'*' if head.final else ''}"
                requests.append(LabelRequest(name, point.x, point.y, group=group))
        line = tuple((point.x, point.y) for point in points)
        if points:
            series.append(Series("compared", precision, tuple(points), line, group))
    every = [point for one in series for point in one.points]
    if not every:
        return None
    x = linear_axis("latency of leaving there, ms", [point.x for point in every])
    y = linear_axis(MIOU, [point.y for point in every])
    return ScatterChart(
        title="Best head per exit (* the final exit)",
        x=x,
        y=y,
        series=tuple(series),
        labels=place_labels(x, y, requests),
    )


def head_point(head: HeadFigures) -> ChartPoint | None:
    """A head alone, on the part that is reported; None while it is not known."""
    miou = head.miou_calibration if head.miou_report is None else head.miou_report
    if head.latency_ms is None or miou is None:
        return None
    name = "final exit alone" if head.final else f"static exit {head.exit} {head.head}"
    separator = ", mIoU" if head.final else ","
    title = f"{name}: {ms(head.latency_ms)}{separator} {percent(miou)}"
    return ChartPoint(head.latency_ms, 100 * miou, title)


def _points(
    rows: Sequence[tuple[ReportedConfiguration, ConfigurationFigures]],
    configurations: Sequence[ReportedConfiguration],
    *,
    focusable: bool,
) -> tuple[ChartPoint, ...]:
    return tuple(
        ChartPoint(
            x=figures.mean_ms,
            y=100 * figures.miou,
            title=f"{one.name}: {ms(figures.mean_ms)}, mIoU {percent(figures.miou)} on"
            f" the {'calibration' if figures is one.calibration else 'report'} part\n"
            f"{configuration_text(figures.exits, figures.exit_rates)}",
            configuration=configurations.index(one),
            # Both points of a configuration choose it; the keyboard needs one only.
            focusable=focusable,
            result=one.result is not None,
        )
        for one, figures in rows
    )


def _line(rows: Sequence[ConfigurationFigures]) -> tuple[tuple[float, float], ...]:
    points = sorted((figures.mean_ms, 100 * figures.miou) for figures in rows)
    return tuple(points) if len(points) > 1 else ()
