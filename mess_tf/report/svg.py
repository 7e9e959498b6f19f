"""The Pareto front as inline SVG, drawn by hand: small, themed by the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mess_tf.records import ExitChoice
from mess_tf.report.records import FrontPoint, HeadFigure, Target

WIDTH, HEIGHT = 640.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 20.0, 18.0, 62.0


class Axes:
    """Maps milliseconds and mIoU (0..1) to the picture, with round ticks."""

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        self.x_low, self.x_high, self.x_ticks = _span(x)
        self.y_low, self.y_high, self.y_ticks = _span([100 * v for v in y])

    def x(self, ms: float) -> float:
        share = (ms - self.x_low) / (self.x_high - self.x_low)
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


def _span(values: Sequence[float]) -> tuple[float, float, list[float]]:
    low, high = min(values), max(values)
    # Room for the marks; a single value still gets an axis.
    room = max(0.04 * (high - low), 0.01 * abs(high), 1e-6)
    marks = ticks(max(0.0, low - room), high + room)
    return marks[0], marks[-1], marks


def configuration_text(exits: Sequence[ExitChoice], rates: Sequence[float]) -> str:
    """``exit 2 fcn_r1_b0, leaves at mean >= 0.93 (61 %) › exit 4 …``."""
    shares: list[float | None] = list(rates) or [None] * len(exits)
    texts = []
    for choice, rate in zip(exits, shares, strict=True):
        rule = (
            f" leaves at {choice.policy} ≥ {choice.threshold:.4g}"
            if choice.policy is not None and choice.threshold is not None
            else ""
        )
        share = "" if rate is None or len(exits) == 1 else f" ({rate:.0%})"
        texts.append(f"exit {choice.exit} {choice.head}{rule}{share}")
    return " › ".join(texts)


def pareto_svg(target: Target) -> str:
    """Latency against mIoU: the front on both parts, all heads alone, the answers."""
    on_report = [p for p in target.front if p.row.report_ms is not None]
    calibration = [
        (p.row.calibration_ms, p.row.calibration_miou, p) for p in target.front
    ]
    report = [
        (p.row.report_ms, p.row.report_miou, p)
        for p in on_report
        if p.row.report_ms is not None and p.row.report_miou is not None
    ]
    answers = [(a.chosen.mean_ms, a.chosen.miou, a) for a in target.answers]
    final = _point(target.final) if target.final else None
    shown = [(x, y) for x, y, _ in [*calibration, *report]]
    shown += [(x, y) for x, y, _ in answers] + ([final] if final else [])
    axes = Axes([x for x, _ in shown], [y for _, y in shown])
    parts = [*_frame(axes)]
    parts += _heads(axes, target.heads)
    parts += _line(axes, [(x, y) for x, y, _ in calibration], "cal")
    # In order of latency on this part, which need not be that of the other.
    parts += _line(axes, sorted((x, y) for x, y, _ in report), "rep")
    for group, css in ((calibration, "cal"), (report, "rep")):
        parts += [_front_dot(axes, x, y, p, css) for x, y, p in group]
    for x, y, answer in answers:
        parts.append(
            f'<circle class="answer" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="11">'
            f"<title>{escape(answer.name)}: {escape(answer.wish)}</title></circle>"
        )
    parts += _labels(axes, [(x, y, a.name) for x, y, a in answers])
    if final is not None and axes.holds(*final):
        parts.append(_final_mark(axes, *final))
    label = f"Pareto front of {target.precision} on {target.device}"
    return (
        f'<svg class="pareto" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _point(head: HeadFigure) -> tuple[float, float] | None:
    miou = head.miou_calibration if head.miou_report is None else head.miou_report
    if head.latency_ms is None or miou is None:
        return None
    return head.latency_ms, miou


def _frame(axes: Axes) -> list[str]:
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


def _heads(axes: Axes, heads: Sequence[HeadFigure]) -> list[str]:
    parts = []
    for head in heads:
        point = _point(head)
        if point is None or head.final or not axes.holds(*point):
            continue
        text = f"static exit {head.exit} {head.head}: {point[0]:.3f} ms, {point[1]:.1%}"
        parts.append(
            f'<circle class="head" cx="{axes.x(point[0]):.1f}"'
            f' cy="{axes.y(point[1]):.1f}" r="4"><title>{escape(text)}</title></circle>'
        )
    return parts


def _line(axes: Axes, points: Sequence[tuple[float, float]], css: str) -> list[str]:
    if len(points) < 2:
        return []
    text = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    return [f'<polyline class="{css}" points="{text}"/>']


def _front_dot(axes: Axes, x: float, y: float, point: FrontPoint, css: str) -> str:
    part = "report part" if css == "rep" else "calibration part"
    figures = f"{x:.3f} ms, mIoU {y:.1%} on the {part}"
    text = configuration_text(point.row.configuration.exits, point.exit_rates)
    return (
        f'<circle class="dot {css}" tabindex="0" cx="{axes.x(x):.1f}"'
        f' cy="{axes.y(y):.1f}" r="6" data-figures="{escape(figures)}"'
        f' data-text="{escape(text)}" data-command="{escape(point.command)}"><title>'
        f"{escape(figures)}\n{escape(text)}\n{escape(point.command)}</title></circle>"
    )


def _labels(axes: Axes, answers: Sequence[tuple[float, float, str]]) -> list[str]:
    """Names of the answers; those at the same place share one label."""
    merged: list[tuple[float, float, list[str]]] = []
    for ms, miou, name in answers:
        x, y = axes.x(ms), axes.y(miou)
        near = next(
            (m for m in merged if abs(m[0] - x) < 60 and abs(m[1] - y) < 18), None
        )
        if near is None:
            merged.append((x, y, [name]))
        else:
            near[2].append(name)
    parts = []
    for x, y, names in merged:
        # A front rises to the right: its upper left is free, but for the margin.
        text = escape(", ".join(names))
        left = x > LEFT + 110
        parts.append(
            f'<text class="name" x="{x - 12 if left else x + 15:.1f}"'
            f' y="{y - 10 if left else y + 20:.1f}"'
            f' text-anchor="{"end" if left else "start"}">{text}</text>'
        )
    return parts


def _final_mark(axes: Axes, ms: float, miou: float) -> str:
    x, y = axes.x(ms), axes.y(miou)
    return (
        f'<path class="final" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"><title>final'
        f" exit alone: {ms:.3f} ms, mIoU {miou:.1%}</title></path>"
        f'<text class="name" x="{x:.1f}" y="{y - 13:.1f}"'
        ' text-anchor="end">final exit</text>'
    )
