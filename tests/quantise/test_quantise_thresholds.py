"""What thresholds do on another graph, against hand-counted images."""

from __future__ import annotations

import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics
from mess_tf.quantising.thresholds import only_heads, routed

EARLY, FINAL = (1, "fcn_r1_b0"), (2, "fcn_r1_b0")
CHOSEN = Configuration((ExitChoice(*EARLY, "mean", 0.5), ExitChoice(*FINAL)))


def statistics() -> Statistics:
    """Four images of two classes, ten pixels each; the early head misses some."""
    true = np.tile([6, 4], (4, 1))
    right = np.array([[6, 4], [6, 4], [3, 2], [0, 4]])  # of the early head, per image
    both = np.stack([right, true, true], axis=1)
    predicted = np.stack([right + (true - right)[:, ::-1], true, true], axis=1)
    confidence = np.array([[0.9, 1, 1], [0.6, 1, 1], [0.4, 1, 1], [0.2, 1, 1]])
    return Statistics(
        images=("a", "b", "c", "d"),
        groups=("g",) * 4,
        parts=("report", "calibration", "report", "report"),
        heads=(EARLY, (1, "fcn_r2_b0"), FINAL),
        classes=("x", "y"),
        true_area=true,
        predicted_area=predicted,
        intersection=both,
        confidence={"mean": confidence.astype(np.float32)},
        source="by hand",
    )


def test_exit_rates_and_miou_are_those_of_the_images_of_the_part() -> None:
    place = np.array([0, 0, 0, 1])
    figures = routed(statistics(), CHOSEN, place, FINAL, "report")
    assert figures is not None
    assert figures.exit_rates == pytest.approx((2 / 3, 1 / 3))
    # a and d are right; c has 3 + 2 pixels right, 3 of x taken for y, 2 of y for x.
    x, y = (6 + 3 + 6) / (6 + 8 + 6), (4 + 2 + 4) / (4 + 7 + 4)
    assert figures.miou == pytest.approx((x + y) / 2)
    assert figures.drop_pp == pytest.approx(100 * (1 - (x + y) / 2))


def test_a_part_without_images_has_no_figures() -> None:
    place = np.array([0, 0, 0, 1])
    assert routed(statistics(), CHOSEN, place, FINAL, "none") is None


def test_a_search_may_be_left_the_chosen_heads() -> None:
    kept = only_heads(statistics(), [FINAL, EARLY])
    assert kept.heads == (EARLY, FINAL)
    whole = statistics()
    np.testing.assert_array_equal(kept.predicted_area, whole.predicted_area[:, [0, 2]])
    np.testing.assert_array_equal(kept.intersection, whole.intersection[:, [0, 2]])
    np.testing.assert_array_equal(
        kept.confidence["mean"], whole.confidence["mean"][:, [0, 2]]
    )
    with pytest.raises(MessError, match="'dlb_r1_b0' of exit 2"):
        only_heads(statistics(), [(2, "dlb_r1_b0")])
