"""The page: the gathered report poured into one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.report.costs import KINDS
from mess_tf.report.pictures import Strip, data_uri
from mess_tf.report.records import Info
from mess_tf.report.svg import configuration_text, pareto_svg


def render_page(
    info: Info,
    strips: Mapping[tuple[str, str], Sequence[Strip]],
    palette: np.ndarray | None,
) -> str:
    """The report as HTML text.

    Args:
        info: what to say.
        strips: progressive outputs by (device, precision).
        palette: uint8 array of shape (classes, 3), RGB; None without pictures.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Names of classes, images and heads come from files: everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {
        "ms": _ms,
        "percent": _percent,
        "pp": _pp,
        "times": lambda value: f"{value:.2f}×",
        "rates": _rates,
    }
    environment.filters |= {
        **shown,
        "macs": _macs,
        "megabytes": lambda size: f"{size / 1e6:.2f} MB",
        "count": _count,
        "signs": lambda text: text.replace("<=", "≤").replace(">=", "≥"),
        "stamp": lambda text: text[:16].replace("T", " "),
    }
    environment.globals |= {
        "configuration_text": configuration_text,
        "photo": lambda picture: data_uri(picture),
        "flat": lambda picture: data_uri(picture, photograph=False),
        "show": shown,
    }
    fronts = {(t.device, t.precision): pareto_svg(t) for t in info.targets if t.front}
    colours = [] if palette is None else [_css(c) for c in palette]
    return environment.get_template("page.html.j2").render(
        info=info,
        strips=strips,
        fronts=fronts,
        legend=list(zip(info.classes, colours, strict=False)),
        kinds=KINDS,
    )


def _css(colour: Any) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in colour)


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1}f} ms"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}%}"


def _rates(values: Sequence[float], digits: int = 1) -> str:
    return " / ".join(_percent(value, digits) for value in values)


def _pp(drop: float) -> str:
    """A drop as the change of mIoU: ``−0.84 pp`` is worse than the final exit."""
    change = -round(drop, 2)
    sign = "−" if change < 0 else "+" if change > 0 else "±"
    return f"{sign}{abs(change):.2f} pp"


def _macs(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:.2f} G" if value >= 1e9 else f"{value / 1e6:.1f} M"


def _count(value: float) -> str:
    """Two digits are enough of a space's size: ``55,000``, ``5.5 × 10^9``."""
    if value < 1e6:
        return f"{float(f'{value:.2g}'):,.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits} × 10^{int(power)}"
