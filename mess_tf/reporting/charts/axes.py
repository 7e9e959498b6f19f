"""Axes of charts: a range with round ticks, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: quantity and unit.
        low, high: ends of the axis.
        ticks: round numbers within them, rising.
        logarithmic: equal ratios have equal lengths.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Position of a value: 0 at the low end, 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether a value lies within the ends."""
        return self.low <= value <= self.high


def logarithmic_axis(label: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis around positive values.

    For latencies: equal steps are equal speed-ups, and a slow outlier does not press
    the rest together.
    """
    low = max(min(values), 1e-6) / 1.06
    high = max(max(values), 1e-6) * 1.06
    return Axis(label, low, high, tuple(log_ticks(low, high)), logarithmic=True)


def linear_axis(label: str, values: Sequence[float]) -> Axis:
    """A linear axis around values of at least 0, from tick to tick."""
    low, high = min(values), max(values)
    # Room for the marks; a single value still gets an axis.
    room = max(0.04 * (high - low), 0.01 * abs(high), 1e-6)
    marks = ticks(max(0.0, low - room), high + room)
    return Axis(label, marks[0], marks[-1], tuple(marks))


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
