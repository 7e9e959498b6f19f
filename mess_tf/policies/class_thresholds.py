"""Class-based thresholding: top-1 probabilities scaled by the predicted class.

In numpy, the reference, and in ``keras.ops``, which the exported graph contains too.
Logits (B, h, w, C) on the head's native grid -> float32 (B, h, w), at most 1.
Source: "Class Based Thresholding in Early Exit Semantic Segmentation Networks", 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mess_tf.policies.logit_grids import class_rows, on_grid
from mess_tf.policies.top1 import top1_numpy


def class_scaled_numpy(logits: np.ndarray, strictness: np.ndarray) -> np.ndarray:
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


def class_scaled_ops(logits: Any, strictness: Any) -> Any:
    """``class_scaled_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = class_rows(logits)
    peak = ops.max(rows, axis=1, keepdims=True)
    top1 = 1.0 / ops.sum(ops.exp(rows - peak), axis=1)
    top = ops.cast(rows >= peak, "float32")
    weight = ops.max(top * strictness[None, :, None], axis=1)
    return on_grid(1.0 - (1.0 - top1) * weight, logits)
