"""Radar charts as inline SVG that CSS colours."""

from __future__ import annotations

from html import escape

import numpy as np

from mess_tf.reporting.charts.radar import RadarChart, RadarCurve

WIDTH, HEIGHT, RADIUS = 440.0, 320.0, 132.0
_MIDDLE = (WIDTH / 2, HEIGHT / 2)

EXIT_COLOURS = 4
"""CSS classes ``e0`` to ``e3``; deeper exits look like the last."""

SPEEDUP_COLOURS = 9
"""CSS classes ``s0`` to ``s8``."""


def radar_svg(chart: RadarChart) -> str:
    """The chart as an ``svg`` element."""
    angles = chart.angles
    parts = []
    for level in (0.25, 0.5, 0.75, 1.0):
        rim = " ".join(_at(angle, level) for angle in angles)
        parts.append(f'<polygon class="grid" points="{rim}"/>')
        if level == 1.0:  # the rim is where the names are
            continue
        x, y = _MIDDLE
        parts.append(
            f'<text class="level" x="{x + 3:.1f}" y="{y - level * RADIUS - 2:.1f}">'
            f"{level:.0%}</text>"
        )
    for angle, name in zip(angles, chart.spokes, strict=True):
        parts.append(_spoke(angle, name))
    for curve, titles in zip(chart.curves, chart.point_titles, strict=True):
        parts += _curve(curve, angles, titles)
    return (
        f'<svg class="radar" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="{escape(chart.title)}">{"".join(parts)}</svg>'
    )


def exit_css(position: int) -> str:
    """CSS class of the exit at a position of a configuration."""
    return f"e{min(position, EXIT_COLOURS - 1)}"


def speedup_css(shade: float) -> str:
    """CSS class of a speed-up, by its place among those that are shown."""
    return f"s{round(shade * (SPEEDUP_COLOURS - 1))}"


def _curve(curve: RadarCurve, angles: np.ndarray, titles: list[str]) -> list[str]:
    css = {
        "exit": exit_css(curve.position),
        "network": "network",
        "speedup": speedup_css(curve.shade),
    }[curve.role]
    parts = []
    for run in _runs(curve.values):
        points = " ".join(_at(angles[k], curve.values[k]) for k in run)
        shape = "polygon" if len(run) == len(angles) else "polyline"
        parts.append(
            f'<{shape} class="curve {css}" points="{points}"><title>'
            f"{escape(curve.name)}</title></{shape}>"
        )
    for angle, value, title in zip(angles, curve.values, titles, strict=True):
        if np.isfinite(value):
            at_x, at_y = _at(angle, value).split(",")
            parts.append(
                f'<circle class="knot {css}" cx="{at_x}" cy="{at_y}" r="3"><title>'
                f"{escape(title)}</title></circle>"
            )
    return parts


def _at(angle: float, share: float) -> str:
    x, y = _MIDDLE
    return (
        f"{x + share * RADIUS * np.sin(angle):.1f},"
        f"{y - share * RADIUS * np.cos(angle):.1f}"
    )


def _spoke(angle: float, name: str) -> str:
    x, y = _at(angle, 1.0).split(",")
    end_x, end_y = (float(v) for v in _at(angle, 1.08).split(","))
    across = np.sin(angle)
    anchor = "middle" if abs(across) < 0.2 else "start" if across > 0 else "end"
    down = 4 - 6 * np.cos(angle)
    return (
        f'<line class="grid" x1="{_MIDDLE[0]}" y1="{_MIDDLE[1]}" x2="{x}" y2="{y}"/>'
        f'<text x="{end_x:.1f}" y="{end_y + down:.1f}" text-anchor="{anchor}">'
        f"{escape(name)}</text>"
    )


def _runs(values: np.ndarray) -> list[list[int]]:
    """Stretches of neighbouring spokes that have a value, around the circle."""
    there = np.isfinite(values)
    if there.all():
        return [list(range(len(values)))]
    gap = int(np.flatnonzero(~there)[0])
    order = [(gap + k) % len(values) for k in range(len(values))]
    runs: list[list[int]] = [[]]
    for k in order:
        if there[k]:
            runs[-1].append(k)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
