"""The report's charts, drawn by matplotlib for slides and papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mess_tf.reporting.charts.axes import Axis
from mess_tf.reporting.charts.bars import BarChart
from mess_tf.reporting.charts.radar import RadarChart, RadarCurve
from mess_tf.reporting.charts.scatter import (
    HEIGHT,
    WIDTH,
    PointLabel,
    ScatterChart,
    Series,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

KIND_COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7")
EXIT_COLOURS = ("#9ec5f4", "#5598e7", "#256abf", "#104281")
PALETTES = {"kinds": KIND_COLOURS, "exits": EXIT_COLOURS}
MARK = "#d95926"
_BLUE, _GREY, _INK = "#2a78d6", "#8a8984", "#1d1d1b"

_UNITS_PER_INCH = 100
_POINTS = 72 / _UNITS_PER_INCH
"""Typographic points of a chart unit."""


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a window, and nothing of pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e5e0", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def draw_scatter(chart: ScatterChart) -> Figure:
    """A chart of latency against mIoU."""
    figure, axes = _axes(WIDTH / _UNITS_PER_INCH, HEIGHT / _UNITS_PER_INCH)
    axes.set(
        xlabel=chart.x.label,
        ylabel=chart.y.label,
        title=chart.title,
        xscale="log" if chart.x.logarithmic else "linear",
        xlim=(chart.x.low, chart.x.high),
        ylim=(chart.y.low, chart.y.high),
    )
    _set_ticks(axes.xaxis, chart.x)
    _set_ticks(axes.yaxis, chart.y)
    for series in chart.series:
        _draw_series(axes, series)
    for label in chart.labels:
        _draw_label(axes, chart, label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _set_ticks(drawn: DrawnAxis, axis: Axis) -> None:
    drawn.set_ticks(list(axis.ticks), [f"{mark:g}" for mark in axis.ticks])
    drawn.set_ticks([], minor=True)


def _draw_series(axes: Axes, series: Series) -> None:
    colour = KIND_COLOURS[series.group % len(KIND_COLOURS)]
    marker, line, face = {
        "static exit": ("o", "-", "#d0cfca"),
        "calibration": ("o", "--", "white"),
        "report": ("o", "-", _BLUE),
        "final exit": ("D", "-", MARK),
        "compared": ("o", "-", colour),
    }[series.role]
    edge = {"static exit": "#d0cfca", "calibration": _GREY}.get(series.role, face)
    if series.line:
        xs, ys = zip(*series.line, strict=True)
        axes.plot(xs, ys, line, color=edge, linewidth=1.5)
    results = series.role == "report"
    axes.scatter(
        [point.x for point in series.points],
        [point.y for point in series.points],
        36,
        marker=marker,
        facecolors=face,
        edgecolors=[MARK if p.result and results else edge for p in series.points],
        linewidths=[2.0 if p.result and results else 1.2 for p in series.points],
        label=series.name,
        zorder=3,
    )


def _draw_label(axes: Axes, chart: ScatterChart, label: PointLabel) -> None:
    compared = any(series.role == "compared" for series in chart.series)
    colour = KIND_COLOURS[label.group % len(KIND_COLOURS)] if compared else _INK
    axes.annotate(
        label.text,
        (label.x, label.y),
        (label.dx * _POINTS, -label.dy * _POINTS),
        textcoords="offset points",
        ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
        va="baseline",
        color=colour,
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": _GREY, "shrinkB": 5}
        if label.leader
        else None,
    )


def draw_bars(chart: BarChart) -> Figure:
    """Stacked horizontal bars."""
    figure, axes = _axes(8, 0.9 + 0.35 * len(chart.bars))
    palette = PALETTES[chart.palette]
    for y, bar in enumerate(chart.bars):
        left = 0.0
        for segment in bar.segments:
            number = min(segment.colour, len(palette) - 1)
            axes.barh(
                y, segment.value, left=left, color=palette[number], edgecolor="white"
            )
            if segment.text and segment.value > 0.08 * chart.length:
                axes.text(
                    left + segment.value / 2,
                    y,
                    segment.text,
                    ha="center",
                    va="center",
                    color="black" if number < 2 else "white",
                )
            left += segment.value
    axes.set_yticks(range(len(chart.bars)), [bar.label for bar in chart.bars])
    axes.invert_yaxis()
    axes.set_xlabel(chart.axis)
    if chart.legend:
        from matplotlib.patches import Patch

        colours = zip(chart.legend, palette, strict=True)
        figure.legend(
            handles=[Patch(color=colour, label=name) for name, colour in colours],
            loc="outside upper right",
            ncols=len(palette),
            frameon=False,
        )
    return figure


def draw_radar(chart: RadarChart) -> Figure:
    """One radar chart with its legend."""
    figure, (axes,) = _polar_axes(1)
    _draw_radar(axes, chart)
    axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1.1), frameon=False)
    return figure


def draw_radars(charts: Sequence[RadarChart], titles: Sequence[str]) -> Figure:
    """Radar charts side by side, each with a title and a legend of speed-ups."""
    figure, row = _polar_axes(len(charts))
    for axes, chart, title in zip(row, charts, titles, strict=True):
        _draw_radar(axes, chart)
        axes.set_title(title, pad=28)
        axes.legend(
            title="speed-up: mIoU",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=3,
            frameon=False,
            fontsize=8,
        )
    return figure


def _polar_axes(count: int) -> tuple[Figure, Sequence[PolarAxes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * count, 5.2), layout="constrained")
    axes = figure.subplots(1, count, subplot_kw={"projection": "polar"}, squeeze=False)
    return figure, axes[0]


def _draw_radar(axes: PolarAxes, chart: RadarChart) -> None:
    angles = chart.angles
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    for curve in chart.curves:
        # A class without IoU (it does not occur) is drawn as nothing, not as zero.
        closed = 100 * np.append(curve.values, curve.values[:1])
        around = np.append(angles, angles[:1])
        axes.plot(around, closed, color=_curve_colour(curve), label=curve.legend)
    axes.set_xticks(angles, list(chart.spokes), fontsize=8)
    axes.tick_params(axis="x", pad=8)
    axes.grid(color="#dddcd6")
    axes.spines["polar"].set_color("#dddcd6")
    axes.set_ylim(0, 100)
    axes.set_rlabel_position(180 / max(len(angles), 1))  # between the first two spokes
    axes.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100 %"], fontsize=7)


def _curve_colour(curve: RadarCurve) -> str:
    import matplotlib
    from matplotlib.colors import to_hex

    if curve.role == "network":
        return MARK
    if curve.role == "exit":
        return EXIT_COLOURS[min(curve.position, len(EXIT_COLOURS) - 1)]
    return to_hex(matplotlib.colormaps["viridis"](0.85 * curve.shade))
