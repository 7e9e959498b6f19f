"""A learned gate: what an exit's answer costs in mIoU, guessed from cheap features.

The features describe the exit's output on its native grid: how sure it is, how often
its label changes from cell to cell, how much of the image each class takes, and how
much of each class is expected to be wrong (its cells' probability of being another
class) or missed (its probability in other classes' cells). A weighted sum of them
guesses how much the image would add to the data set's mIoU if it left here instead of
at the final exit (``mess_tf.evaluation.fit``); a sigmoid makes it a confidence. The
paper names trainable policies as future work; features, target and model are our
choice.

Features and gate exist twice: in numpy, the reference, and in ``keras.ops``, which is
what the exported graph contains too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mess_tf.policies.logit_grids import class_rows, shared_classes_ops
from mess_tf.policies.top1 import top1_numpy

SURE = (0.5, 0.7, 0.9, 0.98)
"""Top-1 probabilities; the share of cells that reaches each is a feature."""


def gate_parameters(classes: int) -> int:
    """Numbers that a gate has per head: a weight per feature, and a constant."""
    return 1 + len(SURE) + 1 + 3 * classes + 1


def features_numpy(logits: np.ndarray) -> np.ndarray:
    """Logits (B, h, w, C) -> float32 features (B, F), each in 0..1.

    Mean top-1 probability; shares of cells that reach ``SURE``; share of neighbouring
    cells without a common maximal class; per class the share of its cells, the mean
    over all cells of what is expected to be wrong in them, and of what is expected to
    be missed elsewhere. Cells with several maximal classes count for each.
    """
    top1 = top1_numpy(logits)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    probability = np.exp(shifted) * top1[..., None]
    top = shifted >= 0
    below = (top[:, 1:] & top[:, :-1]).any(axis=-1)
    beside = (top[:, :, 1:] & top[:, :, :-1]).any(axis=-1)
    alike = (_mean(below) + _mean(beside)) / 2
    columns = [_mean(top1), *(_mean(top1 >= np.float32(t)) for t in SURE), 1 - alike]
    per_class = [top, top * (1 - probability), ~top * probability]
    return np.concatenate(
        [np.stack(columns, axis=1), *(_mean(values) for values in per_class)], axis=1
    )


def features_ops(logits: Any) -> Any:
    """``features_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = class_rows(logits)
    peak = ops.max(rows, axis=1, keepdims=True)
    weights = ops.exp(rows - peak)
    top1 = 1.0 / ops.sum(weights, axis=1)
    probability = weights * top1[:, None]
    top = ops.cast(rows >= peak, "float32")
    alike = [
        ops.mean(ops.cast(common > 0.5, "float32"), axis=(1, 2))
        for common in shared_classes_ops(logits)
    ]
    sure = [ops.mean(ops.cast(top1 >= t, "float32"), axis=1) for t in SURE]
    columns = [ops.mean(top1, axis=1), *sure, 1.0 - (alike[0] + alike[1]) / 2.0]
    per_class = [top, top * (1.0 - probability), (1.0 - top) * probability]
    means = [ops.mean(values, axis=2) for values in per_class]
    return ops.concatenate([ops.stack(columns, axis=1), *means], axis=1)


def gate_numpy(logits: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """The gate's confidence as a map of one cell: logits (B, h, w, C) -> (B, 1, 1).

    Args:
        logits: float32.
        parameters: float32 array of ``gate_parameters(C)`` numbers; the constant last.
            0.5 is where the image is guessed to add as much as at the final exit.
    """
    score = (features_numpy(logits) * parameters[:-1]).sum(axis=1) + parameters[-1]
    return (1 / (1 + np.exp(-score)))[:, None, None]


def gate_ops(logits: Any, parameters: Any) -> Any:
    """``gate_numpy`` in ``keras.ops``."""
    from keras import ops

    weighed = features_ops(logits) * parameters[None, :-1]
    score = ops.sum(weighed, axis=1) + parameters[-1:]
    return ops.reshape(ops.sigmoid(score), (-1, 1, 1))


def _mean(cells: np.ndarray) -> np.ndarray:
    return cells.mean(axis=(1, 2), dtype=np.float32)
