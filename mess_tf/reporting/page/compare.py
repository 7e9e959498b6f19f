"""Several devices, precisions or runs in one chart, each with its front."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mess_tf.reporting.page.axes import HEIGHT, WIDTH, Axes, frame, line
from mess_tf.reporting.page.front import head_point
from mess_tf.reporting.page.text import ms, percent
from mess_tf.reporting.records import Target

MOST_COLOURS = 8
"""Of the page's CSS, ``c0`` to ``c7``; further targets repeat them."""


def compare_svg(targets: Sequence[Target], labels: Sequence[str]) -> str:
    """The configurations of all targets on the part that is reported.

    Args:
        targets: with at least one configuration each.
        labels: their names.
    """
    points = [[(v.shown.mean_ms, v.shown.miou) for v in t.views] for t in targets]
    finals = [None if t.final is None else head_point(t.final) for t in targets]
    every = [p for group in points for p in group] + [p for p in finals if p]
    axes = Axes([x for x, _ in every], [y for _, y in every])
    parts = frame(axes)
    for k, (target, label) in enumerate(zip(targets, labels, strict=True)):
        css = f"c{k % MOST_COLOURS}"
        parts += line(axes, sorted(points[k]), f"{css} whole")
        for view, (x, y) in zip(target.views, points[k], strict=True):
            title = f"{label}, {view.name}: {ms(x)}, mIoU {percent(y)}"
            parts.append(
                f'<circle class="{css} spot" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}"'
                f' r="4.5"><title>{escape(title)}</title></circle>'
            )
        final = finals[k]
        if final is not None:
            x, y = axes.x(final[0]), axes.y(final[1])
            title = f"{label}, final exit alone: {ms(final[0])}"
            parts.append(
                f'<path class="{css} spot" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z">'
                f"<title>{escape(title)}</title></path>"
            )
    return (
        f'<svg class="front" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="All targets compared">{"".join(parts)}</svg>'
    )
