"""Scatter charts of latency against mIoU: series of points, lines and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mess_tf.reporting.charts.axes import Axis

WIDTH, HEIGHT = 640.0, 420.0
"""Of the whole chart, in chart units; a figure on paper has 100 to the inch."""

LEFT, RIGHT, TOP, BOTTOM = 62.0, 20.0, 18.0, 62.0
"""Margins around the axes, chart units."""

Role = Literal["static exit", "calibration", "report", "final exit", "compared"]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class ChartPoint:
    """A point of a series.

    Attributes:
        x, y: in the units of the axes.
        title: shown when the point is pointed at.
        configuration: index of the configuration that it chooses; None chooses none.
        focusable: can be reached by the keyboard.
        result: a search result, not only a point of the front.
        final: the final exit alone.
    """

    x: float
    y: float
    title: str
    configuration: int | None = None
    focusable: bool = False
    result: bool = False
    final: bool = False


@dataclass(frozen=True)
class Series:
    """Points that are drawn alike.

    Attributes:
        role: what the points are; decides how they are drawn.
        name: for the legend.
        points: in any order.
        line: (x, y) of a line through some of them, by rising x; may be empty.
        group: number among several compared series.
    """

    role: Role
    name: str
    points: tuple[ChartPoint, ...]
    line: tuple[tuple[float, float], ...] = ()
    group: int = 0


@dataclass(frozen=True)
class PointLabel:
    """Text beside a point.

    Attributes:
        x, y: of the point, in the units of the axes.
        dx, dy: from the point to the text's anchor on its base line, chart units; y
            grows downwards.
        anchor: which end of the text stands there.
        leader: a line connects text and point, because they are far apart.
        group: of the series that the point belongs to.
    """

    text: str
    x: float
    y: float
    dx: float
    dy: float
    anchor: Anchor
    leader: bool
    group: int = 0


@dataclass(frozen=True)
class ScatterChart:
    """A chart of latency against mIoU.

    Attributes:
        title: what it shows.
        x, y: the axes.
        series: in the order in which they are drawn.
        labels: of single points; none overlaps another one.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    labels: tuple[PointLabel, ...] = ()

    def position(self, x: float, y: float) -> tuple[float, float]:
        """A point in chart units, from the upper left corner."""
        return position(self.x, self.y, x, y)


@dataclass(frozen=True)
class LabelRequest:
    """A point that wants a label, above or below it."""

    text: str
    x: float
    y: float
    above: bool = False
    group: int = 0


def position(x_axis: Axis, y_axis: Axis, x: float, y: float) -> tuple[float, float]:
    """A point in chart units, from the upper left corner."""
    return (
        LEFT + x_axis.share(x) * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - y_axis.share(y) * (HEIGHT - TOP - BOTTOM),
    )


LETTER_WIDTH, LETTER_HEIGHT = 12.0, 20.0
"""Of labels on a phone, where letters are largest against the chart."""

