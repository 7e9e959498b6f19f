"""Scatter charts as inline SVG that CSS colours; points can be chosen."""

from __future__ import annotations

from html import escape

from mess_tf.reporting.charts.scatter import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    ChartPoint,
    PointLabel,
    ScatterChart,
    Series,
)

MOST_COLOURS = 8
"""Of the page's CSS, ``c0`` to ``c7``; further groups repeat them."""

_POINT_CSS = {
    "static exit": "head",
    "calibration": "dot cal",
    "report": "dot rep",
    "final exit": "final",
}
_LINE_CSS = {"calibration": "cal", "report": "rep"}
_RADII = {"static exit": 4.0, "compared": 4.5}


def scatter_svg(chart: ScatterChart) -> str:
    """The chart as an ``svg`` element.

    A point carries ``data-configuration``, the index of what it chooses.
    """
    parts = _frame(chart)
    for series in chart.series:
        parts += _line(chart, series)
    for series in chart.series:
        parts += [_point(chart, series, point) for point in series.points]
    for label in chart.labels:
        parts += _label(chart, label)
    chooses = any(
        point.configuration is not None
        for series in chart.series
        for point in series.points
    )
    return (
        f'<svg class="scatter" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
        f' role="{"group" if chooses else "img"}"'
        f' aria-label="{escape(chart.title)}">{"".join(parts)}</svg>'
    )


def _frame(chart: ScatterChart) -> list[str]:
    """Grid, numbers and titles of the axes."""
    low, high = HEIGHT - BOTTOM, TOP
    parts = []
    for mark in chart.y.ticks:
        _, y = chart.position(chart.x.low, mark)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}"'
            f' y2="{y:.1f}"/><text x="{LEFT - 8}" y="{y:.1f}" dy=".35em"'
            f' text-anchor="end">{mark:g}</text>'
        )
    for mark in chart.x.ticks:
        x, _ = chart.position(mark, chart.y.low)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{low}" y2="{high}"/>'
            f'<text x="{x:.1f}" y="{low + 25}" text-anchor="middle">{mark:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        f'{escape(chart.x.label)}</text><text class="axis" transform="translate(16'
        f' {(low + high) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y.label)}</text>"
    )
    return parts


def _line(chart: ScatterChart, series: Series) -> list[str]:
    if not series.line:
        return []
    css = _LINE_CSS.get(series.role, f"{_group_css(series.group)} whole")
    corners = (chart.position(x, y) for x, y in series.line)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return [f'<polyline class="{css}" points="{points}"/>']


def _point(chart: ScatterChart, series: Series, point: ChartPoint) -> str:
    x, y = chart.position(point.x, point.y)
    css = _POINT_CSS.get(series.role, f"{_group_css(series.group)} spot")
    title = f"<title>{escape(point.title)}</title>"
    if series.role == "final exit" or point.final:
        size = 7 if point.final else 8
        return (
            f'<path class="{css}" d="M{x:.1f} {y - size:.1f}l{size} {size}l-{size}'
            f' {size}l-{size} -{size}z">{title}</path>'
        )
    extra = ""
    if point.configuration is not None:
        extra = f' data-configuration="{point.configuration}"'
    if point.focusable:
        extra += ' tabindex="0" role="button"'
    radius = _RADII.get(series.role, 6.0)
    return (
        f'<circle class="{css}{" result" if point.result else ""}"{extra}'
        f' cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{title}</circle>'
    )


def _label(chart: ScatterChart, label: PointLabel) -> list[str]:
    x, y = chart.position(label.x, label.y)
    text = (
        f'<text class="name" x="{x + label.dx:.1f}" y="{y + label.dy:.1f}"'
        f' text-anchor="{label.anchor}">{escape(label.text)}</text>'
    )
    if not label.leader:
        return [text]
    # From the rim of the point to the near side of the text.
    begin, end = (8, -14) if label.dy > 0 else (-8, 5)
    leader = (
        f'<line class="leader" x1="{x:.1f}" x2="{x:.1f}" y1="{y + begin:.1f}"'
        f' y2="{y + label.dy + end:.1f}"/>'
    )
    return [leader, text]


def _group_css(group: int) -> str:
    return f"c{group % MOST_COLOURS}"
