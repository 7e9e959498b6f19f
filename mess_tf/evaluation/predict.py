"""From logits on a coarse grid to class ids at the resolution of the labels."""

from __future__ import annotations

import cv2
import numpy as np

from mess_tf.core.errors import MessError


def upsampled_classes(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear upsampling (half-pixel centres), then the class of the largest logit.

    Args:
        logits: float32 array of shape (h, w, C).
        height, width: of the result.

    Returns:
        uint8 array of shape (height, width); of equal logits the first class wins.
    """
    # Plane by plane: a running maximum over planes that fit the cache is several times
    # faster than argmax over the last axis of one large array.
    planes = np.ascontiguousarray(np.moveaxis(logits, -1, 0), np.float32)
    best = _enlarged(planes[0], height, width)
    classes = np.zeros((height, width), np.uint8)
    for index in range(1, len(planes)):
        plane = _enlarged(planes[index], height, width)
        classes[plane > best] = index
        np.maximum(best, plane, out=best)
    return classes


def class_map(
    logits: np.ndarray | None, classes: np.ndarray | None, height: int, width: int
) -> np.ndarray:
    """A file's answer as class ids at a size: from logits, else from nearest ids.

    Args:
        logits: float32 array of shape (h, w, C), or None.
        classes: uint8 array of shape (h, w), or None; one of the two must be there.
        height, width: of the result.

    Returns:
        uint8 array of shape (height, width).

    Raises:
        MessError: there is neither.
    """
    if logits is not None:
        return upsampled_classes(logits, height, width)
    if classes is None:
        raise MessError("An answer without logits and class ids shows nothing.")
    size = (width, height)
    return cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _enlarged(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    if plane.shape == (height, width):
        return plane.copy()
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
