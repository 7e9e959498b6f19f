"""The Pareto front as inline SVG: every point can be pointed at and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mess_tf.reporting.page.axes import HEIGHT, LEFT, RIGHT, WIDTH, Axes, frame, line
from mess_tf.reporting.page.text import configuration_text, ms, percent
from mess_tf.reporting.records import Entry, HeadFigure, Target, View

Point = tuple[float, float]


def front_svg(target: Target) -> str:
    """Latency against mIoU: all configurations on both parts, and every head alone.

    A dot carries ``data-view``, the index of its configuration in ``target.views``.
    """
    views = list(enumerate(target.views))
    chosen_by = [(k, view, view.calibration) for k, view in views]
    told = [(k, view, view.report) for k, view in views if view.report is not None]
    final = None if target.final is None else head_point(target.final)
    entries = [entry for _, _, entry in [*chosen_by, *told]]
    shown = [(entry.mean_ms, entry.miou) for entry in entries]
    shown += [final] if final else []
    axes = Axes([x for x, _ in shown], [y for _, y in shown])
    parts = [*frame(axes), *_heads(axes, target.heads)]
    best = _unbeaten(target.views)
    for css, rows in (("cal", chosen_by), ("rep", told)):
        points = [(e.mean_ms, e.miou) for k, _, e in rows if k in best]
        # In order of latency on this part, which need not be that of the other.
        parts += line(axes, sorted(points), css)
    for css, rows in (("cal", chosen_by), ("rep", told)):
        parts += [_dot(axes, k, view, entry, css) for k, view, entry in rows]
    if final is not None and axes.holds(*final):
        parts.append(_final_mark(axes, *final))
    parts += _names(axes, [v for v in target.views if v.answer is not None])
    label = f"Pareto front of {target.precision} on {target.device}"
    return (
        f'<svg class="front" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="group"'
        f' aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _unbeaten(views: Sequence[View]) -> set[int]:
    """Views that no other one beats in both figures, on the calibration part."""
    order = sorted(
        range(len(views)),
        key=lambda k: (views[k].calibration.mean_ms, -views[k].calibration.miou),
    )
    kept: list[int] = []
    for k in order:
        if not kept or views[k].calibration.miou > views[kept[-1]].calibration.miou:
            kept.append(k)
    return set(kept)


def head_point(head: HeadFigure) -> Point | None:
    """(ms, mIoU) of a head alone, on the part that is reported."""
    miou = head.miou_calibration if head.miou_report is None else head.miou_report
    if head.latency_ms is None or miou is None:
        return None
    return head.latency_ms, miou


def _heads(axes: Axes, heads: Sequence[HeadFigure]) -> list[str]:
    parts = []
    for head in heads:
        point = head_point(head)
        if point is None or head.final or not axes.holds(*point):
            continue
        text = f"static exit {head.exit} {head.head}: {ms(point[0])},"
        parts.append(
            f'<circle class="head" cx="{axes.x(point[0]):.1f}"'
            f' cy="{axes.y(point[1]):.1f}" r="4"><title>'
            f"{escape(text)} {percent(point[1])}</title></circle>"
        )
    return parts


def _dot(axes: Axes, index: int, view: View, entry: Entry, css: str) -> str:
    part = "report part" if css == "rep" else "calibration part"
    title = (
        f"{view.name}: {ms(entry.mean_ms)}, mIoU {percent(entry.miou)} on the {part}\n"
        f"{configuration_text(entry.exits, entry.exit_rates)}"
    )
    kinds = f"dot {css}{' answer' if view.answer is not None else ''}"
    # Both dots of a configuration choose it; the keyboard needs one only.
    focus = ' tabindex="0" role="button"' if css == "rep" or not view.report else ""
    return (
        f'<circle class="{kinds}" data-view="{index}"{focus}'
        f' cx="{axes.x(entry.mean_ms):.1f}" cy="{axes.y(entry.miou):.1f}" r="6">'
        f"<title>{escape(title)}</title></circle>"
    )


def _names(axes: Axes, views: Sequence[View]) -> list[str]:
    """Names of the answers, below them; those at the same place share one label."""
    merged: list[tuple[float, float, list[str]]] = []
    for view in sorted(views, key=lambda v: v.shown.mean_ms):
        x, y = axes.x(view.shown.mean_ms), axes.y(view.shown.miou)
        if merged and abs(merged[-1][0] - x) < 8 and abs(merged[-1][1] - y) < 8:
            merged[-1][2].append(view.name)
        else:
            merged.append((x, y, [view.name]))
    parts = []
    for place, (x, y, names) in enumerate(merged):
        # Neighbours take turns between two lines.
        down = 24 + 16 * (place % 2)
        parts.append(_name(x, y + down, ", ".join(names)))
    return parts


def _name(x: float, y: float, text: str) -> str:
    """Text about ``x``; near a side of the chart it begins or ends there instead."""
    near = 90.0  # half of a long name in a phone's larger letters
    anchor, start = "middle", x
    if x < LEFT + near:
        anchor, start = "start", max(x - 8, LEFT + 4)
    elif x > WIDTH - RIGHT - near:
        anchor, start = "end", min(x + 8, WIDTH - RIGHT)
    return (
        f'<text class="name" x="{start:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _final_mark(axes: Axes, final_ms: float, miou: float) -> str:
    x, y = axes.x(final_ms), axes.y(miou)
    return (
        f'<path class="final" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"><title>final'
        f" exit alone: {ms(final_ms)}, mIoU {percent(miou)}</title></path>"
        + _name(x, y - 14, "final exit")
    )
