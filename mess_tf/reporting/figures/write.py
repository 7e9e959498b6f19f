"""Every figure as files: charts as PNG and SVG, sheets of pictures as PNG, CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mess_tf.core.files import write_atomically
from mess_tf.reporting.figures import drawings, supplement, tables
from mess_tf.reporting.gallery import Gallery
from mess_tf.reporting.records import ExitRow, Info, Target, View
from mess_tf.reporting.side_by_side import SideBySide
from mess_tf.runs import file_name


def write_figures(
    info: Info, galleries: Mapping[str, Gallery], folder: Path
) -> list[Path]:
    """Writes every figure that there is something to draw for.

    Args:
        info: the report.
        galleries: sample images by precision.
        folder: for the files.

    Returns:
        the files written.

    Raises:
        MessError: a file cannot be written.
    """
    written = []
    for device, table in info.exits.items():
        written += _of_device(device, table, folder)
    for target in info.targets:
        written += _of_target(info, target, folder)
        gallery, view = galleries.get(target.precision), target.featured_view
        if gallery is not None and view is not None:
            written += _of_gallery(gallery, target, view, folder)
    return written


def write_side_by_side(rows: SideBySide | None, folder: Path) -> list[Path]:
    """Writes Fig. 8, where there are runs to compare."""
    if rows is None:
        return []
    return _pictures(folder / "side_by_side", lambda: supplement.side_by_side(rows))


def _of_device(device: str, table: Sequence[ExitRow], folder: Path) -> list[Path]:
    base = folder / f"exits_{file_name(device)}"
    written = [_csv(base, tables.exit_lines(table))]
    if any(h.latency_ms is not None for row in table for h in row.best.values()):
        written += _charts(base, lambda: drawings.draw_exits(table))
    return written


def _of_gallery(
    gallery: Gallery, target: Target, view: View, folder: Path
) -> list[Path]:
    suffix = _suffix(target)
    outputs, sure = folder / f"outputs_{suffix}", folder / f"confidence_{suffix}"
    return [
        _csv(outputs, tables.output_lines(gallery, target.views)),
        *_pictures(outputs, lambda: supplement.progressive_outputs(gallery, view)),
        _csv(sure, tables.confidence_lines(gallery)),
        *_pictures(sure, lambda: supplement.confidence_maps(gallery, view)),
    ]


def _of_target(info: Info, target: Target, folder: Path) -> list[Path]:
    suffix = _suffix(target)
    written = []
    if target.heads:
        written.append(_csv(folder / f"heads_{suffix}", tables.head_lines(target)))
    if target.front:
        base = folder / f"pareto_{suffix}"
        written.append(_csv(base, tables.front_lines(target)))
        written += _charts(base, lambda: drawings.draw_front(target))
    if target.answers:
        base = folder / f"exit_rates_{suffix}"
        written.append(_csv(base, tables.rate_lines(target.answers)))
        written += _charts(base, lambda: drawings.draw_rates(target.answers))
    if any(answer.bars for answer in target.answers):
        base = folder / f"latency_{suffix}"
        written.append(_csv(base, tables.bar_lines(target.answers)))
        written += _charts(base, lambda: drawings.draw_bars(target.answers))
    view = target.featured_view
    if view is not None:
        base = folder / f"class_iou_{suffix}"
        written.append(_csv(base, tables.iou_lines(target.views, info.classes)))
        written += _charts(base, lambda: supplement.exit_spider(view.iou, info.classes))
    if target.rings:
        base = folder / f"speedups_{suffix}"
        written.append(_csv(base, tables.ring_lines(target.rings, info.classes)))
        written += _charts(
            base, lambda: supplement.speedup_spiders(target.rings, info.classes)
        )
    return written


def _suffix(target: Target) -> str:
    return f"{file_name(target.device)}_{target.precision}"


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


def _charts(base: Path, draw: Callable[[], Any]) -> list[Path]:
    """A chart as PNG and SVG."""
    return _save(base, draw(), ("png", "svg"))


def _pictures(base: Path, draw: Callable[[], Any]) -> list[Path]:
    """A sheet of photographs as PNG: there are no lines that an SVG would keep."""
    return _save(base, draw(), ("png",))


def _save(base: Path, figure: Any, kinds: Sequence[str]) -> list[Path]:
    written = []
    for kind in kinds:
        path = base.with_name(f"{base.name}.{kind}")
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=150, format=kind)
        figure.set_layout_engine("none")  # found once, it fits the other kind too
        written.append(path)
    return written
