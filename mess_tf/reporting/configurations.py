"""Configurations shown in detail: search results and points of the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.latency import PathLatency
from mess_tf.core.segmentation_metrics import iou
from mess_tf.core.statistics import part_images
from mess_tf.evaluation.accuracy import head_areas
from mess_tf.reporting.configuration_records import (
    ConfigurationFigures,
    FrontPoint,
    LatencyBreakdown,
    ReportedConfiguration,
    ResultSummary,
)
from mess_tf.reporting.inputs import FrontFigures
from mess_tf.reporting.latency_breakdown import latency_breakdowns, reproduces_mean
from mess_tf.reporting.routed import RoutedConfiguration, Router, report_images

NETWORK = "network"


def reported_configurations(
    router: Router,
    latency: PathLatency,
    results: Sequence[ResultSummary],
    front: Sequence[FrontPoint],
    final_ms: float,
) -> tuple[ReportedConfiguration, ...]:
    """Results and those points of the front that are no result, each once.

    Args:
        router: over the images of this precision.
        latency: of the pieces that are measured.
        results: of the search.
        front: points of the Pareto front, from the fastest.
        final_ms: mean latency of the final exit.

    Returns:
        from the smallest accuracy drop to the largest, on the calibration part.
    """
    configurations: list[ReportedConfiguration] = []
    for result in results:
        routed = router(Configuration(result.chosen.exits))
        configurations.append(
            ReportedConfiguration(
                name=result.name,
                result=result,
                exits=result.chosen.exits,
                calibration=result.on_calibration,
                report=result.chosen if result.part == "report" else None,
                breakdowns=result.breakdowns,
                iou=class_iou(routed),
                exit_positions=routed.exit_positions,
                command=result.command,
            )
        )
    taken = {reported.exits for reported in configurations}
    points = _FrontReporter(router, latency, final_ms)
    for number, point in enumerate(front, 1):
        if point.row.configuration.exits not in taken:
            configurations.append(points.report(f"front {number}", point))
    return tuple(
        sorted(
            configurations,
            key=lambda c: (c.calibration.drop_pp, -c.calibration.mean_ms),
        )
    )


def class_iou(routed: RoutedConfiguration) -> dict[str, np.ndarray]:
    """IoU per class of the whole network and of each of its exits alone.

    Returns:
        float64 arrays of shape (C,) by ``network`` and ``exit <k>``, over the report
        part (all images without one); NaN where a class does not occur.
    """
    images = report_images(routed.statistics)
    curves = {NETWORK: iou(routed.areas(images))}
    for choice in routed.configuration.exits:
        areas = head_areas(routed.statistics, (choice.exit, choice.head), images)
        curves[f"exit {choice.exit}"] = iou(areas)
    return curves


@dataclass(frozen=True)
class _FrontReporter:
    router: Router
    latency: PathLatency
    final_ms: float

    def report(self, name: str, point: FrontPoint) -> ReportedConfiguration:
        configuration = point.row.configuration
        routed = self.router(configuration)
        calibration = self._figures(routed, "calibration", point.row.calibration)
        report = None
        if point.row.report is not None:
            report = self._figures(routed, "report", point.row.report)
        breakdowns: tuple[LatencyBreakdown, ...] = ()
        rates, mean_ms = calibration.exit_rates, calibration.mean_ms
        if reproduces_mean(self.latency, configuration, rates, mean_ms):
            shown = calibration if report is None else report
            breakdowns = latency_breakdowns(
                self.latency, configuration, shown.exit_rates
            )
        return ReportedConfiguration(
            name=name,
            result=None,
            exits=configuration.exits,
            calibration=calibration,
            report=report,
            breakdowns=breakdowns,
            iou=class_iou(routed),
            exit_positions=routed.exit_positions,
            command=point.command,
        )

    def _figures(
        self, routed: RoutedConfiguration, part: str, figures: FrontFigures
    ) -> ConfigurationFigures:
        images = part_images(routed.statistics, part)
        return ConfigurationFigures(
            exits=routed.configuration.exits,
            images=len(images),
            mean_ms=figures.mean_ms,
            p90_ms=figures.p90_ms,
            miou=figures.miou,
            drop_pp=figures.drop_pp,
            exit_rates=routed.exit_rates(images),
            speedup=self.final_ms / figures.mean_ms if figures.mean_ms else math.nan,
            met=True,  # a point of the front has no requirement
        )
