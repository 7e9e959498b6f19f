"""Confidence policies: by hand, against brute force, and keras.ops against numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.errors import MessError
from mess_tf.policies import Policy, confidences_numpy, keys

ALL = keys(("mean", "eq7", "eq7+9", "entropy"), (0.5, 0.8))


def logits_of(probabilities: list[list[list[float]]]) -> np.ndarray:
    return np.log(np.array([probabilities], np.float32))


def test_by_hand() -> None:
    # One row of two cells, two classes: top-1 probabilities 0.9 and 0.6.
    logits = logits_of([[[0.9, 0.1], [0.6, 0.4]]])
    assert Policy("mean").confidence_numpy(logits) == pytest.approx([0.75])
    assert Policy("eq7", 0.5).confidence_numpy(logits) == [1.0]
    assert Policy("eq7", 0.8).confidence_numpy(logits) == [0.5]
    entropy = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    entropy += -(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4))
    expected = pytest.approx([1 - entropy / 2])
    assert Policy("entropy").confidence_numpy(logits) == expected


def test_edge_smoothing_lifts_a_thin_unsure_border_and_nothing_else() -> None:
    # Two sure halves with an unsure column at their border.
    probabilities = np.full((9, 12, 2), [0.99, 0.01])
    probabilities[:, 6:] = [0.01, 0.99]
    probabilities[:, 5] = [0.6, 0.4]
    logits = np.log(probabilities)[None].astype(np.float32)
    plain = Policy("eq7", 0.9).confidence_numpy(logits)[0]
    smooth = Policy("eq7+9", 0.9).confidence_numpy(logits)[0]
    assert plain == pytest.approx(11 / 12)
    assert smooth == 1.0
    unsure = np.full((1, 9, 12, 2), [0.6, 0.4])
    assert Policy("eq7+9", 0.9).confidence_numpy(np.log(unsure).astype("f4")) == [0.0]


def smoothed_by_loops(logits: np.ndarray) -> np.ndarray:
    """Eq. 8 and 9 on the grid, cell by cell; float32 (h, w, C) -> (h, w)."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    top1 = (e / e.sum(axis=-1, keepdims=True)).max(axis=-1)
    label = logits.argmax(axis=-1)
    h, w = label.shape
    edge = np.zeros((h, w), bool)
    for r in range(h):
        for c in range(w):
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= r + dr < h and 0 <= c + dc < w:
                    edge[r, c] |= label[r, c] != label[r + dr, c + dc]
    padded = np.pad(top1, 2, mode="symmetric")
    out = top1.copy()
    for r in range(h):
        for c in range(w):
            if edge[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].any():
                out[r, c] = np.median(padded[r : r + 5, c : c + 5])
    return out


@given(seed=st.integers(0, 10_000), height=st.integers(3, 9), width=st.integers(3, 9))
def test_smoothing_equals_the_loops(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (height, width, 3)).astype(np.float32)
    expected = smoothed_by_loops(logits)
    for threshold in (0.5, 0.8):
        got = Policy("eq7+9", threshold).confidence_numpy(logits[None])[0]
        # Cells exactly at the threshold may fall to either side by rounding.
        near = np.abs(expected - threshold) < 1e-6
        low = ((expected >= threshold) & ~near).mean()
        assert low - 1e-6 <= got <= low + near.mean() + 1e-6


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("quantised", [False, True])
def test_keras_ops_give_the_reference_numbers(key: str, quantised: bool) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (3, 8, 10, 4)).astype(np.float32)
    if quantised:  # equal maxima occur, as they do in int8 networks
        logits = np.round(logits)
    policy = Policy.parse(key)
    got = keras.ops.convert_to_numpy(
        policy.confidence_ops(keras.ops.convert_to_tensor(logits))
    )
    np.testing.assert_allclose(got, policy.confidence_numpy(logits), atol=1e-5)


def test_several_policies_at_once_are_those_one_by_one() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype(np.float32)
    together = confidences_numpy(logits, ALL)
    assert list(together) == ALL
    for key in ALL:
        alone = Policy.parse(key).confidence_numpy(logits)
        np.testing.assert_array_equal(together[key], alone)


@pytest.mark.parametrize("key", ["eq8@0.5", "eq7", "mean@0.5", "eq7@x", ""])
def test_a_key_that_is_none_is_told(key: str) -> None:
    with pytest.raises(MessError, match="olicy"):
        Policy.parse(key)


def test_keys_are_read_back() -> None:
    assert ALL == "mean eq7@0.5 eq7@0.8 eq7+9@0.5 eq7+9@0.8 entropy".split()
    assert [Policy.parse(key).key for key in ALL] == ALL
