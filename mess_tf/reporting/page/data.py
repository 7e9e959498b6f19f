"""The figures behind the page as plain values: its script reads them, and tests do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from mess_tf.reporting.records import Entry, Target, View


def page_data(targets: Sequence[Target], labels: Sequence[str]) -> dict[str, Any]:
    """All configurations of all targets, and the stops of the slider.

    Returns:
        ``targets``: per target ``label``, ``first`` (index of the view shown first) and
        ``views``; ``stops``: per stop ``drop_pp``, what may be given up on the
        calibration part, and ``views``, per target the index of the fastest
        configuration that gives up no more (None: it has none).
    """
    return {
        "targets": [
            {
                "label": label,
                "first": first_view(target),
                "views": [_view(view) for view in target.views],
            }
            for target, label in zip(targets, labels, strict=True)
        ],
        "stops": make_stops(targets),
    }


def first_view(target: Target) -> int | None:
    """Index of the view to begin with; None without views."""
    if target.featured_view is None:
        return None
    return target.views.index(target.featured_view)


def make_stops(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """The drops at which some target's best choice changes, from none upwards."""
    drops = {
        max(0.0, math.ceil(100 * view.calibration.drop_pp - 1e-9) / 100)
        for target in targets
        for view in target.views
    }
    stops: list[dict[str, Any]] = []
    for drop in sorted(drops):
        views = [_fastest(target, drop) for target in targets]
        if not stops or stops[-1]["views"] != views:
            stops.append({"drop_pp": drop, "views": views})
    return stops


def as_script(data: dict[str, Any]) -> str:
    """JSON that can stand inside a ``script`` element: no character ends it early."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _fastest(target: Target, drop_pp: float) -> int | None:
    """Of what gives up no more; where all give up more, what gives up least."""
    if not target.views:
        return None
    allowed = [
        k
        for k, view in enumerate(target.views)
        if view.calibration.drop_pp <= drop_pp + 1e-9
    ]
    return min(allowed, key=lambda k: target.views[k].calibration.mean_ms, default=0)


def _view(view: View) -> dict[str, Any]:
    return {
        "name": view.name,
        "exits": [
            {
                "exit": choice.exit,
                "head": choice.head,
                "policy": choice.policy,
                "threshold": choice.threshold,
            }
            for choice in view.exits
        ],
        "calibration": _entry(view.calibration),
        "report": None if view.report is None else _entry(view.report),
        "command": view.command,
        "iou": {name: _plain(values.tolist()) for name, values in view.iou.items()},
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "images": entry.images,
        "mean_ms": entry.mean_ms,
        "p90_ms": entry.p90_ms,
        "miou": entry.miou,
        "drop_pp": entry.drop_pp,
        "exit_rates": list(entry.exit_rates),
        "speedup": None if math.isnan(entry.speedup) else entry.speedup,
    }


def _plain(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN: a class that does not occur has none."""
    return [None if math.isnan(value) else value for value in values]
