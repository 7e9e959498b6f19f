"""Agreement of two exits' regions: by hand, against scikit-learn, and in keras.ops."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from mess_tf.core.errors import MessError
from mess_tf.policies.region_agreement import (
    agreement_numpy,
    agreement_ops,
    region_agreement,
)


def one_hot(labels: list[list[int]], classes: int) -> np.ndarray:
    """Logits that say just these labels, (1, h, w, C)."""
    return np.eye(classes, dtype=np.float32)[np.array(labels)][None]


def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The agreement in numpy, once keras.ops were found to give the same."""
    expected = agreement_numpy(first, second)
    tensors = map(keras.ops.convert_to_tensor, (first, second))
    got = keras.ops.convert_to_numpy(agreement_ops(*tensors))
    assert expected.shape == got.shape == (len(first), 1, 1)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    return expected[:, 0, 0]


def test_label_maps_by_hand() -> None:
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


def test_two_grids_by_hand() -> None:
    fine = one_hot([[0, 0, 1, 1], [0, 1, 1, 1]], 3)
    coarse = one_hot([[2, 0]], 3)
    # Eight cells: (0, 2) three times, (1, 2) once, (1, 0) four times. H of 3 and 5 of
    # 8, of 4 and 4 of 8, and of the pairs.
    h_fine = -(3 / 8 * np.log(3 / 8) + 5 / 8 * np.log(5 / 8))
    h_pairs = -(3 / 8 * np.log(3 / 8) + 1 / 8 * np.log(1 / 8) + np.log(1 / 2) / 2)
    apart = h_fine + np.log(2)
    expected = pytest.approx([2 * (apart - h_pairs) / apart], abs=1e-6)
    assert both(fine, coarse) == expected
    assert both(coarse, fine) == expected


def test_one_region_agrees_with_one_region_alone() -> None:
    plain = one_hot([[1, 1, 1, 1], [1, 1, 1, 1]], 3)
    assert both(plain, one_hot([[0, 0]], 3)) == 1
    assert both(plain, one_hot([[0, 2]], 3)) == pytest.approx(0, abs=1e-6)
    # One cell of a large map is enough to tell them apart.
    large = np.zeros((1, 60, 80, 3), np.float32)
    other = large.copy()
    other[0, 7, 9, 2] = 1
    assert both(large, other) == pytest.approx(0, abs=1e-6)
    assert both(other, other) == pytest.approx(1, abs=1e-6)


def test_of_equal_logits_the_first_class_counts() -> None:
    tie = np.array([[0, 5, 5], [5, 5, 0], [5, 0, 5], [0, 0, 9]], np.float32)
    first = one_hot([[1, 0, 0, 2]], 3)
    assert both(tie[None, None], first) == pytest.approx(1, abs=1e-6)


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    factor=st.integers(1, 4),
)
def test_any_maps(seed: int, rows: int, columns: int, factor: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, rows, columns, 3)
    coarse = np.round(rng.normal(0, 1.5, shape)).astype(np.float32)
    large = coarse.repeat(factor, axis=1).repeat(factor, axis=2)
    fine = np.round(large + rng.normal(0, 1, large.shape)).astype(np.float32)
    got = both(fine, coarse)
    expected = [
        normalized_mutual_info_score(a.argmax(-1).ravel(), b.argmax(-1).ravel())
        for a, b in zip(fine, large, strict=True)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_grids_that_do_not_divide_are_told() -> None:
    maps = np.zeros((1, 6, 8, 3)), np.zeros((1, 4, 4, 3))
    for how in (agreement_numpy, agreement_ops):
        with pytest.raises(MessError, match="6x8 and 4x4 cells. Leave 'region'"):
            how(*maps)
