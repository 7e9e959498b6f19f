"""Losses against plain numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mess_tf.recipe.sections import ExitLoss
from mess_tf.training.losses import (
    EXIT_LOSSES,
    class_weights,
    cross_entropy,
    exit_loss,
)
from mess_tf.training.schedule import PolyDecay

EQUAL = np.ones(3, np.float32)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    shape = (2, 4, 5, 3)
    return rng.normal(size=shape), rng.normal(size=shape), labels


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits, _, labels = arrays(0)
    valid = labels < 3
    picked = np.take_along_axis(
        log_softmax(logits), np.where(valid, labels, 0)[..., None], axis=-1
    )[..., 0]
    got = cross_entropy(
        keras.ops.array(logits, "float32"), keras.ops.array(labels), EQUAL
    )
    assert float(keras.ops.mean(got)) == pytest.approx(-picked[valid].mean(), rel=1e-5)


def expected_loss(
    loss: str, alpha: float, entropy: float, divergence: float, right: bool
) -> float:
    if loss == "ce" or (loss == "pfd-full" and not right):
        return entropy
    if loss == "pfd" and not right:
        return (1 - alpha) * entropy
    return (1 - alpha) * entropy + alpha * divergence


@pytest.mark.parametrize("loss", EXIT_LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_exit_losses_by_the_pixel(loss: ExitLoss, alpha: float) -> None:
    logits, teacher, labels = arrays(1)
    weights = np.array([1.0, 4.0, 0.5], np.float32)
    student, tutor = log_softmax(logits), log_softmax(teacher)
    total, weight = 0.0, 0.0
    for index in np.ndindex(labels.shape):
        if labels[index] > 2:
            continue
        own = weights[labels[index]]
        weight += own
        divergence = (np.exp(tutor[index]) * (tutor[index] - student[index])).sum()
        total += own * expected_loss(
            loss,
            alpha,
            -student[index][labels[index]],
            divergence,
            teacher[index].argmax() == labels[index],
        )
    got = exit_loss(
        loss,
        keras.ops.array(logits, "float32"),
        keras.ops.array(teacher, "float32"),
        keras.ops.array(labels),
        alpha,
        weights,
    )
    assert float(keras.ops.mean(got)) == pytest.approx(total / weight, rel=1e-5)


def test_an_image_without_any_label_is_no_division_by_zero() -> None:
    labels = keras.ops.full((1, 2, 2), 255, dtype="int32")
    assert float(cross_entropy(keras.ops.ones((1, 2, 2, 3)), labels, EQUAL)[0]) == 0.0


def test_the_poly_schedule() -> None:
    schedule = PolyDecay(0.02, 100, 0.9)
    assert float(schedule(0)) == pytest.approx(0.02)
    assert float(schedule(50)) == pytest.approx(0.02 * 0.5**0.9)
    assert float(schedule(100)) == 0.0
    warm = PolyDecay(0.02, 100, 0.9, warmup_steps=10)
    assert float(warm(4)) == pytest.approx(0.02 * 0.96**0.9 * 0.5)
    assert float(warm(50)) == pytest.approx(float(schedule(50)))


def test_class_weights_by_hand() -> None:
    frequencies = np.array([100, 25, 0, 400])
    assert class_weights(frequencies, 0.0).tolist() == [1, 1, 1, 1]
    assert class_weights(frequencies, 1.0).tolist() == [1, 4, 1, 0.25]
    assert class_weights(frequencies, 0.5).tolist() == [1, 2, 1, 0.5]


def test_weighted_cross_entropy_is_the_weighted_mean_over_pixels() -> None:
    logits, _, labels = arrays(2)
    weights = np.array([1.0, 4.0, 0.5], np.float32)
    valid = labels < 3
    chosen = np.where(valid, labels, 0)
    picked = np.take_along_axis(log_softmax(logits), chosen[..., None], axis=-1)[..., 0]
    per_pixel = weights[chosen] * valid
    expected = -(picked * per_pixel).sum() / per_pixel.sum()
    got = cross_entropy(
        keras.ops.array(logits, "float32"), keras.ops.array(labels), weights
    )
    assert float(keras.ops.mean(got)) == pytest.approx(expected, rel=1e-5)
