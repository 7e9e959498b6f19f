"""Table 9's comparison, counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from separation import good_answers, head_separation, separation

from mess_tf.core.statistics import Statistics

EARLY, FINAL = (1, "fcn_r1_b0"), (2, "fcn_r1_b0")


def statistics() -> Statistics:
    """Four images of 10 pixels of class 0; the early head misses 0, 1, 2, 5 of them.

    What it misses it calls class 1, which no label has: that class counts nowhere.
    """
    missed = np.array([0, 1, 2, 5])
    predicted = np.zeros((4, 2, 2), np.int64)
    predicted[:, 0] = np.stack([10 - missed, missed], axis=1)
    predicted[:, 1] = [[9, 1]]
    both = predicted.copy()
    both[:, :, 1] = 0
    return Statistics(
        images=("a", "b", "c", "d"),
        groups=("s", "s", "t", "t"),
        parts=("calibration", "report", "report", "report"),
        heads=(EARLY, FINAL),
        classes=("x", "y"),
        true_area=np.tile([10, 0], (4, 1)),
        predicted_area=predicted,
        intersection=both,
        confidence={"mean": np.array([[9, 0], [8, 0], [5, 0], [6, 0]], np.float32)},
        source="drawn",
    )


def test_by_hand() -> None:
    # mIoU of the early head: 1, 0.9, 0.8, 0.5; of the final one 0.9 everywhere.
    for within, expected in ((0, [1, 1, 0, 0]), (10.001, [1, 1, 1, 0])):
        good = good_answers(statistics(), FINAL, within)
        assert good[:, 0].astype(int).tolist() == expected
        assert good[:, 1].all()
    good = good_answers(statistics(), FINAL, 10.001)
    # Of the pairs good > bad, 9 > 6 and 8 > 6 are in order, 5 > 6 is not.
    assert head_separation(statistics(), EARLY, good)["mean"] == pytest.approx(2 / 3)
    report = head_separation(statistics(), EARLY, good, "report")
    assert report["mean"] == pytest.approx(1 / 2)
    assert np.isnan(head_separation(statistics(), FINAL, good)["mean"])
    lacking = {"region_1": np.full(4, np.nan, np.float32)}
    assert np.isnan(separation(lacking, good[:, 0])["region_1"])


def test_it_is_the_chance_of_the_right_order() -> None:
    rng = np.random.default_rng(0)
    good = rng.random(40) < 0.4
    confidence = np.round(rng.normal(0, 1, 40) + good, 1)  # ties count half
    pairs = list(itertools.product(confidence[good], confidence[~good]))
    expected = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert separation({"p": confidence}, good)["p"] == pytest.approx(expected)
