"""Configurations to look at closely: the answers, and the points of the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.segmentation_metrics import Areas, iou
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_areas
from mess_tf.reporting.costs import adds_up, make_bars
from mess_tf.reporting.inputs import FrontFigures
from mess_tf.reporting.records import Answer, Bar, Entry, FrontPoint, View

LeaveAt = Callable[[Statistics, Configuration], np.ndarray]
NETWORK = "network"


def make_views(
    spec: SupernetSpec,
    statistics: Statistics,
    by_piece: Mapping[str, float],
    answers: Sequence[Answer],
    front: Sequence[FrontPoint],
    final_ms: float,
    leave_at: LeaveAt,
) -> tuple[View, ...]:
    """Answers and those points of the front that are no answer, each once.

    Args:
        by_piece: milliseconds by piece name; empty where not known.
        final_ms: mean latency of the final exit.
        leave_at: per image, the position in a configuration at which it leaves.

    Returns:
        from the smallest accuracy drop to the largest, on the calibration part.
    """
    views: list[View] = []
    for answer in answers:
        configuration = Configuration(answer.chosen.exits)
        views.append(
            View(
                name=answer.name,
                answer=answer,
                exits=configuration.exits,
                calibration=answer.on_calibration,
                report=answer.chosen if answer.part == "report" else None,
                bars=answer.bars,
                iou=_iou(statistics, configuration, leave_at),
                places=leave_at(statistics, configuration),
                command=answer.command,
            )
        )
    taken = {view.exits for view in views}
    for number, point in enumerate(front, 1):
        if point.row.configuration.exits not in taken:
            views.append(
                _of_point(
                    f"front {number}",
                    spec,
                    statistics,
                    by_piece,
                    point,
                    final_ms,
                    leave_at,
                )
            )
    return tuple(
        sorted(views, key=lambda v: (v.calibration.drop_pp, -v.calibration.mean_ms))
    )


def routed_areas(
    statistics: Statistics,
    configuration: Configuration,
    places: np.ndarray,
    images: np.ndarray,
) -> Areas:
    """Summed areas of what the network answers, each image by the exit it leaves at.

    Args:
        places: int64 array of shape (I,), position at which each image leaves.
        images: indices of the images to sum over.
    """
    heads = [statistics.heads.index((c.exit, c.head)) for c in configuration.exits]
    columns = np.array(heads)[places[images]]
    return Areas(
        statistics.true_area[images].sum(axis=0),
        statistics.predicted_area[images, columns].sum(axis=0),
        statistics.intersection[images, columns].sum(axis=0),
    )


def told_images(statistics: Statistics) -> np.ndarray:
    """Indices of the report part, or of all images where nothing was kept apart."""
    images = part_images(statistics, "report")
    return images if len(images) else part_images(statistics)


def _iou(
    statistics: Statistics, configuration: Configuration, leave_at: LeaveAt
) -> dict[str, np.ndarray]:
    images = told_images(statistics)
    places = leave_at(statistics, configuration)
    values = {
        NETWORK: iou(routed_areas(statistics, configuration, places, images)),
    }
    for choice in configuration.exits:
        areas = head_areas(statistics, (choice.exit, choice.head), images)
        values[f"exit {choice.exit}"] = iou(areas)
    return values


def _of_point(
    name: str,
    spec: SupernetSpec,
    statistics: Statistics,
    by_piece: Mapping[str, float],
    point: FrontPoint,
    final_ms: float,
    leave_at: LeaveAt,
) -> View:
    configuration = point.row.configuration
    places = leave_at(statistics, configuration)

    def entry(part: str, figures: FrontFigures) -> Entry:
        there = places[part_images(statistics, part)]
        counts = np.bincount(there, minlength=len(configuration.exits))
        return Entry(
            exits=configuration.exits,
            images=len(there),
            mean_ms=figures.mean_ms,
            p90_ms=figures.p90_ms,
            miou=figures.miou,
            drop_pp=figures.drop_pp,
            exit_rates=tuple((counts / max(len(there), 1)).tolist()),
            speedup=final_ms / figures.mean_ms if figures.mean_ms else math.nan,
            met=True,  # a point of the front was asked for nothing
        )

    told = point.row.report
    calibration = entry("calibration", point.row.calibration)
    report = None if told is None else entry("report", told)
    bars: tuple[Bar, ...] = ()
    rates, ms = calibration.exit_rates, calibration.mean_ms
    if adds_up(spec, by_piece, configuration, rates, ms):
        shown = calibration if report is None else report
        bars = make_bars(spec, by_piece, configuration, shown.exit_rates)
    return View(
        name=name,
        answer=None,
        exits=configuration.exits,
        calibration=calibration,
        report=report,
        bars=bars,
        iou=_iou(statistics, configuration, leave_at),
        places=places,
        command=point.command,
    )
