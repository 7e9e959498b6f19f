"""The page: gathered reports poured into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.core.precisions import PRECISIONS
from mess_tf.reporting.costs import KINDS
from mess_tf.reporting.gallery import Gallery, Head, end_heads
from mess_tf.reporting.images import SURE_FROM, sure_colours
from mess_tf.reporting.page import text
from mess_tf.reporting.page.compare import compare_svg
from mess_tf.reporting.page.data import as_script, first_view, make_stops, page_data
from mess_tf.reporting.page.front import front_svg
from mess_tf.reporting.page.pictures import Pictures
from mess_tf.reporting.page.spiders import spider_svg
from mess_tf.reporting.records import Info, Ring, Target, View
from mess_tf.reporting.side_by_side import SideBySide
from mess_tf.reporting.speedups import SEARCHED, UNIFORM
from mess_tf.reporting.views import NETWORK

FOLDER = Path(__file__).parent
EXIT_COLOURS = 4
"""CSS classes ``e0`` to ``e3``; deeper exits look like the last."""

SPEEDUP_COLOURS = 9


def render_page(
    told: Sequence[tuple[Info, Mapping[str, Gallery]]], rows: SideBySide | None
) -> str:
    """The report as HTML text.

    Args:
        told: per run what to say, and its sample images by precision.
        rows: runs side by side, if there are several with the same images.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Names of classes, images and heads come from files: everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {
        name: getattr(text, name)
        for name in "ms percent pp times speed rates macs megabytes".split()
    }
    environment.filters |= {
        **shown,
        "count": text.count,
        "signs": text.signs,
        "stamp": lambda time: time[:16].replace("T", " "),
    }
    environment.globals |= {
        "show": shown,
        "kinds": KINDS,
        "configuration_text": text.configuration_text,
        "end_heads": end_heads,
        "front_svg": front_svg,
        "exit_spider": exit_spider,
        "exit_css": exit_css,
        "ring_spider": ring_spider,
        "ring_css": ring_css,
        "first_view": first_view,
    }
    infos = [info for info, _ in told]
    suffixes = _suffixes(infos)
    targets, labels = [], []
    pictures: dict[tuple[str, str], Pictures] = {}
    for number, (info, galleries) in enumerate(told):
        # What is shipped first: an int8 network before the float one it came from.
        order = sorted(info.targets, key=lambda t: -PRECISIONS.index(t.precision))
        for target in sorted(order, key=lambda t: t.device):
            gallery = galleries.get(target.precision)
            if gallery is not None and gallery.shots:
                name = f"p{number}-{target.precision}"
                pictures[info.run, target.precision] = Pictures(name, gallery)
            targets.append(target)
            labels.append(f"{target.precision} on {target.device}{suffixes[number]}")
    searched = [k for k, target in enumerate(targets) if target.views]
    stops = make_stops(targets)
    return environment.get_template("page.html.j2").render(
        infos=infos,
        targets=list(zip(targets, labels, strict=True)),
        of_run={info.run: info for info in infos},
        pictures=pictures,
        uris=[
            (picture, *used.size)
            for key, used in pictures.items()
            for picture in used.uris(_ends(targets, key))
        ],
        compared=compare_svg(
            [targets[k] for k in searched], [labels[k] for k in searched]
        )
        if len(searched) > 1
        else None,
        rows=rows,
        stops=stops,
        begin=_first_stop(stops, targets),
        sure_colours=sure_colours(),
        sure_from=SURE_FROM,
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
        data=as_script(page_data(targets, labels)),
    )


def exit_css(place: int) -> str:
    """CSS class of the exit at a position of a configuration."""
    return f"e{min(place, EXIT_COLOURS - 1)}"


def exit_spider(view: View, classes: Sequence[str]) -> str:
    """IoU per class of every exit of a configuration alone, and of the network."""
    exits = [name for name in view.iou if name != NETWORK]
    curves = {name: (view.iou[name], exit_css(k)) for k, name in enumerate(exits)}
    if len(exits) > 1:
        curves["the network"] = (view.iou[NETWORK], "network")
    return spider_svg(curves, classes, f"IoU per class of {view.name}, exit by exit")


def ring_spider(rings: Sequence[Ring], heads: str, classes: Sequence[str]) -> str:
    """Fig. 7: IoU per class of one kind of heads for growing speed-ups."""
    curves: dict[str, tuple[np.ndarray, str]] = {
        f"{ring.speedup:g}×": (ring.iou, ring_css(rings, ring.speedup))
        for ring in rings
        if ring.heads == heads
    }
    kinds = {UNIFORM: "FCN heads everywhere", SEARCHED: "searched heads"}
    return spider_svg(curves, classes, f"IoU per class: {kinds[heads]}")


def ring_css(rings: Sequence[Ring], speedup: float) -> str:
    """CSS class of a speed-up, ``s0`` to ``s8``, spread over those that are shown."""
    speedups = sorted({ring.speedup for ring in rings})
    share = speedups.index(speedup) / max(len(speedups) - 1, 1)
    return f"s{round(share * (SPEEDUP_COLOURS - 1))}"


def _suffixes(infos: Sequence[Info]) -> list[str]:
    """What tells the runs apart: their folders' names, or paths where those agree."""
    if len(infos) == 1:
        return [""]
    names = [Path(info.run).name for info in infos]
    if len(set(names)) < len(names):
        names = [info.run for info in infos]
    return [f", {name}" for name in names]


def _ends(targets: Sequence[Target], key: tuple[str, str]) -> set[Head]:
    """Heads whose confidence maps a gallery's page shows."""
    return {
        head
        for target in targets
        if (target.run, target.precision) == key
        for view in target.views
        for head in end_heads(view)
    }


def _first_stop(stops: Sequence[Mapping[str, Any]], targets: Sequence[Target]) -> int:
    """The stop that shows the first target's first view, or comes nearest to it."""
    if not stops:
        return 0
    first = next(target for target in targets if target.views)
    place, index = targets.index(first), first_view(first)
    exact = [k for k, stop in enumerate(stops) if stop["views"][place] == index]
    if exact:
        return exact[0]
    drop = first.views[index or 0].calibration.drop_pp
    return min(range(len(stops)), key=lambda k: abs(stops[k]["drop_pp"] - drop))