_BELOW, _ABOVE = 24.0, -14.0
_LINE = 22.0
_NEAR_SIDE = 90.0
_POINT_RADIUS = 7.0

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, chart units."""


def place_labels(
    x_axis: Axis, y_axis: Axis, requests: Sequence[LabelRequest]
) -> tuple[PointLabel, ...]:
    """Labels that do not cover one another, nor other points where there is room.

    Points at the same place share one label. From left to right, each label goes to the
    first free line below its point (or above, as asked), else to the other side.
    """
    merged = _merged(x_axis, y_axis, requests)
    spots = [position(x_axis, y_axis, r.x, r.y) for r in merged]
    texts: list[Box] = []
    leaders: list[Box] = []
    labels = []
    for number, (request, spot) in enumerate(zip(merged, spots, strict=True)):
        anchor, dx = _anchor(spot[0])
        points = [_around(*other) for k, other in enumerate(spots) if k != number]
        shifts = _shifts(request.above, spot[1])
        # Best without touching anything; at least without covering another text.
        free = [
            dy
            for dy in shifts
            if not _collide([_text_at(request.text, spot, dx, dy)], texts)
        ]
        clear = [
            dy
            for dy in free
            if not _collide([_text_at(request.text, spot, dx, dy)], [*leaders, *points])
            and not _collide(_leader(spot, dy), [*texts, *points])
        ]
        dy = next(iter([*clear, *free, *shifts]))
        texts.append(_text_at(request.text, spot, dx, dy))
        leaders += _leader(spot, dy)
        labels.append(
            PointLabel(
                text=request.text,
                x=request.x,
                y=request.y,
                dx=dx,
                dy=dy,
                anchor=anchor,
                leader=bool(_leader(spot, dy)),
                group=request.group,
            )
        )
    return tuple(labels)


def _text_at(text: str, point: tuple[float, float], dx: float, dy: float) -> Box:
    anchor, _ = _anchor(point[0])
    return text_box(text, point[0] + dx, point[1] + dy, anchor)


def _leader(point: tuple[float, float], dy: float) -> list[Box]:
    """Box of the line from a point to its text; none where they are neighbours."""
    if dy in (_BELOW, _ABOVE):
        return []
    x, y = point
    return [(x - 1, min(y, y + dy), x + 1, max(y, y + dy))]


def text_box(text: str, x: float, y: float, anchor: Anchor) -> Box:
    """Box of a text in a phone's letters, whose anchor is at (x, y)."""
    width = LETTER_WIDTH * len(text)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - 0.8 * LETTER_HEIGHT, left + width, y + 0.2 * LETTER_HEIGHT


def _merged(
    x_axis: Axis, y_axis: Axis, requests: Sequence[LabelRequest]
) -> list[LabelRequest]:
    merged: list[tuple[LabelRequest, list[str]]] = []
    for request in sorted(requests, key=lambda r: r.x):
        spot = position(x_axis, y_axis, request.x, request.y)
        for other, names in merged:
            there = position(x_axis, y_axis, other.x, other.y)
            close = abs(there[0] - spot[0]) < 8 and abs(there[1] - spot[1]) < 8
            if close and other.above == request.above:
                names.append(request.text)
                break
        else:
            merged.append((request, [request.text]))
    return [
        LabelRequest(", ".join(names), r.x, r.y, r.above, r.group)
        for r, names in merged
    ]


def _anchor(x: float) -> tuple[Anchor, float]:
    """Text about ``x``; near a side of the chart it begins or ends there instead."""
    if x < LEFT + _NEAR_SIDE:
        return "start", max(x - 8, LEFT + 4) - x
    if x > WIDTH - RIGHT - _NEAR_SIDE:
        return "end", min(x + 8, WIDTH - RIGHT) - x
    return "middle", 0.0


def _shifts(above: bool, y: float) -> list[float]:
    """Lines for a text from its point: nearest first, the preferred side before.

    Args:
        above: the preferred side.
        y: of the point, chart units.

    Returns:
        those within the axes; the nearest of the preferred side where none is.
    """
    lines = range(int(HEIGHT / _LINE))
    below_lines = [_BELOW + _LINE * k for k in lines]
    above_lines = [_ABOVE - _LINE * k for k in lines]
    first, second = (above_lines, below_lines) if above else (below_lines, above_lines)
    # Two lines further on the preferred side rather than the other side.
    ordered = [*first[:3], *second, *first[3:]]
    within = [
        dy
        for dy in ordered
        if TOP <= y + dy - LETTER_HEIGHT / 2 and y + dy <= HEIGHT - BOTTOM
    ]
    return within or first[:1]


def _around(x: float, y: float) -> Box:
    r = _POINT_RADIUS
    return x - r, y - r, x + r, y + r


def _collide(boxes: Sequence[Box], others: Sequence[Box]) -> bool:
    return any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        for a in boxes
        for b in others
    )
