"""Top-1 probability of every cell: the largest of its softmax (policies mean, eq7).

In numpy, the reference, and in ``keras.ops``, which the exported graph contains too.
Logits (B, h, w, C) on the head's native grid -> float32 (B, h, w), in 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mess_tf.policies.logit_grids import class_rows, on_grid


def top1_numpy(logits: np.ndarray) -> np.ndarray:
    """The largest softmax probability of every cell."""
    # It is exp(0) over the sum of exp(l - max l).
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.float32(1) / np.exp(shifted).sum(axis=-1, dtype=np.float32)


def top1_ops(logits: Any) -> Any:
    """``top1_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = class_rows(logits)
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    return on_grid(1.0 / ops.sum(ops.exp(shifted), axis=1), logits)
