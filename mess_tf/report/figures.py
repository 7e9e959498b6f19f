"""The report's figures as files: PNG for slides, CSV for whoever counts further."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.files import write_atomically
from mess_tf.report.costs import KINDS
from mess_tf.report.pictures import Strip
from mess_tf.report.records import Answer, ExitRow, Info, Target
from mess_tf.runs import file_name

KIND_COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7")
_EXIT_COLOURS = ("#9ec5f4", "#5598e7", "#256abf", "#104281")
_GREY = "#8a8984"


def write_figures(
    info: Info, strips: Mapping[tuple[str, str], Sequence[Strip]], folder: Path
) -> list[Path]:
    """Writes every figure that there is something to draw for.

    Args:
        info: the report.
        strips: progressive outputs by (device, precision).
        folder: for the files.

    Raises:
        MessError: a file cannot be written.
    """
    written = []
    for device, table in info.exits.items():
        base = folder / f"exits_{file_name(device)}"
        written.append(_csv(base, _exit_lines(table)))
        if any(h.latency_ms is not None for row in table for h in row.best.values()):
            written.append(_png(base, lambda t=table: _draw_exits(t)))
    for target in info.targets:
        suffix = f"{file_name(target.device)}_{target.precision}"
        if target.heads:
            written.append(_csv(folder / f"heads_{suffix}", _head_lines(target)))
        if target.front:
            base = folder / f"pareto_{suffix}"
            written.append(_csv(base, _front_lines(target)))
            written.append(_png(base, lambda t=target: _draw_front(t)))
        if target.answers:
            base = folder / f"exit_rates_{suffix}"
            written.append(_csv(base, _rate_lines(target.answers)))
            written.append(_png(base, lambda t=target: _draw_rates(t.answers)))
        if any(answer.bars for answer in target.answers):
            base = folder / f"latency_{suffix}"
            written.append(_csv(base, _bar_lines(target.answers)))
            written.append(_png(base, lambda t=target: _draw_bars(t.answers)))
        if rows := strips.get((target.device, target.precision)):
            base = folder / f"outputs_{suffix}"
            written.append(_csv(base, _strip_lines(rows)))
            written.append(_png(base, lambda r=rows: _draw_strips(r)))
    return written


# --- Tables -----------------------------------------------------------------------


def _exit_lines(table: Sequence[ExitRow]) -> list[dict[str, Any]]:
    return [
        {
            "exit": row.exit,
            "layer": row.layer,
            "stride": row.stride,
            "precision": precision,
            "head": head.head,
            "reference": int(head.final),
            "macs": head.macs,
            "latency_ms": head.latency_ms,
            "miou_report": head.miou_report,
            "miou_calibration": head.miou_calibration,
        }
        for row in table
        for precision, head in row.best.items()
    ]


def _head_lines(target: Target) -> list[dict[str, Any]]:
    return [
        {
            "exit": head.exit,
            "head": head.head,
            "macs": head.macs,
            "latency_ms": head.latency_ms,
            "miou_report": head.miou_report,
            "miou_calibration": head.miou_calibration,
        }
        for head in target.heads
    ]


def _front_lines(target: Target) -> list[dict[str, Any]]:
    return [
        {
            "calibration_ms": point.row.calibration_ms,
            "calibration_miou": point.row.calibration_miou,
            "report_ms": point.row.report_ms,
            "report_miou": point.row.report_miou,
            "proven": int(point.row.proven),
            "exits": json.dumps(point.row.configuration.to_json()),
            "exit_rates": json.dumps(list(point.exit_rates)),
            "command": point.command,
        }
        for point in target.front
    ]


def _rate_lines(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    lines = []
    for answer in answers:
        for place, choice in enumerate(answer.chosen.exits):
            lines.append(
                {
                    "answer": answer.name,
                    "exit": choice.exit,
                    "head": choice.head,
                    "policy": choice.policy or "",
                    "threshold": choice.threshold,
                    "calibration": answer.on_calibration.exit_rates[place],
                    answer.part: answer.chosen.exit_rates[place],
                }
            )
    return lines


def _bar_lines(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "answer": answer.name,
            "path": bar.label,
            **{f"{k}_ms": v for k, v in zip(KINDS, bar.parts_ms, strict=True)},
            "total_ms": bar.total_ms,
        }
        for answer in answers
        for bar in answer.bars
    ]


def _strip_lines(strips: Sequence[Strip]) -> list[dict[str, Any]]:
    return [
        {
            "image": strip.name,
            "exit": cell.exit,
            "confidence": cell.confidence,
            "threshold": cell.threshold,
            "pixels_right": cell.right,
            "taken": int(cell.taken),
        }
        for strip in strips
        for cell in strip.cells
    ]


def _csv(base: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path = base.with_name(base.name + ".csv")
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    return path


# --- Drawings ---------------------------------------------------------------------


def _png(base: Path, draw: Any) -> Path:
    path = base.with_name(base.name + ".png")
    figure = draw()
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of its own: no window, and nothing of pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e5e0", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _draw_exits(table: Sequence[ExitRow]) -> Any:
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


def _draw_front(target: Target) -> Any:
    figure, axes = _axes(6.4, 4.2)
    rows = [point.row for point in target.front]
    axes.plot(
        [row.calibration_ms for row in rows],
        [100 * row.calibration_miou for row in rows],
        "o--",
        color=_GREY,
        mfc="white",
        label="calibration part",
    )
    pairs = [
        (row.report_ms, 100 * row.report_miou)
        for row in rows
        if row.report_ms is not None and row.report_miou is not None
    ]
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


def _draw_bars(answers: Sequence[Answer]) -> Any:
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


def _draw_rates(answers: Sequence[Answer]) -> Any:
    figure, axes = _axes(8, 0.8 + 0.4 * len(answers))
    for y, answer in enumerate(answers):
        left = 0.0
        exits = zip(answer.chosen.exits, answer.chosen.exit_rates, strict=True)
        for place, (choice, rate) in enumerate(exits):
            colour = _EXIT_COLOURS[min(place, len(_EXIT_COLOURS) - 1)]
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


def _draw_strips(strips: Sequence[Strip]) -> Any:
    from matplotlib.figure import Figure

    columns = 2 + max(len(strip.cells) for strip in strips)
    height, width = strips[0].picture.shape[:2]
    figure = Figure(
        figsize=(2.2 * columns, (2.2 * height / width + 0.3) * len(strips)),
        layout="constrained",
    )
    grid = figure.subplots(len(strips), columns, squeeze=False)
    for row, strip in zip(grid, strips, strict=True):
        pictures = [(strip.picture, "image", False)]
        pictures += [
            (c.overlay, f"exit {c.exit}, {c.right:.0%} right", c.taken)
            for c in strip.cells
        ]
        pictures.append((strip.labels, "labels", False))
        for axes, (picture, title, taken) in zip(row, pictures, strict=True):
            axes.imshow(picture)
            axes.set_title(title, fontsize=8)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(
                    edgecolor="#d95926" if taken else "#cccccc",
                    linewidth=3 if taken else 0.5,
                )
    return figure
