"""Promised and measured figures by deadline, against a case counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mess_tf.commands.check_anytime import check_deadlines, positions_at
from mess_tf.core.segmentation_metrics import Areas
from search.anytime import AnytimeResult, DeadlineFigures, ExitFigures

# Two exits (rows), three images.
READY_MS = np.array([[2.0, 3.0, 5.0], [6.0, 8.0, 9.0]])
PROMISED = AnytimeResult(
    name="anytime-4-8",
    exits=(
        ExitFigures(1, "fcn_r1_b0", 3.0, 0.5, 0.4),
        ExitFigures(3, "fcn_r2_b0", 7.0, 0.7, 0.6),
    ),
    deadlines=(
        DeadlineFigures(1.0, 1.0, None, 0.0, 0.0, None),
        DeadlineFigures(4.0, 1.0, 0, 0.5, 0.4, None),
        DeadlineFigures(8.0, 2.0, 1, 0.7, 0.6, None),
    ),
    weighted_calibration_miou=0.475,
    weighted_report_miou=0.4,
    max_exits=None,
    source="pieces:int8",
)


def areas_of(image: int, position: int) -> Areas:
    """One class of 10 pixels per image; exit k gets 4 + 3 k of them right."""
    right = {-1: 0, 0: 4, 1: 7}[position]
    counts = (np.array([value]) for value in (10, right, right))
    return Areas(*counts)


def test_an_answer_counts_from_when_it_is_there() -> None:
    assert positions_at(READY_MS, 1.0).tolist() == [-1, -1, -1]
    assert positions_at(READY_MS, 3.0).tolist() == [0, 0, -1]  # the deadline included
    assert positions_at(READY_MS, 8.0).tolist() == [1, 1, 0]


def test_figures_by_deadline() -> None:
    none, early, late = check_deadlines(
        PROMISED, "report", READY_MS, [0, 1, 2], areas_of
    )
    assert none.exit is none.measured_ready_ms is none.in_time is None
    assert none.measured_miou == none.promised_miou == 0.0
    # By 4 ms the third image has no answer: (4 + 4 + 0) of 30 pixels.
    assert (early.exit, early.promised_ready_ms, early.promised_miou) == (1, 3.0, 0.4)
    assert early.measured_ready_ms == pytest.approx(10 / 3)
    assert early.measured_ready_p90_ms == 5.0
    assert early.in_time == pytest.approx(2 / 3)
    assert early.measured_miou == pytest.approx(8 / 30)
    # By 8 ms it has its first one only: (7 + 7 + 4) of 30.
    assert late.exit == 3 and late.in_time == pytest.approx(2 / 3)
    assert late.measured_miou == pytest.approx(18 / 30)


def test_each_part_has_its_images_and_promises() -> None:
    rows = check_deadlines(PROMISED, "calibration", READY_MS, [2], areas_of)
    assert [row.promised_miou for row in rows] == [0.0, 0.5, 0.7]
    assert [row.in_time for row in rows] == [None, 0.0, 0.0]
    assert rows[2].measured_miou == pytest.approx(0.4)
