"""Radar charts of the IoU per class: a spoke per class, a closed curve per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mess_tf.reporting.configuration_records import (
    ReportedConfiguration,
    SpeedupPoint,
)
from mess_tf.reporting.configurations import NETWORK
from mess_tf.reporting.speedups import SEARCHED, UNIFORM
from mess_tf.reporting.text import percent

MOST_SPOKES = 24
"""More names than that cannot be read around a circle."""

HEADS_TITLES = {UNIFORM: "FCN heads everywhere", SEARCHED: "searched heads"}

Role = Literal["exit", "network", "speedup"]


@dataclass(frozen=True, eq=False)
class RadarCurve:
    """A curve of a radar chart.

    Attributes:
        name: of what it shows.
        legend: the name, with a figure where the legend tells one.
        values: float64 array of shape (S,), IoU in 0..1 by spoke; NaN where a class
            does not occur, which leaves the curve open there.
        role: what it shows; decides how it is drawn.
        position: of an exit in its configuration.
        shade: of a speed-up, 0 the slowest, 1 the fastest.
    """

    name: str
    legend: str
    values: np.ndarray
    role: Role
    position: int = 0
    shade: float = 0.0


@dataclass(frozen=True, eq=False)
class RadarChart:
    """IoU per class as radius, 0 in the middle and 100 % at the rim.

    Attributes:
        title: what it shows.
        spokes: names of the S classes shown, clockwise from the top.
        curves: in the order in which they are drawn.
    """

    title: str
    spokes: tuple[str, ...]
    curves: tuple[RadarCurve, ...]

    @property
    def angles(self) -> np.ndarray:
        """float64 array of shape (S,): radians from the top, clockwise."""
        return 2 * np.pi * np.arange(len(self.spokes)) / max(len(self.spokes), 1)

    @property
    def point_titles(self) -> list[list[str]]:
        """Per curve and spoke the curve's name, the class and its IoU."""
        return [
            [
                f"{curve.name}, {name}: {percent(value)}"
                for name, value in zip(self.spokes, curve.values, strict=True)
            ]
            for curve in self.curves
        ]


def exit_radar(reported: ReportedConfiguration, classes: Sequence[str]) -> RadarChart:
    """IoU per class of every exit of a configuration alone, and of the network.

    Args:
        reported: the configuration.
        classes: names of the C classes.
    """
    chosen = shown_classes(reported.iou, classes)
    curves: list[RadarCurve] = []
    for name, values in reported.iou.items():
        if name != NETWORK:
            position = len(curves)
            curves.append(RadarCurve(name, name, values[chosen], "exit", position))
    if len(curves) > 1:
        name, values = "the network", reported.iou[NETWORK]
        curves.append(RadarCurve(name, name, values[chosen], "network"))
    return RadarChart(
        f"IoU per class of {reported.name}, exit by exit",
        tuple(classes[c] for c in chosen),
        tuple(curves),
    )


def speedup_radar(
    points: Sequence[SpeedupPoint], heads: str, classes: Sequence[str]
) -> RadarChart:
    """Fig. 7: IoU per class of one kind of heads for growing speed-ups.

    Args:
        points: of both kinds of heads.
        heads: ``uniform`` or ``searched``.
        classes: names of the C classes.
    """
    here = [point for point in points if point.heads == heads]
    chosen = shown_classes({f"{p.speedup}": p.iou for p in here}, classes)
    return RadarChart(
        f"IoU per class: {HEADS_TITLES[heads]}",
        tuple(classes[c] for c in chosen),
        tuple(
            RadarCurve(
                name=f"{point.speedup:g}×",
                legend=f"{point.speedup:g}×: {point.miou:.1%}",
                values=point.iou[chosen],
                role="speedup",
                shade=speedup_shade(points, point.speedup),
            )
            for point in here
        ),
    )


def speedup_shade(points: Sequence[SpeedupPoint], speedup: float) -> float:
    """Place of a speed-up among those that are shown, from 0 to 1."""
    speedups = sorted({point.speedup for point in points})
    return speedups.index(speedup) / max(len(speedups) - 1, 1)


def shown_classes(
    curves: Mapping[str, np.ndarray], classes: Sequence[str]
) -> list[int]:
    """Classes that get a spoke: those that occur, in their order, at most 24.

    Of more, those between whose curves the difference is largest.

    Args:
        curves: float64 arrays of shape (C,) by name, NaN where a class does not occur.
        classes: names of the C classes.
    """
    if not curves:
        return []
    table = np.stack(list(curves.values()))
    there = [c for c in range(len(classes)) if np.isfinite(table[:, c]).any()]
    if len(there) <= MOST_SPOKES:
        return there
    spread = np.nanmax(table[:, there], axis=0) - np.nanmin(table[:, there], axis=0)
    largest = np.argsort(-spread, kind="stable")[:MOST_SPOKES]
    return sorted(there[i] for i in largest.tolist())
