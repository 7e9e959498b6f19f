"""The report's figures as tables: a line per point, for whoever counts further."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mess_tf.reporting.costs import KINDS
from mess_tf.reporting.gallery import Gallery
from mess_tf.reporting.records import Answer, ExitRow, Ring, Target, View

Lines = list[dict[str, Any]]


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


def head_lines(target: Target) -> Lines:
    """A line per head: it alone answers every image."""
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


def front_lines(target: Target) -> Lines:
    """A line per point of the Pareto front."""
    return [
        {
            "calibration_ms": point.row.calibration.mean_ms,
            "calibration_miou": point.row.calibration.miou,
            "report_ms": None if (told := point.row.report) is None else told.mean_ms,
            "report_miou": None if told is None else told.miou,
            "proven": int(point.row.proven),
            "exits": json.dumps(point.row.configuration.to_json()),
            "exit_rates": json.dumps(list(point.exit_rates)),
            "command": point.command,
        }
        for point in target.front
    ]


def rate_lines(answers: Sequence[Answer]) -> Lines:
    """A line per answer and exit: its rule, and how many images leave."""
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


def bar_lines(answers: Sequence[Answer]) -> Lines:
    """A line per answer and path: where the time goes."""
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


def iou_lines(views: Sequence[View], classes: Sequence[str]) -> Lines:
    """A line per configuration and curve of its spider chart, a column per class."""
    return [
        {"configuration": view.name, "curve": curve}
        | dict(zip(classes, values.tolist(), strict=True))
        for view in views
        for curve, values in view.iou.items()
    ]


def ring_lines(rings: Sequence[Ring], classes: Sequence[str]) -> Lines:
    """Fig. 7: a line per kind of heads and speed-up, a column per class."""
    return [
        {
            "heads": ring.heads,
            "speedup": ring.speedup,
            "mean_ms": ring.mean_ms,
            "miou": ring.miou,
            "proven": int(ring.proven),
            "exits": json.dumps(ring.configuration.to_json()),
            **dict(zip(classes, ring.iou.tolist(), strict=True)),
        }
        for ring in rings
    ]


def output_lines(gallery: Gallery, views: Sequence[View]) -> Lines:
    """Table 8: a line per configuration, image and exit."""
    return [
        {
            "configuration": view.name,
            "image": shot.name,
            "exit": choice.exit,
            "head": choice.head,
            "miou": shot.looks[choice.exit, choice.head].miou,
            "pixel_accuracy": shot.looks[choice.exit, choice.head].accuracy,
            "taken": int(place == view.places[shot.index]),
        }
        for view in views
        for shot in gallery.shots
        for place, choice in enumerate(view.exits)
    ]


def confidence_lines(gallery: Gallery) -> Lines:
    """Table 9: a line per image and head, a column per policy."""
    return [
        {"image": shot.name, "exit": exit_index, "head": head, **look.confidence}
        for shot in gallery.shots
        for (exit_index, head), look in shot.looks.items()
    ]
