"""Spider charts as inline SVG: a spoke per class, a closed curve per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from mess_tf.reporting.page.text import percent
from mess_tf.reporting.spider import angles, spokes

WIDTH, HEIGHT, RADIUS = 440.0, 320.0, 132.0
_MIDDLE = (WIDTH / 2, HEIGHT / 2)


def spider_svg(
    curves: Mapping[str, tuple[np.ndarray, str]],
    classes: Sequence[str],
    label: str,
) -> str:
    """IoU per class as radius, 0 in the middle and 100 % at the rim.

    Args:
        curves: by name: float64 array of shape (C,), NaN where a class does not occur,
            and the curve's CSS class.
        classes: names of the C classes.
        label: says what the chart shows.
    """
    kept = spokes({name: values for name, (values, _) in curves.items()}, classes)
    around = angles(len(kept))
    parts = []
    for level in (0.25, 0.5, 0.75, 1.0):
        rim = " ".join(_at(angle, level) for angle in around)
        parts.append(f'<polygon class="grid" points="{rim}"/>')
        if level == 1.0:  # the rim is where the names are
            continue
        x, y = _MIDDLE
        parts.append(
            f'<text class="level" x="{x + 3:.1f}" y="{y - level * RADIUS - 2:.1f}">'
            f"{level:.0%}</text>"
        )
    for angle, c in zip(around, kept, strict=True):
        parts.append(_spoke(angle, classes[c]))
    for name, (values, css) in curves.items():
        # A class without IoU (it does not occur) leaves the curve open there.
        for run in _runs(values[kept]):
            points = " ".join(_at(around[k], values[kept[k]]) for k in run)
            shape = "polygon" if len(run) == len(kept) else "polyline"
            parts.append(
                f'<{shape} class="curve {css}" points="{points}"><title>{escape(name)}'
                f"</title></{shape}>"
            )
        for angle, c in zip(around, kept, strict=True):
            if np.isfinite(values[c]):
                at_x, at_y = _at(angle, values[c]).split(",")
                text = f"{name}, {classes[c]}: {percent(values[c])}"
                parts.append(
                    f'<circle class="knot {css}" cx="{at_x}" cy="{at_y}" r="3"><title>'
                    f"{escape(text)}</title></circle>"
                )
    return (
        f'<svg class="spider" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


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
