"""Confidence policies: by hand, against brute force, and keras.ops against numpy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.errors import MessError
from mess_tf.policies.confidence import (
    confidence_numpy,
    confidence_ops,
    confidences_numpy,
)
from mess_tf.policies.gate import features_numpy, features_ops, gate_parameters
from mess_tf.policies.registry import (
    POLICIES,
    Policy,
    family_of,
    keys,
    keys_at,
)

ALL = keys(tuple(POLICIES), (0.5, 0.8), (1,))
CLASSES = 4
FITTED: dict[str, Any] = {
    "cbt": np.array([1, 1.5, 3, 40], np.float32),
    "gate": np.linspace(-2, 2, gate_parameters(CLASSES)).astype(np.float32),
}


def blurred(logits: np.ndarray) -> np.ndarray:
    """Logits on a grid half as fine, that say much the same."""
    count, height, width, classes = logits.shape
    return logits.reshape(count, height // 2, 2, width // 2, 2, classes).mean((2, 4))


def logits_of(probabilities: list[list[list[float]]]) -> np.ndarray:
    return np.log(np.array([probabilities], np.float32))


def test_by_hand() -> None:
    # One row of two cells, two classes: top-1 probabilities 0.9 and 0.6.
    logits = logits_of([[[0.9, 0.1], [0.6, 0.4]]])
    assert confidence_numpy(Policy("mean"), logits) == pytest.approx([0.75])
    assert confidence_numpy(Policy("eq7", 0.5), logits) == [1.0]
    assert confidence_numpy(Policy("eq7", 0.8), logits) == [0.5]
    entropy = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    entropy += -(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4))
    expected = pytest.approx([1 - entropy / 2])
    assert confidence_numpy(Policy("entropy"), logits) == expected


def test_edge_smoothing_lifts_a_thin_unsure_border_and_nothing_else() -> None:
    # Two sure halves with an unsure column at their border.
    probabilities = np.full((9, 12, 2), [0.99, 0.01])
    probabilities[:, 6:] = [0.01, 0.99]
    probabilities[:, 5] = [0.6, 0.4]
    logits = np.log(probabilities)[None].astype(np.float32)
    plain = confidence_numpy(Policy("eq7", 0.9), logits)[0]
    smooth = confidence_numpy(Policy("eq7+9", 0.9), logits)[0]
    assert plain == pytest.approx(11 / 12)
    assert smooth == 1.0
    unsure = np.full((1, 9, 12, 2), [0.6, 0.4])
    assert confidence_numpy(Policy("eq7+9", 0.9), np.log(unsure).astype("f4")) == [0.0]


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
        got = confidence_numpy(Policy("eq7+9", threshold), logits[None])[0]
        # Cells exactly at the threshold may fall to either side by rounding.
        near = np.abs(expected - threshold) < 1e-6
        low = ((expected >= threshold) & ~near).mean()
        assert low - 1e-6 <= got <= low + near.mean() + 1e-6


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("quantised", [False, True])
def test_keras_ops_give_the_reference_numbers(key: str, quantised: bool) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (3, 8, 10, CLASSES)).astype(np.float32)
    logits *= np.array([0.5, 1, 6], np.float32)[:, None, None, None]
    if quantised:  # equal maxima occur, as they do in int8 networks
        logits = np.round(logits)
    policy = Policy.parse(key)
    own = FITTED.get(policy.family, ())
    other = blurred(logits)
    got = keras.ops.convert_to_numpy(
        confidence_ops(
            policy,
            keras.ops.convert_to_tensor(logits),
            own,
            keras.ops.convert_to_tensor(other),
        )
    )
    expected = confidence_numpy(policy, logits, own, other)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.ptp(expected) > 0 and expected.min() >= 0 and expected.max() <= 1


def test_a_hard_class_needs_more() -> None:
    # Cells of class 0 and 1, both with a top-1 probability of 0.95.
    logits = logits_of([[[0.95, 0.05], [0.05, 0.95]]])
    for strictness, expected in (([1, 1], 1.0), ([1, 3], 0.5), ([3, 3], 0.0)):
        assert confidence_numpy(Policy("cbt", 0.9), logits, strictness) == [expected]
    # At 1 - 0.1 / 3 the strict class is let through again.
    sure = logits_of([[[0.95, 0.05], [0.03, 0.97]]])
    assert confidence_numpy(Policy("cbt", 0.9), sure, [1, 3]) == [1.0]
    assert confidence_numpy(Policy("cbt", 0.9), sure, [1, 4]) == [0.5]
    # A tie is judged as the stricter of its classes.
    tie = logits_of([[[0.5, 0.5], [0.95, 0.05]]])
    assert confidence_numpy(Policy("cbt", 0.4), tie, [1, 2]) == [0.5]
    assert confidence_numpy(Policy("cbt", 0.4), tie, [1, 1]) == [1.0]


def test_the_gates_features_by_hand() -> None:
    # 2x2 cells of classes 0 0 / 1 0, top-1 0.99, 0.75, 0.75, 0.5 + a hair.
    logits = logits_of([[[0.99, 0.01], [0.75, 0.25]], [[0.25, 0.75], [0.501, 0.499]]])
    top1 = (0.99 + 0.75 + 0.75 + 0.501) / 4
    changes = 1 - (1 / 2 + 1 / 2) / 2
    wrong = [(0.01 + 0.25 + 0.499) / 4, 0.25 / 4]  # in cells of each class
    missed = [0.25 / 4, (0.01 + 0.25 + 0.499) / 4]  # of each class in other cells
    expected = [top1, 1, 0.75, 0.25, 0.25, changes, 0.75, 0.25, *wrong, *missed]
    assert features_numpy(logits)[0] == pytest.approx(expected, abs=1e-6)
    got = keras.ops.convert_to_numpy(features_ops(keras.ops.convert_to_tensor(logits)))
    assert got[0] == pytest.approx(expected, abs=1e-6)
    weights = [1, 0, 0, 0, 0, 2, 0, -1, 3, 0, 0, -4, 0.25]
    score = top1 + 2 * changes - 0.25 + 3 * wrong[0] - 4 * missed[1] + 0.25
    assert confidence_numpy(Policy("gate"), logits, weights) == pytest.approx(
        [1 / (1 + np.exp(-score))]
    )


@pytest.mark.parametrize("key, given", [("cbt@0.5", 3), ("gate", 0), ("mean", 1)])
def test_numbers_of_another_network_are_told(key: str, given: int) -> None:
    logits = np.zeros((1, 4, 4, CLASSES), np.float32)
    with pytest.raises(MessError, match=f"numbers per head for 4 .* got {given}"):
        confidence_numpy(Policy.parse(key), logits, [1.0] * given)


def test_several_policies_at_once_are_those_one_by_one() -> None:
    shape = (2, 6, 8, CLASSES)
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    other = blurred(logits)
    together = confidences_numpy(logits, ALL, FITTED, other)
    assert list(together) == ALL
    for key in ALL:
        policy = Policy.parse(key)
        own = FITTED.get(policy.family, ())
        alone = confidence_numpy(policy, logits, own, other)
        np.testing.assert_array_equal(together[key], alone)


@pytest.mark.parametrize(
    "key", ["eq8@0.5", "eq7", "mean@0.5", "eq7@x", "", "region", "mean_1", "region_x"]
)
def test_a_key_that_is_none_is_told(key: str) -> None:
    with pytest.raises(MessError, match="olicy"):
        Policy.parse(key)


def test_keys_are_read_back() -> None:
    assert (
        ALL
        == (
            "mean eq7@0.5 eq7@0.8 eq7+9@0.5 eq7+9@0.8 entropy cbt@0.5 cbt@0.8 gate"
            " region_1"
        ).split()
    )
    assert [Policy.parse(key).key for key in ALL] == ALL
    assert list(dict.fromkeys(map(family_of, ALL))) == list(POLICIES)


def test_an_exit_is_asked_for_what_it_has() -> None:
    every = keys(("region", "mean", "eq7"), (0.5,), (1, 3))
    assert every == ["region_1", "region_3", "mean", "eq7@0.5"]
    assert keys_at(every, None) == ["mean", "eq7@0.5"]
    assert keys_at(every, 3) == ["region_3", "mean", "eq7@0.5"]
