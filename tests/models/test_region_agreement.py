"""Agreement of two label maps: by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from mess_tf.region_agreement import region_agreement


def test_by_hand() -> None:
    halves = np.array([[0, 0, 1, 1]])
    assert region_agreement(halves, halves, 3) == pytest.approx(1)
    assert region_agreement(halves, 2 - halves, 3) == pytest.approx(1)  # other names
    assert region_agreement(halves, np.array([[0, 1, 0, 1]]), 3) == pytest.approx(0)
    assert region_agreement(halves * 0, halves * 0, 3) == 1


def test_it_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, (9, 7))
    second = np.where(rng.random(first.shape) < 0.6, first, rng.integers(0, 5, (9, 7)))
    expected = normalized_mutual_info_score(first.ravel(), second.ravel())
    assert region_agreement(first, second, 5) == pytest.approx(expected)
