"""Checks an export for deadlines: what was answered by each of them on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mess_tf.commands.check_records import CheckedDeadline
from mess_tf.core.quantiles import quantile
from mess_tf.core.segmentation_metrics import Areas, mean_iou
from search.anytime import AnytimeResult, DeadlineFigures

AreasOf = Callable[[int, int], Areas]
"""f(image, position): pixel counts of an answer; position -1 has nothing predicted."""


def check_deadlines(
    promised: AnytimeResult,
    part: str,
    ready_ms: np.ndarray,
    images: Sequence[int],
    areas_of: AreasOf,
) -> tuple[CheckedDeadline, ...]:
    """Promised and measured figures of one part of the images, by deadline.

    Args:
        promised: of the card.
        part: ``calibration`` or ``report``.
        ready_ms: milliseconds from the image to each answer, measured, float64 array of
            shape (exits, all images).
        images: indices of the part's images, at least one.
        areas_of: pixel counts of an image's answer.
    """
    return tuple(
        _row(promised, row, part, ready_ms, images, areas_of)
        for row in promised.deadlines
    )


def positions_at(ready_ms: np.ndarray, deadline_ms: float) -> np.ndarray:
    """Position of each image's last answer by a deadline; -1 where there is none.

    Args:
        ready_ms: array of shape (exits, images), rising along the first axis.
        deadline_ms: since the image arrived.

    Returns:
        int64 array of shape (images,).
    """
    return np.asarray((ready_ms <= deadline_ms).sum(axis=0) - 1)


def _row(
    promised: AnytimeResult,
    row: DeadlineFigures,
    part: str,
    ready_ms: np.ndarray,
    images: Sequence[int],
    areas_of: AreasOf,
) -> CheckedDeadline:
    positions = positions_at(ready_ms, row.deadline_ms)
    total = areas_of(images[0], int(positions[images[0]]))
    for image in images[1:]:
        total = total + areas_of(image, int(positions[image]))
    miou = row.calibration_miou if part == "calibration" else row.report_miou
    exit_ = None if row.position is None else promised.exits[row.position]
    ready = None if row.position is None else ready_ms[row.position, list(images)]
    return CheckedDeadline(
        deadline_ms=row.deadline_ms,
        weight=row.weight,
        exit=None if exit_ is None else exit_.exit,
        promised_ready_ms=None if exit_ is None else exit_.completion_ms,
        measured_ready_ms=None if ready is None else float(ready.mean()),
        measured_ready_p90_ms=None if ready is None else quantile(ready, 0.9),
        in_time=None if ready is None else float((ready <= row.deadline_ms).mean()),
        promised_miou=float("nan") if miou is None else miou,
        measured_miou=mean_iou(total),
    )
