"""How sure a head is of every cell, from its logits: the maps that policies reduce.

Every map exists twice: in numpy, the reference, and in ``keras.ops``, which is what the
exported graph contains too. All take logits (B, h, w, C) on the head's own grid and
give float32 (B, h, w) in 0..1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MEDIAN_REACH = 2  # cells to each side: Eq. 9's 2 * output stride on the native grid


def top1_numpy(logits: np.ndarray) -> np.ndarray:
    """The largest softmax probability of every cell."""
    # It is exp(0) over the sum of exp(l - max l).
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.float32(1) / np.exp(shifted).sum(axis=-1, dtype=np.float32)


def top1_ops(logits: Any) -> Any:
    """``top1_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = _rows(logits)
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    return _on_grid(1.0 / ops.sum(ops.exp(shifted), axis=1), logits)


def certainty_numpy(logits: np.ndarray) -> np.ndarray:
    """1 less the entropy of the softmax in parts of the largest possible, log C."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis=-1, dtype=np.float32)
    entropy = np.log(total) - (weights * shifted).sum(axis=-1, dtype=np.float32) / total
    return np.maximum(1 - entropy / np.float32(math.log(logits.shape[-1])), 0)


def certainty_ops(logits: Any) -> Any:
    """``certainty_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = _rows(logits)
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    weights = ops.exp(shifted)
    total = ops.sum(weights, axis=1)
    entropy = ops.log(total) - ops.sum(weights * shifted, axis=1) / total
    certainty = 1.0 - entropy / math.log(logits.shape[-1])
    return _on_grid(ops.maximum(certainty, 0.0), logits)


def smoothed_numpy(logits: np.ndarray) -> np.ndarray:
    """Top-1 probabilities, near label changes the median of 5x5 cells (Eq. 9)."""
    top1 = top1_numpy(logits)
    top = logits >= logits.max(axis=-1, keepdims=True)
    edge = np.zeros(top1.shape, bool)
    for axis in (1, 2):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differs = ~(top[tuple(low)] & top[tuple(high)]).any(axis=-1)
        edge[tuple(low)] |= differs
        edge[tuple(high)] |= differs
    grown = np.pad(edge, ((0, 0), (1, 1), (1, 1)))
    grown = np.lib.stride_tricks.sliding_window_view(grown, (3, 3), axis=(1, 2))
    r = MEDIAN_REACH
    padded = np.pad(top1, ((0, 0), (r, r), (r, r)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (2 * r + 1, 2 * r + 1), axis=(1, 2)
    )
    near_edge = grown.any(axis=(3, 4))
    smooth = top1.copy()
    if near_edge.any():  # a median of no windows is an error
        smooth[near_edge] = np.median(windows[near_edge], axis=(1, 2))
    return smooth


def smoothed_ops(logits: Any) -> Any:
    """``smoothed_numpy`` in ``keras.ops``."""
    from keras import ops

    top1 = top1_ops(logits)
    # A one-hot map of the maxima instead of argmax, which LiteRT's converter lacks for
    # keras.ops; two cells carry the same label if their maps overlap.
    top = ops.cast(logits >= ops.max(logits, axis=-1, keepdims=True), "float32")
    rows = ops.cast(ops.sum(top[:, 1:] * top[:, :-1], axis=-1) < 0.5, "float32")
    columns = ops.cast(
        ops.sum(top[:, :, 1:] * top[:, :, :-1], axis=-1) < 0.5, "float32"
    )
    edge = ops.maximum(
        ops.maximum(
            ops.pad(rows, ((0, 0), (0, 1), (0, 0))),
            ops.pad(rows, ((0, 0), (1, 0), (0, 0))),
        ),
        ops.maximum(
            ops.pad(columns, ((0, 0), (0, 0), (0, 1))),
            ops.pad(columns, ((0, 0), (0, 0), (1, 0))),
        ),
    )
    grown = ops.max_pool(edge[..., None], 3, strides=1, padding="same")[..., 0]
    r = MEDIAN_REACH
    height, width = top1.shape[1], top1.shape[2]
    padded = ops.pad(top1, ((0, 0), (r, r), (r, r)), mode="symmetric")
    windows = ops.stack(
        [
            padded[:, i : i + height, j : j + width]
            for i in range(2 * r + 1)
            for j in range(2 * r + 1)
        ],
        axis=-1,
    )
    middle = (2 * r + 1) ** 2 // 2 + 1
    median = ops.top_k(windows, middle)[0][..., -1]
    return ops.where(grown > 0.5, median, top1)


def _rows(logits: Any) -> Any:
    """(B, h, w, C) -> (B, C, h * w).

    Reducing over long rows is what LiteRT's kernels do fast: a softmax over the last
    axis of a 60x80x11 map takes 3.6 times as long there.
    """
    from keras import ops

    _, height, width, classes = logits.shape
    flat = ops.reshape(logits, (-1, height * width, classes))
    return ops.transpose(flat, (0, 2, 1))


def _on_grid(cells: Any, logits: Any) -> Any:
    """(B, h * w) -> (B, h, w)."""
    from keras import ops

    return ops.reshape(cells, (-1, logits.shape[1], logits.shape[2]))
