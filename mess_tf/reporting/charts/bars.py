"""Stacked bar charts: latency by kind of piece, and exit rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mess_tf.core.configuration import ExitChoice
from mess_tf.core.latency import KINDS
from mess_tf.reporting.configuration_records import (
    ConfigurationFigures,
    LatencyBreakdown,
    ReportedConfiguration,
    ResultSummary,
)
from mess_tf.reporting.text import ms, percent, rates

Palette = Literal["kinds", "exits"]


@dataclass(frozen=True)
class BarSegment:
    """A part of a bar.

    Attributes:
        value: its length, in the unit of the axis.
        colour: number in the palette.
        title: what it is, with its value.
        text: to be written into it where there is room; may be empty.
    """

    value: float
    colour: int
    title: str
    text: str = ""


@dataclass(frozen=True)
class Bar:
    """A stacked bar.

    Attributes:
        label: what it shows.
        segments: from the left.
        value: the whole, ready to print.
        strong: it is the one that matters most.
    """

    label: str
    segments: tuple[BarSegment, ...]
    value: str
    strong: bool = False


@dataclass(frozen=True)
class BarChart:
    """Stacked bars.

    Attributes:
        axis: quantity and unit.
        length: of the axis, in its unit.
        bars: from the top.
        palette: which colours the segments' numbers mean.
        legend: names of the colours in their order.
    """

    axis: str
    length: float
    bars: tuple[Bar, ...]
    palette: Palette
    legend: tuple[str, ...]


def latency_chart(
    rows: Sequence[tuple[str, LatencyBreakdown]],
) -> BarChart:
    """Latency of paths by kind of piece.

    Args:
        rows: label of the bar, and its breakdown.
    """
    bars = []
    for label, breakdown in rows:
        segments = tuple(
            BarSegment(value, colour, f"{kind}: {ms(value)}")
            for colour, (kind, value) in enumerate(
                zip(KINDS, breakdown.kinds_ms, strict=True)
            )
        )
        strong = breakdown.label == "mean over images"
        bars.append(Bar(label, segments, ms(breakdown.total_ms), strong))
    length = max((breakdown.total_ms for _, breakdown in rows), default=0.0)
    return BarChart("ms", length, tuple(bars), "kinds", KINDS)


def configuration_latency_chart(reported: ReportedConfiguration) -> BarChart:
    """Latency of a configuration's paths, their mean, and the final exit."""
    return latency_chart([(one.label, one) for one in reported.breakdowns])


def result_latency_chart(results: Sequence[ResultSummary]) -> BarChart:
    """Latency of the paths of all search results."""
    return latency_chart(
        [(f"{r.name}: {one.label}", one) for r in results for one in r.breakdowns]
    )


def configuration_rates_chart(reported: ReportedConfiguration) -> BarChart:
    """Exit rates of a configuration on both parts of the images."""
    rows = [
        ("report part", reported.report),
        ("calibration part", reported.calibration),
    ]
    return _rates_chart(
        [(label, figures) for label, figures in rows if figures is not None],
        tuple(f"exit {choice.exit}, {choice.head}" for choice in reported.exits),
    )


def result_rates_chart(results: Sequence[ResultSummary]) -> BarChart:
    """Exit rates of all search results on the part that is reported."""
    return _rates_chart([(result.name, result.chosen) for result in results], ())


def _rates_chart(
    rows: Sequence[tuple[str, ConfigurationFigures]], legend: tuple[str, ...]
) -> BarChart:
    bars = tuple(
        Bar(
            label,
            tuple(
                _rate_segment(position, choice, rate)
                for position, (choice, rate) in enumerate(
                    zip(figures.exits, figures.exit_rates, strict=True)
                )
            ),
            rates(figures.exit_rates, 0),
        )
        for label, figures in rows
    )
    return BarChart(
        "part of the images that leaves there, %", 100.0, bars, "exits", legend
    )


def _rate_segment(position: int, choice: ExitChoice, rate: float) -> BarSegment:
    return BarSegment(
        100 * rate,
        position,
        f"exit {choice.exit}: {percent(rate)}",
        f"exit {choice.exit}: {rate:.0%}",
    )
