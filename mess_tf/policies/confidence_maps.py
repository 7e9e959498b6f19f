"""How sure a head is of every cell, from its logits: the maps that policies reduce.

Every map exists twice: in numpy, the reference, and in ``keras.ops``, which is what the
exported graph contains too. All take logits (B, h, w, C) on the head's own grid and
give float32 (B, h, w), in 0..1 unless said otherwise.
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

    rows = rows_of(logits)
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

    rows = rows_of(logits)
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    weights = ops.exp(shifted)
    total = ops.sum(weights, axis=1)
    entropy = ops.log(total) - ops.sum(weights * shifted, axis=1) / total
    certainty = 1.0 - entropy / math.log(logits.shape[-1])
    return _on_grid(ops.maximum(certainty, 0.0), logits)


def class_based_numpy(logits: np.ndarray, strictness: np.ndarray) -> np.ndarray:
    """Top-1 probabilities on a scale that is stricter for hard classes.

    What a cell lacks to 1 counts as many times as its predicted class is strict: it
    then reaches a pixel threshold t if its probability reaches 1 - (1 - t) / strictness
    of the class. Of several maximal classes the strictest counts. Negative values
    occur.

    Args:
        logits: float32 array of shape (B, h, w, C).
        strictness: float32 array of shape (C,), at least 1.
    """
    top = logits >= logits.max(axis=-1, keepdims=True)
    weight = np.where(top, strictness, np.float32(0)).max(axis=-1)
    return 1 - (1 - top1_numpy(logits)) * weight


def class_based_ops(logits: Any, strictness: Any) -> Any:
    """``class_based_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = rows_of(logits)
    peak = ops.max(rows, axis=1, keepdims=True)
    top1 = 1.0 / ops.sum(ops.exp(rows - peak), axis=1)
    top = ops.cast(rows >= peak, "float32")
    weight = ops.max(top * strictness[None, :, None], axis=1)
    return _on_grid(1.0 - (1.0 - top1) * weight, logits)


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


def voted_ops(passed: Any, logits: Any) -> Any:
    """Which cells of ``smoothed_numpy`` reach a threshold, given which top-1 ones do.

    A median of 25 reaches a threshold if 13 of them do, so a count takes the place of
    sorting, in a fourteenth of the time (0.4 against 5.2 ms on 60x80 cells).

    Args:
        passed: (B, h, w), 1 where the cell's own top-1 probability reaches it, else 0.
        logits: (B, h, w, C).
    """
    from keras import ops

    r = MEDIAN_REACH
    padded = ops.pad(passed, ((0, 0), (r, r), (r, r)), mode="symmetric")
    share = ops.average_pool(padded[..., None], 2 * r + 1, strides=1)[..., 0]
    voted = ops.cast(share > 0.5, "float32")
    return ops.where(_near_edge_ops(logits) > 0.5, voted, passed)


def _near_edge_ops(logits: Any) -> Any:
    """Eq. 8's mask on the grid, grown by one cell: (B, h, w), 1 near label changes."""
    from keras import ops

    below, beside = common_labels_ops(logits)
    rows, columns = (ops.cast(c < 0.5, "float32") for c in (below, beside))
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
    return ops.max_pool(edge[..., None], 3, strides=1, padding="same")[..., 0]


def common_labels_ops(logits: Any) -> tuple[Any, Any]:
    """How many maximal classes each cell has in common with the one below, beside it.

    Returns:
        (B, h - 1, w) and (B, h, w - 1); below 0.5 where the label changes.
    """
    from keras import ops

    _, height, width, classes = logits.shape
    # A one-hot map of the maxima instead of argmax, which LiteRT's converter lacks for
    # keras.ops.
    rows = rows_of(logits)
    top = ops.cast(rows >= ops.max(rows, axis=1, keepdims=True), "float32")
    grid = ops.reshape(top, (-1, classes, height, width))
    return (
        ops.sum(grid[:, :, 1:] * grid[:, :, :-1], axis=1),
        ops.sum(grid[:, :, :, 1:] * grid[:, :, :, :-1], axis=1),
    )


def rows_of(logits: Any) -> Any:
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
