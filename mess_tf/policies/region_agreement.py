"""How far two exits cut an image into the same regions.

"Early-Exit Criteria for Edge Semantic Segmentation" (2025) leaves at an exit whose
answer hardly differs from that of the exit before. Of the measures in the authors'
published code we take normalised mutual information of the two label maps. They are
compared on the finer of the two grids, where a cell of the coarser one stands for all
the cells that it covers.

As every policy, it exists in numpy, the reference, and in ``keras.ops``, which is what
the exported graph contains too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.policies.logit_grids import class_rows

# Keeps 0 / 0 from arising where both maps show one class; the entropies of maps that
# show more are a million times this.
_TINY = 1e-9
_LEAST_PROBABILITY = 1e-30


def region_agreement(first: np.ndarray, second: np.ndarray, classes: int) -> float:
    """Normalised mutual information of two label maps, 0..1.

    Args:
        first, second: integer arrays of the same shape, values in 0..classes-1.
        classes: number of classes C.

    Returns:
        2 I(X;Y) / (H(X) + H(Y)); 1 where both show a single class, which may be two
        different ones: regions are compared, not their names.
    """
    pairs = first.astype(np.int64).ravel() * classes + second.ravel()
    joint = np.bincount(pairs, minlength=classes**2) / pairs.size
    table = joint.reshape(classes, classes)
    apart = _entropy(table.sum(axis=0)) + _entropy(table.sum(axis=1))
    if apart == 0:
        return 1.0
    return min(1.0, max(0.0, 2 * (apart - _entropy(joint)) / apart))


def _entropy(probability: np.ndarray) -> float:
    there = probability[probability > 0]
    return float(-(there * np.log(there)).sum())


def agreement_numpy(logits: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Region agreement as a map of one cell, float32 (B, 1, 1).

    Args:
        logits: (B, h, w, C), of the exit.
        reference: (B, h', w', C), of the head it is compared with. Of equal logits the
            first class wins, as in the answer.

    Raises:
        MessError: neither grid divides the other.
    """
    fine, coarse = _by_grid(logits, reference)
    factor = _factor(fine, coarse)
    large = coarse.argmax(axis=-1).repeat(factor, axis=1).repeat(factor, axis=2)
    pairs = zip(fine.argmax(axis=-1), large, strict=True)
    values = [region_agreement(a, b, logits.shape[-1]) for a, b in pairs]
    return np.array(values, np.float32)[:, None, None]


def agreement_ops(logits: Any, reference: Any) -> Any:
    """``agreement_numpy`` in ``keras.ops``."""
    from keras import ops

    fine, coarse = _by_grid(logits, reference)
    factor = _factor(fine, coarse)
    _, height, width, classes = coarse.shape
    # Per coarse cell, the shares of the fine cells it covers: with these, a product of
    # small matrices counts all pairs of the fine grid.
    shares = ops.transpose(_labels_ops(fine), (0, 2, 1))
    if factor > 1:
        grid = ops.reshape(shares, (-1, *fine.shape[1:]))
        shares = ops.average_pool(grid, factor, strides=factor)
        shares = ops.reshape(shares, (-1, height * width, classes))
    joint = ops.matmul(_labels_ops(coarse), shares) / (height * width)
    apart = _entropy_ops(ops.sum(joint, axis=1)) + _entropy_ops(ops.sum(joint, axis=2))
    together = _entropy_ops(ops.reshape(joint, (-1, classes * classes)))
    score = (2.0 * (apart - together) + _TINY) / (apart + _TINY)
    return ops.clip(score, 0.0, 1.0)[:, None, None]


def _labels_ops(logits: Any) -> Any:
    """The label map, one row per class: (B, h, w, C) -> (B, C, h * w) of 0 and 1."""
    from keras import ops

    rows = class_rows(logits)
    top = ops.cast(rows >= ops.max(rows, axis=1, keepdims=True), "float32")
    # Of several maximal classes, the first. LiteRT takes ten times as long to sort.
    rank = np.arange(logits.shape[-1], 0, -1, dtype=np.float32)[None, :, None]
    ranked = top * rank
    return ops.cast(ranked >= ops.max(ranked, axis=1, keepdims=True), "float32")


def _entropy_ops(probability: Any) -> Any:
    """(B, n) -> (B,)."""
    from keras import ops

    logs = ops.log(ops.maximum(probability, _LEAST_PROBABILITY))
    return -ops.sum(probability * logs, axis=1)


def _by_grid(logits: Any, reference: Any) -> tuple[Any, Any]:
    """The one on the finer grid first."""
    if reference.shape[1] > logits.shape[1]:
        return reference, logits
    return logits, reference


def _factor(fine: Any, coarse: Any) -> int:
    (height, width), (rows, columns) = fine.shape[1:3], coarse.shape[1:3]
    if height % rows or width % columns or height // rows != width // columns:
        raise MessError(
            "Region agreement needs grids of which one divides the other; the heads"
            f" here have {height}x{width} and {rows}x{columns} cells. Leave 'region'"
            " out of the recipe's statistics.policies."
        )
    return int(height // rows)
