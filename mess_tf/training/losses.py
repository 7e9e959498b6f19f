"""Pixel losses in ``keras.ops``: cross-entropy, and distillation by a teacher."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from keras import ops

from mess_tf.recipe.sections import ExitLoss

EXIT_LOSSES: tuple[ExitLoss, ...] = get_args(ExitLoss)


def resize_to(logits: Any, height: int, width: int) -> Any:
    """Bilinear resize (half-pixel centres) of (B, h, w, C) unless it already fits."""
    if (logits.shape[1], logits.shape[2]) == (height, width):
        return logits
    return ops.image.resize(
        logits, (height, width), interpolation="bilinear", data_format="channels_last"
    )


def class_weights(frequencies: np.ndarray, balance: float) -> np.ndarray:
    """Weights of pixels by their class: (median frequency / frequency) ** balance.

    Args:
        frequencies: pixels per class, array of shape (C,).
        balance: 0 leaves all pixels equal (the paper), 1 is median-frequency balancing
            (SegNet), between them rare classes gain less.

    Returns:
        float32 array of shape (C,); 1 for classes that never occur.
    """
    present = frequencies > 0
    weights = np.ones(len(frequencies))
    median = np.median(frequencies[present]) if present.any() else 1.0
    weights[present] = (median / frequencies[present]) ** balance
    return weights.astype(np.float32)


def cross_entropy(logits: Any, labels: Any, weights: np.ndarray) -> Any:
    """Weighted mean of the cross-entropy per image over its valid pixels.

    Args:
        logits: float tensor (B, h, w, C).
        labels: int tensor (B, h, w); values outside 0..C-1 are ignored.
        weights: of pixels by their class, array of shape (C,).

    Returns:
        float tensor (B,): weighted sum over the image's valid pixels, divided by the
        batch's mean sum of weights, so that the batch mean is a mean over pixels.
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    losses, pixel_weights = _pixel_cross_entropy(log_probabilities, labels, weights)
    return _per_image(losses, pixel_weights)


def exit_loss(
    loss: ExitLoss,
    logits: Any,
    teacher: Any,
    labels: Any,
    alpha: float,
    weights: np.ndarray,
) -> Any:
    """Loss of an exit with a teacher, per image.

    Per valid pixel, with CE the cross-entropy, KL = KL(teacher || student) at
    temperature 1, and m = 1 where the teacher predicts the label:

    * ``ce``: CE, no teacher;
    * ``kd``: (1 - alpha) CE + alpha KL (Hinton); with the final exit in joint training
      this is self-distillation;
    * ``pfd``: (1 - alpha) CE + alpha m KL: where the teacher is wrong, only the label
      speaks;
    * ``pfd-full``: ``kd`` where m = 1 and CE at full weight elsewhere.

    The role of m in positive filtering distillation is the paper's (supplement, Fig.
    8), the formula is not given there: these are the two readings that fit it.

    Args:
        loss: which one.
        logits: the student's, float tensor (B, h, w, C).
        teacher: logits of the final exit, or of another run's, on the same grid; no
            gradient flows into them. Not looked at by ``ce``.
        labels: int tensor (B, h, w).
        alpha: weight of the distillation term, in 0..1.
        weights: of pixels by their class, array of shape (C,).

    Returns:
        float tensor (B,), as ``cross_entropy``.
    """
    if loss == "ce":
        return cross_entropy(logits, labels, weights)
    student = ops.log_softmax(logits, axis=-1)
    teacher = ops.stop_gradient(teacher)
    entropy, pixel_weights = _pixel_cross_entropy(student, labels, weights)
    log_teacher = ops.log_softmax(teacher, axis=-1)
    divergence = ops.sum(ops.exp(log_teacher) * (log_teacher - student), axis=-1)
    divergence = divergence * pixel_weights
    right = ops.cast(ops.equal(ops.argmax(teacher, axis=-1), labels), logits.dtype)
    if loss == "kd":
        losses = (1.0 - alpha) * entropy + alpha * divergence
    elif loss == "pfd":
        losses = (1.0 - alpha) * entropy + alpha * right * divergence
    else:
        losses = entropy + alpha * right * (divergence - entropy)
    return _per_image(losses, pixel_weights)


def _pixel_cross_entropy(
    log_probabilities: Any, labels: Any, weights: np.ndarray
) -> tuple[Any, Any]:
    """Weighted cross-entropy and weight per pixel; both 0 where the label is void."""
    classes = log_probabilities.shape[-1]
    inside = ops.logical_and(labels >= 0, labels < classes)
    valid = ops.cast(inside, log_probabilities.dtype)
    one_hot = ops.one_hot(
        ops.where(inside, labels, 0), classes, dtype=log_probabilities.dtype
    )
    pixel_weights = ops.sum(one_hot * weights, axis=-1) * valid
    return -ops.sum(one_hot * log_probabilities, axis=-1) * pixel_weights, pixel_weights


def _per_image(losses: Any, pixel_weights: Any) -> Any:
    total = ops.mean(ops.sum(pixel_weights, axis=(1, 2)))
    return ops.sum(losses, axis=(1, 2)) / ops.maximum(total, 1e-3)
