"""How far two exits cut an image into the same regions.

"Early-Exit Criteria for Edge Semantic Segmentation" (2025) leaves at an exit whose
answer hardly differs from that of the exit before. Of the measures in the authors'
published code we take normalised mutual information. It belongs to a pair of heads, not
to one, so it can be compared with the policies of ``mess_tf.policies`` but is none of
them.
"""

from __future__ import annotations

import numpy as np


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
    return 2 * (apart - _entropy(joint)) / apart


def _entropy(probability: np.ndarray) -> float:
    there = probability[probability > 0]
    return float(-(there * np.log(there)).sum())
