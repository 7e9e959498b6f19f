"""Entropy confidence of every cell: 1 less its normalised softmax entropy.

In numpy, the reference, and in ``keras.ops``, which the exported graph contains too.
Logits (B, h, w, C) on the head's native grid -> float32 (B, h, w), in 0..1.
Source: "Early-Exit Criteria for Edge Semantic Segmentation", 2025.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mess_tf.policies.logit_grids import class_rows, on_grid


def entropy_confidence_numpy(logits: np.ndarray) -> np.ndarray:
    """1 - H / log C, with the entropy H of every cell's softmax over C classes."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis=-1, dtype=np.float32)
    entropy = np.log(total) - (weights * shifted).sum(axis=-1, dtype=np.float32) / total
    return np.maximum(1 - entropy / np.float32(math.log(logits.shape[-1])), 0)


def entropy_confidence_ops(logits: Any) -> Any:
    """``entropy_confidence_numpy`` in ``keras.ops``."""
    from keras import ops

    rows = class_rows(logits)
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    weights = ops.exp(shifted)
    total = ops.sum(weights, axis=1)
    entropy = ops.log(total) - ops.sum(weights * shifted, axis=1) / total
    confidence = 1.0 - entropy / math.log(logits.shape[-1])
    return on_grid(ops.maximum(confidence, 0.0), logits)
