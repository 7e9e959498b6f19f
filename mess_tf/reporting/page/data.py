"""The figures behind the page as plain values: its script reads them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mess_tf.reporting.configuration_records import (
    ConfigurationFigures,
    ReportedConfiguration,
)
from mess_tf.reporting.records import Deployment

JsonObject = dict[str, object]


@dataclass(frozen=True)
class SliderStop:
    """A stop of the slider: an accuracy drop, and what is shown for it.

    Attributes:
        drop_pp: what may be given up on the calibration part.
        configurations: per deployment the index of the fastest configuration that gives
            up no more; None: it has none.
    """

    drop_pp: float
    configurations: tuple[int | None, ...]


def page_data(deployments: Sequence[Deployment], labels: Sequence[str]) -> JsonObject:
    """All configurations of all deployments, and the stops of the slider.

    Returns:
        ``deployments``: per deployment ``label``, ``first`` (index of the configuration
        shown first) and ``configurations``; ``stops``: see ``SliderStop``.
    """
    return {
        "deployments": [
            {
                "label": label,
                "first": first_configuration(deployment),
                "configurations": [
                    _configuration_data(reported)
                    for reported in deployment.configurations
                ],
            }
            for deployment, label in zip(deployments, labels, strict=True)
        ],
        "stops": [dataclasses.asdict(stop) for stop in make_stops(deployments)],
    }


def first_configuration(deployment: Deployment) -> int | None:
    """Index of the configuration to begin with; None without any."""
    if deployment.featured_configuration is None:
        return None
    return deployment.configurations.index(deployment.featured_configuration)


def make_stops(deployments: Sequence[Deployment]) -> list[SliderStop]:
    """The drops at which some deployment's best choice changes, from none upwards."""
    drops = {
        max(0.0, math.ceil(100 * reported.calibration.drop_pp - 1e-9) / 100)
        for deployment in deployments
        for reported in deployment.configurations
    }
    stops: list[SliderStop] = []
    for drop in sorted(drops):
        fastest = tuple(_fastest(deployment, drop) for deployment in deployments)
        if not stops or stops[-1].configurations != fastest:
            stops.append(SliderStop(drop, fastest))
    return stops


def as_script(data: JsonObject) -> str:
    """JSON that can stand inside a ``script`` element: no character ends it early."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _fastest(deployment: Deployment, drop_pp: float) -> int | None:
    """Of what gives up no more; where all give up more, what gives up least."""
    if not deployment.configurations:
        return None
    allowed = [
        k
        for k, reported in enumerate(deployment.configurations)
        if reported.calibration.drop_pp <= drop_pp + 1e-9
    ]
    return min(
        allowed,
        key=lambda k: deployment.configurations[k].calibration.mean_ms,
        default=0,
    )


def _configuration_data(reported: ReportedConfiguration) -> JsonObject:
    return {
        "name": reported.name,
        "exits": [
            {
                "exit": choice.exit,
                "head": choice.head,
                "policy": choice.policy,
                "threshold": choice.threshold,
            }
            for choice in reported.exits
        ],
        "calibration": _figures(reported.calibration),
        "report": None if reported.report is None else _figures(reported.report),
        "command": reported.command,
        "iou": {name: _plain(values.tolist()) for name, values in reported.iou.items()},
    }


def _figures(entry: ConfigurationFigures) -> JsonObject:
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
