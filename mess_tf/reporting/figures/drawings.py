"""The report's charts, drawn by matplotlib for slides and papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mess_tf.reporting.costs import KINDS
from mess_tf.reporting.records import Answer, ExitRow, Target

KIND_COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7")
EXIT_COLOURS = ("#9ec5f4", "#5598e7", "#256abf", "#104281")
_GREY = "#8a8984"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of its own: no window, and nothing of pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e5e0", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def draw_exits(table: Sequence[ExitRow]) -> Any:
    """The best head of every exit point: latency against mIoU."""
    figure, axes = _axes(6.4, 4.2)
    precisions = list(dict.fromkeys(p for row in table for p in row.best))
    for precision, colour in zip(precisions, KIND_COLOURS, strict=False):
        heads = [row.best[precision] for row in table if precision in row.best]
        points = [
            (h.latency_ms, 100 * miou, str(h.exit) + ("*" if h.final else ""))
            for h in heads
            if h.latency_ms is not None
            and (miou := h.miou_calibration if h.miou_report is None else h.miou_report)
            is not None
        ]
        axes.plot(
            [x for x, _, _ in points],
            [y for _, y, _ in points],
            "o-",
            color=colour,
            label=precision,
        )
        for x, y, name in points:
            axes.annotate(
                name, (x, y), (5, -12), textcoords="offset points", color=colour
            )
    axes.set(
        xlabel="latency of leaving there, ms",
        ylabel="mIoU, %",
        title="Best head per exit (* the final exit)",
    )
    axes.legend(frameon=False)
    return figure


def draw_front(target: Target) -> Any:
    """The Pareto front on both parts of the images."""
    figure, axes = _axes(6.4, 4.2)
    rows = [point.row for point in target.front]
    axes.plot(
        [row.calibration.mean_ms for row in rows],
        [100 * row.calibration.miou for row in rows],
        "o--",
        color=_GREY,
        mfc="white",
        label="calibration part",
    )
    told = [row.report for row in rows if row.report is not None]
    pairs = [(figures.mean_ms, 100 * figures.miou) for figures in told]
    if pairs:
        axes.plot(
            *zip(*sorted(pairs), strict=True),
            "o-",
            color="#2a78d6",
            label="report part",
        )
    final = target.final
    if final is not None and final.latency_ms is not None and final.miou_report:
        axes.plot(
            final.latency_ms,
            100 * final.miou_report,
            "D",
            color="#d95926",
            label="final exit alone",
        )
    axes.set(
        xlabel="mean latency, ms",
        ylabel="mIoU, %",
        title=f"{target.precision} on {target.device}",
    )
    axes.legend(frameon=False)
    return figure


def draw_bars(answers: Sequence[Answer]) -> Any:
    """Where the time of every path goes."""
    bars = [(f"{a.name}: {b.label}", b) for a in answers for b in a.bars]
    figure, axes = _axes(8, 0.9 + 0.32 * len(bars))
    left = np.zeros(len(bars))
    for k, (kind, colour) in enumerate(zip(KINDS, KIND_COLOURS, strict=True)):
        values = np.array([bar.parts_ms[k] for _, bar in bars])
        axes.barh(range(len(bars)), values, left=left, color=colour, label=kind)
        left += values
    axes.set_yticks(range(len(bars)), [label for label, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    figure.legend(loc="outside upper right", ncols=len(KINDS), frameon=False)
    return figure


def draw_rates(answers: Sequence[Answer]) -> Any:
    """Which part of the images leaves where."""
    figure, axes = _axes(8, 0.8 + 0.4 * len(answers))
    for y, answer in enumerate(answers):
        left = 0.0
        exits = zip(answer.chosen.exits, answer.chosen.exit_rates, strict=True)
        for place, (choice, rate) in enumerate(exits):
            colour = EXIT_COLOURS[min(place, len(EXIT_COLOURS) - 1)]
            axes.barh(y, 100 * rate, left=left, color=colour, edgecolor="white")
            if rate > 0.08:
                axes.text(
                    left + 50 * rate,
                    y,
                    f"exit {choice.exit}: {rate:.0%}",
                    ha="center",
                    va="center",
                    color="black" if place < 2 else "white",
                )
            left += 100 * rate
    axes.set_yticks(range(len(answers)), [a.name for a in answers])
    axes.invert_yaxis()
    axes.set_xlabel("part of the images that leaves there, %")
    return figure
