"""Sheets of pictures of the paper's supplement: Fig. 8, 9 and 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mess_tf.reporting.configuration_records import ReportedConfiguration
from mess_tf.reporting.figures.drawings import MARK
from mess_tf.reporting.gallery import Gallery, HeadOutput, SampleImage, end_heads
from mess_tf.reporting.images import SURE_FROM, SURE_TO, coloured, over
from mess_tf.reporting.side_by_side import SideBySide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHEET_WIDTH = 2.1
"""Of a picture on a sheet, inches."""


def side_by_side(rows: SideBySide) -> Figure:
    """Fig. 8: image, labels, final exit, and an early exit of every run.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    gallery = rows.gallery
    titles = ["image", "labels", f"final exit {rows.final[0]}"]
    titles += [f"exit {rows.head[0]}: {c.training}" for c in rows.columns]
    table = []
    for number, sample in enumerate(gallery.samples):
        outputs = [
            sample.outputs[rows.final],
            *(c.outputs[number] for c in rows.columns),
        ]
        table.append(
            [
                (sample.picture, "", False),
                (coloured(sample.labels, gallery.palette), "", False),
                *(
                    (
                        _overlay(sample, output, gallery),
                        f"mIoU {output.miou:.0%}",
                        False,
                    )
                    for output in outputs
                ),
            ]
        )
    return _grid(table, titles)


def progressive_outputs(gallery: Gallery, reported: ReportedConfiguration) -> Figure:
    """Fig. 9 with Table 8: the output of every exit; the one taken is framed.

    Args:
        gallery: sample images, with the configuration's heads.
        reported: the configuration.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    titles = ["image", *(f"exit {choice.exit}" for choice in reported.exits), "labels"]
    table = []
    for sample in gallery.samples:
        cells = [(sample.picture, "", False)]
        for place, choice in enumerate(reported.exits):
            output = sample.outputs[choice.exit, choice.head]
            text = f"mIoU {output.miou:.1%}, pAcc {output.accuracy:.1%}"
            taken = bool(place == reported.exit_positions[sample.index])
            cells.append((_overlay(sample, output, gallery), text, taken))
        cells.append((coloured(sample.labels, gallery.palette), "", False))
        table.append(cells)
    return _grid(table, titles)


def confidence_maps(gallery: Gallery, reported: ReportedConfiguration) -> Figure:
    """Fig. 10 with Table 9: top-1 probabilities at the first and the last exit.

    Args:
        gallery: sample images, with the configuration's heads.
        reported: the configuration.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    mean, plain, smooth = gallery.policies
    ends = end_heads(reported)
    titles = ["image"]
    for exit_index, _ in ends:
        titles += [f"exit {exit_index}: top-1", f"exit {exit_index}: after Eq. 9"]
    table = []
    for sample in gallery.samples:
        cells: list[tuple[np.ndarray, str, bool]] = [(sample.picture, "", False)]
        for head in ends:
            output = sample.outputs[head]
            confidence = output.confidence
            text = f"mean {confidence[mean]:.3f}, Eq. 7 {confidence[plain]:.3f}"
            cells.append((output.confidence_map, text, False))
            cells.append(
                (output.smoothed_map, f"Eq. 7 + 9 {confidence[smooth]:.3f}", False)
            )
        table.append(cells)
    return _grid(table, titles)


def _overlay(sample: SampleImage, output: HeadOutput, gallery: Gallery) -> np.ndarray:
    return over(sample.picture, coloured(output.classes, gallery.palette))


def _grid(
    table: Sequence[Sequence[tuple[np.ndarray, str, bool]]], titles: Sequence[str]
) -> Figure:
    """Rows of (picture, caption, framed); two-dimensional pictures are confidences.

    All in one pair of axes, in inches: separate axes for every picture would take
    seconds.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = table[0][0][0].shape[:2]
    wide, high = _SHEET_WIDTH, _SHEET_WIDTH * height / width
    step_x, step_y = wide + 0.1, high + 0.3
    across, down = step_x * len(titles) + 0.1, step_y * len(table) + 0.3
    figure = Figure(figsize=(across, down))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for column, title in enumerate(titles):
        middle = 0.1 + column * step_x + wide / 2
        axes.text(middle, 0.2, title, ha="center", va="center", fontsize=9)
    for row, cells in enumerate(table):
        for column, (picture, caption, framed) in enumerate(cells):
            left, top = 0.1 + column * step_x, 0.3 + row * step_y
            axes.imshow(
                picture,
                extent=(left, left + wide, top + high, top),
                cmap="plasma_r",
                vmin=SURE_FROM,
                vmax=SURE_TO,
            )
            axes.text(
                left + wide / 2,
                top + high + 0.12,
                caption,
                ha="center",
                va="center",
                fontsize=7,
            )
            if framed:
                axes.add_patch(
                    Rectangle((left, top), wide, high, fill=False, lw=3, ec=MARK)
                )
    axes.set(xlim=(0, across), ylim=(down, 0), aspect="auto")
    return figure
