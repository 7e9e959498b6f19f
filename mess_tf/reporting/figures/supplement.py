"""The figures of the paper's supplement: 7, 8, 9 and 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mess_tf.reporting.figures.drawings import EXIT_COLOURS
from mess_tf.reporting.gallery import Gallery, Look, Shot
from mess_tf.reporting.images import SURE_FROM, SURE_TO, coloured, over
from mess_tf.reporting.records import Ring, View
from mess_tf.reporting.side_by_side import SideBySide
from mess_tf.reporting.speedups import SEARCHED, UNIFORM
from mess_tf.reporting.spider import angles, spokes
from mess_tf.reporting.views import NETWORK

_TAKEN = "#d95926"
_SHEET_WIDTH = 2.1
"""Of a picture on a sheet, inches."""


def exit_spider(iou: Mapping[str, np.ndarray], classes: Sequence[str]) -> Any:
    """IoU per class of every exit alone and of the network that chooses among them.

    Args:
        iou: float64 arrays of shape (C,) by name of the curve (``View.iou``).
        classes: names of the C classes.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    figure, (axes,) = _spiders(1)
    colours = {NETWORK: _TAKEN}
    exits = [name for name in iou if name != NETWORK]
    for place, name in enumerate(exits):
        colours[name] = EXIT_COLOURS[min(place, len(EXIT_COLOURS) - 1)]
    order = [*exits, *(name for name in iou if name == NETWORK)]
    _draw_spider(axes, {name: (iou[name], colours[name]) for name in order}, classes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1.1), frameon=False)
    return figure


def speedup_spiders(rings: Sequence[Ring], classes: Sequence[str]) -> Any:
    """Fig. 7: IoU per class for growing speed-ups, uniform heads beside searched ones.

    Args:
        rings: of ``mess_tf.reporting.speedups.make_rings``.
        classes: names of the classes.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    import matplotlib

    figure, both = _spiders(2)
    speedups = sorted({ring.speedup for ring in rings})
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(speedups)))
    titles = {UNIFORM: "FCN heads everywhere", SEARCHED: "searched heads"}
    for axes, (heads, title) in zip(both, titles.items(), strict=True):
        curves = {
            f"{ring.speedup:g}×: {ring.miou:.1%}": (
                ring.iou,
                colours[speedups.index(ring.speedup)],
            )
            for ring in rings
            if ring.heads == heads
        }
        _draw_spider(axes, curves, classes)
        axes.set_title(title, pad=28)
        axes.legend(
            title="speed-up: mIoU",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=3,
            frameon=False,
            fontsize=8,
        )
    return figure


def side_by_side(rows: SideBySide) -> Any:
    """Fig. 8: image, labels, final exit, and an early exit of every run.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    gallery = rows.gallery
    titles = ["image", "labels", f"final exit {rows.final[0]}"]
    titles += [f"exit {rows.head[0]}: {c.training}" for c in rows.columns]
    table = []
    for number, shot in enumerate(gallery.shots):
        looks = [shot.looks[rows.final], *(c.looks[number] for c in rows.columns)]
        table.append(
            [
                (shot.picture, "", False),
                (coloured(shot.labels, gallery.palette), "", False),
                *(
                    (_overlay(shot, look, gallery), f"mIoU {look.miou:.0%}", False)
                    for look in looks
                ),
            ]
        )
    return _grid(table, titles)


def progressive_outputs(gallery: Gallery, view: View) -> Any:
    """Fig. 9 with Table 8: what every exit makes of an image; the one taken is framed.

    Args:
        gallery: sample images, with the configuration's heads.
        view: the configuration.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    titles = ["image", *(f"exit {choice.exit}" for choice in view.exits), "labels"]
    table = []
    for shot in gallery.shots:
        cells = [(shot.picture, "", False)]
        for place, choice in enumerate(view.exits):
            look = shot.looks[choice.exit, choice.head]
            text = f"mIoU {look.miou:.1%}, pAcc {look.accuracy:.1%}"
            taken = bool(place == view.places[shot.index])
            cells.append((_overlay(shot, look, gallery), text, taken))
        cells.append((coloured(shot.labels, gallery.palette), "", False))
        table.append(cells)
    return _grid(table, titles)


def confidence_maps(gallery: Gallery, view: View) -> Any:
    """Fig. 10 with Table 9: how sure the first and the last exit are of every pixel.

    Args:
        gallery: sample images, with the configuration's heads.
        view: the configuration.

    Returns:
        a ``matplotlib.figure.Figure``.
    """
    mean, plain, smooth = gallery.policies
    ends = list(
        dict.fromkeys((c.exit, c.head) for c in (view.exits[0], view.exits[-1]))
    )
    titles = ["image"]
    for exit_index, _ in ends:
        titles += [f"exit {exit_index}: top-1", f"exit {exit_index}: after Eq. 9"]
    table = []
    for shot in gallery.shots:
        cells: list[tuple[np.ndarray, str, bool]] = [(shot.picture, "", False)]
        for head in ends:
            look = shot.looks[head]
            told = look.confidence
            text = f"mean {told[mean]:.3f}, Eq. 7 {told[plain]:.3f}"
            cells.append((look.sure, text, False))
            cells.append((look.smoothed, f"Eq. 7 + 9 {told[smooth]:.3f}", False))
        table.append(cells)
    return _grid(table, titles)


def _overlay(shot: Shot, look: Look, gallery: Gallery) -> np.ndarray:
    return over(shot.picture, coloured(look.classes, gallery.palette))


def _spiders(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * count, 5.2), layout="constrained")
    axes = figure.subplots(1, count, subplot_kw={"projection": "polar"}, squeeze=False)
    return figure, axes[0]


def _draw_spider(
    axes: Any, curves: Mapping[str, tuple[np.ndarray, Any]], classes: Sequence[str]
) -> None:
    kept = spokes({name: values for name, (values, _) in curves.items()}, classes)
    around = angles(len(kept))
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    for name, (values, colour) in curves.items():
        # A class without IoU (it does not occur) is drawn as nothing, not as zero.
        shown = 100 * values[kept]
        closed = np.append(shown, shown[:1])
        axes.plot(np.append(around, around[:1]), closed, color=colour, label=name)
    axes.set_xticks(around, [classes[c] for c in kept], fontsize=8)
    axes.tick_params(axis="x", pad=8)
    axes.grid(color="#dddcd6")
    axes.spines["polar"].set_color("#dddcd6")
    axes.set_ylim(0, 100)
    axes.set_rlabel_position(180 / max(len(kept), 1))  # between the first two spokes
    axes.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100 %"], fontsize=7)


def _grid(
    table: Sequence[Sequence[tuple[np.ndarray, str, bool]]], titles: Sequence[str]
) -> Any:
    """Rows of (picture, caption, framed); two-dimensional pictures are confidences.

    All in one pair of axes, in inches: with axes of its own for every picture, drawing
    takes seconds.
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
                    Rectangle((left, top), wide, high, fill=False, lw=3, ec=_TAKEN)
                )
    axes.set(xlim=(0, across), ylim=(down, 0), aspect="auto")
    return figure
