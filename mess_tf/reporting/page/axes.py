"""Axes of the page's charts, latency against mIoU, as SVG that CSS colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 640.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 20.0, 18.0, 62.0


class Axes:
    """Maps milliseconds and mIoU (0..1) to the picture, with round ticks.

    Latency is on a logarithmic scale: equal steps are equal speed-ups, and a slow
    outlier does not press the rest together.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        self.x_low = max(min(x), 1e-6) / 1.06
        self.x_high = max(max(x), 1e-6) * 1.06
        self.x_ticks = log_ticks(self.x_low, self.x_high)
        self.y_low, self.y_high, self.y_ticks = _span([100 * v for v in y])

    def x(self, ms: float) -> float:
        share = math.log(ms / self.x_low) / math.log(self.x_high / self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, miou: float) -> float:
        share = (100 * miou - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def holds(self, ms: float, miou: float) -> bool:
        return (
            self.x_low <= ms <= self.x_high and self.y_low <= 100 * miou <= self.y_high
        )


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers (steps of 1, 2 or 5) from at or below ``low`` to at or above
    ``high``."""
    width = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if width / (s * power) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within ``low`` and ``high`` for a logarithmic scale."""
    if high < 3 * low:  # nearly linear
        return [mark for mark in ticks(low, high) if low <= mark <= high]
    digits = (1, 1.5, 2, 3, 4, 6, 8) if high < 12 * low else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [digit * 10.0**power for power in powers for digit in digits]
    return [mark for mark in marks if low <= mark <= high]


def _span(values: Sequence[float]) -> tuple[float, float, list[float]]:
    low, high = min(values), max(values)
    # Room for the marks; a single value still gets an axis.
    room = max(0.04 * (high - low), 0.01 * abs(high), 1e-6)
    marks = ticks(max(0.0, low - room), high + room)
    return marks[0], marks[-1], marks


def frame(axes: Axes) -> list[str]:
    """Grid, numbers and titles."""
    low, high = HEIGHT - BOTTOM, TOP
    parts = []
    for mark in axes.y_ticks:
        y = axes.y(mark / 100)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}"'
            f' y2="{y:.1f}"/><text x="{LEFT - 8}" y="{y:.1f}" dy=".35em"'
            f' text-anchor="end">{mark:g}</text>'
        )
    for mark in axes.x_ticks:
        x = axes.x(mark)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{low}" y2="{high}"/>'
            f'<text x="{x:.1f}" y="{low + 25}" text-anchor="middle">{mark:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">mean'
        f' latency, ms</text><text class="axis" transform="translate(16'
        f' {(low + high) / 2}) rotate(-90)" text-anchor="middle">mIoU, %</text>'
    )
    return parts


def line(axes: Axes, points: Sequence[tuple[float, float]], css: str) -> list[str]:
    """A line through (ms, mIoU) points; nothing for fewer than two."""
    if len(points) < 2:
        return []
    text = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    return [f'<polyline class="{css}" points="{text}"/>']
