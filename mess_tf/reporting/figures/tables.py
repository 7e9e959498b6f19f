"""The report's figures as tables, a line per point."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mess_tf.core.latency import KINDS
from mess_tf.reporting.configuration_records import (
    ReportedConfiguration,
    ResultSummary,
    SpeedupPoint,
)
from mess_tf.reporting.gallery import Gallery
from mess_tf.reporting.records import Deployment, ExitRow

Cell = str | int | float | None
Lines = list[dict[str, Cell]]


def exit_lines(table: Sequence[ExitRow]) -> Lines:
    """A line per exit point and precision: its best head alone."""
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


def head_lines(deployment: Deployment) -> Lines:
    """A line per head, each as the only exit."""
    return [
        {
            "exit": head.exit,
            "head": head.head,
            "macs": head.macs,
            "latency_ms": head.latency_ms,
            "miou_report": head.miou_report,
            "miou_calibration": head.miou_calibration,
        }
        for head in deployment.heads
    ]


def front_lines(deployment: Deployment) -> Lines:
    """A line per point of the Pareto front."""
    return [
        {
            "calibration_ms": point.row.calibration.mean_ms,
            "calibration_miou": point.row.calibration.miou,
            "report_ms": None
            if (held_out := point.row.report) is None
            else held_out.mean_ms,
            "report_miou": None if held_out is None else held_out.miou,
            "proven": int(point.row.proven),
            "exits": json.dumps(point.row.configuration.to_json()),
            "exit_rates": json.dumps(list(point.exit_rates)),
            "command": point.command,
        }
        for point in deployment.front
    ]


def rate_lines(results: Sequence[ResultSummary]) -> Lines:
    """A line per search result and exit: its rule, and how many images leave."""
    lines: Lines = []
    for result in results:
        for position, choice in enumerate(result.chosen.exits):
            lines.append(
                {
                    "answer": result.name,
                    "exit": choice.exit,
                    "head": choice.head,
                    "policy": choice.policy or "",
                    "threshold": choice.threshold,
                    "calibration": result.on_calibration.exit_rates[position],
                    result.part: result.chosen.exit_rates[position],
                }
            )
    return lines


def breakdown_lines(results: Sequence[ResultSummary]) -> Lines:
    """A line per search result and path: its latency by kind of piece."""
    lines: Lines = []
    for result in results:
        for breakdown in result.breakdowns:
            kinds_ms = zip(KINDS, breakdown.kinds_ms, strict=True)
            lines.append(
                {
                    "answer": result.name,
                    "path": breakdown.label,
                    **{f"{kind}_ms": value for kind, value in kinds_ms},
                    "total_ms": breakdown.total_ms,
                }
            )
    return lines


def iou_lines(
    configurations: Sequence[ReportedConfiguration], classes: Sequence[str]
) -> Lines:
    """A line per configuration and curve of its radar chart, a column per class."""
    lines: Lines = []
    for reported in configurations:
        for curve, values in reported.iou.items():
            by_class = zip(classes, values.tolist(), strict=True)
            line: dict[str, Cell] = {"configuration": reported.name, "curve": curve}
            lines.append(line | dict(by_class))
    return lines


def speedup_lines(speedups: Sequence[SpeedupPoint], classes: Sequence[str]) -> Lines:
    """Fig. 7: a line per kind of heads and speed-up, a column per class."""
    return [
        {
            "heads": point.heads,
            "speedup": point.speedup,
            "mean_ms": point.mean_ms,
            "miou": point.miou,
            "proven": int(point.proven),
            "exits": json.dumps(point.configuration.to_json()),
            **dict(zip(classes, point.iou.tolist(), strict=True)),
        }
        for point in speedups
    ]


def output_lines(
    gallery: Gallery, configurations: Sequence[ReportedConfiguration]
) -> Lines:
    """Table 8: a line per configuration, image and exit."""
    return [
        {
            "configuration": reported.name,
            "image": sample.name,
            "exit": choice.exit,
            "head": choice.head,
            "miou": sample.outputs[choice.exit, choice.head].miou,
            "pixel_accuracy": sample.outputs[choice.exit, choice.head].accuracy,
            "taken": int(position == reported.exit_positions[sample.index]),
        }
        for reported in configurations
        for sample in gallery.samples
        for position, choice in enumerate(reported.exits)
    ]


def confidence_lines(gallery: Gallery) -> Lines:
    """Table 9: a line per image and head, a column per policy."""
    return [
        {"image": sample.name, "exit": exit_index, "head": head, **output.confidence}
        for sample in gallery.samples
        for (exit_index, head), output in sample.outputs.items()
    ]
