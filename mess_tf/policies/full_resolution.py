"""Eq. 7 to 9 at image resolution, as the paper has them: what the cheap ones answer to.

Slow, and never deployed: ``mess_tf.policies.registry`` evaluates the same on a
head's native grid. The two are compared by the order in which they put images
(``benchmarks/bench_policies.py``).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import median_filter

from mess_tf.policies.top1 import top1_numpy

Edges = Literal["labels", "canny"]

_CANNY_LOW, _CANNY_HIGH = 100, 200


def full_size_confidence(
    logits: np.ndarray,
    height: int,
    width: int,
    pixel_threshold: float,
    smoothed: bool = True,
    edges: Edges = "labels",
) -> float:
    """Eq. 7 of an exit, by default after Eq. 9, at image resolution.

    Args:
        logits: float32 array of shape (h, w, C) on the head's native grid.
        height, width: of the image, multiples of the grid's by the output stride.
        pixel_threshold: that a pixel must reach.
        smoothed: whether Eq. 9 comes first.
        edges: how Eq. 8 finds edges; see ``edge_mask``.

    Returns:
        The share of confident pixels, 0..1.
    """
    stride = height // logits.shape[0]
    large = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    top1 = top1_numpy(large[None])[0]
    if smoothed:
        near_edge = edge_mask(large.argmax(axis=-1), stride, edges)
        window = 4 * stride + 1  # two output strides to each side
        # scipy's "reflect" is numpy's "symmetric".
        median = median_filter(top1, size=window, mode="reflect")
        top1 = np.where(near_edge, median, top1)
    return float((top1 >= np.float32(pixel_threshold)).mean())


def edge_mask(labels: np.ndarray, stride: int, edges: Edges = "labels") -> np.ndarray:
    """Eq. 8: the edges of a label map, thickened by a square of ``stride`` pixels.

    The paper's word is "erode"; an edge one pixel wide would vanish, so it must be the
    surroundings that are eroded.

    Args:
        labels: integer array of shape (H, W), class ids.
        stride: output stride of the exit, pixels.
        edges: ``labels`` takes pixels of which a 4-neighbour has another label;
            ``canny`` OpenCV's Canny on the mask of every class, since on the ids
            themselves the border 1|2 would be fainter than 1|20.

    Returns:
        bool array of shape (H, W).
    """
    found = _label_changes(labels) if edges == "labels" else _canny(labels)
    square = np.ones((stride, stride), np.uint8)
    return cv2.dilate(found.astype(np.uint8), square).astype(bool)


def _label_changes(labels: np.ndarray) -> np.ndarray:
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    return edge


def _canny(labels: np.ndarray) -> np.ndarray:
    edge = np.zeros(labels.shape, bool)
    for value in np.unique(labels):
        mask = np.where(labels == value, 255, 0).astype(np.uint8)
        edge |= cv2.Canny(mask, _CANNY_LOW, _CANNY_HIGH) > 0
    return edge
