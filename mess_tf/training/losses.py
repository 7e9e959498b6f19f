"""Pixel losses in ``keras.ops``: cross-entropy and positive filtering distillation."""

from __future__ import annotations

from typing import Any

from keras import ops


def resize_to(logits: Any, height: int, width: int) -> Any:
    """Bilinear resize (half-pixel centres) of (B, h, w, C) unless it already fits."""
    if (logits.shape[1], logits.shape[2]) == (height, width):
        return logits
    return ops.image.resize(
        logits, (height, width), interpolation="bilinear", data_format="channels_last"
    )


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean cross-entropy per image over its valid pixels.

    Args:
        logits: float tensor (B, h, w, C).
        labels: int tensor (B, h, w); values outside 0..C-1 are ignored.

    Returns:
        float tensor (B,): summed over the image's valid pixels and divided by the
        batch's mean count of them, so that the batch mean is a mean over pixels.
    """
    losses, valid = _pixel_cross_entropy(ops.log_softmax(logits, axis=-1), labels)
    return _per_image(losses, valid)


def positive_filtering_distillation(
    logits: Any, teacher: Any, labels: Any, alpha: float
) -> Any:
    """PFD: (1 - alpha) CE + alpha m KL(teacher || student), per valid pixel.

    m is 1 where the teacher predicts the label and 0 elsewhere: where the teacher is
    wrong, only the label speaks. The role of m is the paper's (supplement, Fig. 8); the
    exact formula, temperature 1 and the constant (1 - alpha) are our reading.

    Args:
        logits: the student's, float tensor (B, h, w, C).
        teacher: the final exit's logits on the same grid; no gradient flows into them.
        labels: int tensor (B, h, w).
        alpha: weight of the distillation term, in 0..1.

    Returns:
        float tensor (B,), as ``cross_entropy``.
    """
    student = ops.log_softmax(logits, axis=-1)
    teacher = ops.stop_gradient(teacher)
    entropy, valid = _pixel_cross_entropy(student, labels)
    log_teacher = ops.log_softmax(teacher, axis=-1)
    divergence = ops.sum(ops.exp(log_teacher) * (log_teacher - student), axis=-1)
    right = ops.cast(ops.equal(ops.argmax(teacher, axis=-1), labels), logits.dtype)
    losses = (1.0 - alpha) * entropy + alpha * right * valid * divergence
    return _per_image(losses, valid)


def _pixel_cross_entropy(log_probabilities: Any, labels: Any) -> tuple[Any, Any]:
    classes = log_probabilities.shape[-1]
    inside = ops.logical_and(labels >= 0, labels < classes)
    valid = ops.cast(inside, log_probabilities.dtype)
    one_hot = ops.one_hot(
        ops.where(inside, labels, 0), classes, dtype=log_probabilities.dtype
    )
    return -ops.sum(one_hot * log_probabilities, axis=-1) * valid, valid


def _per_image(losses: Any, valid: Any) -> Any:
    count = ops.maximum(ops.mean(ops.sum(valid, axis=(1, 2))), 1.0)
    return ops.sum(losses, axis=(1, 2)) / count
