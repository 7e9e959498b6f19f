"""How well policies tell good answers of an exit from bad ones (the paper's Table 9).

An exit's answer is *good* where the image's mIoU is at most so many percentage points
below the final exit's. A policy separates if good answers have higher confidences: the
area under the ROC curve is the chance that it ranks a good answer above a bad one, 0.5
for guessing. It needs no threshold, so policies compare without one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import roc_auc_score

from mess_tf.core.segmentation_metrics import Areas, image_quality
from mess_tf.core.statistics import Statistics, part_images


def image_mious(statistics: Statistics) -> np.ndarray:
    """Every image's own mIoU per head; see ``metrics.image_quality``.

    Returns:
        float64 array of shape (I, H), 0..1; NaN for an image without labels.
    """
    images, heads = statistics.intersection.shape[:2]
    return np.array(
        [
            [
                image_quality(
                    Areas(
                        statistics.true_area[i],
                        statistics.predicted_area[i, h],
                        statistics.intersection[i, h],
                    )
                )
                for h in range(heads)
            ]
            for i in range(images)
        ]
    )


def good_answers(
    statistics: Statistics, final: tuple[int, str], within_pp: float
) -> np.ndarray:
    """bool array of shape (I, H): where a head is within ``within_pp`` of the final."""
    quality = image_mious(statistics)
    reference = quality[:, statistics.heads.index(final), None]
    return np.asarray(100 * (reference - quality) <= within_pp)


def separation(
    confidence: Mapping[str, np.ndarray], good: np.ndarray
) -> dict[str, float]:
    """Per policy key, the area under the ROC curve at one head.

    Args:
        confidence: per policy key, array of shape (I,).
        good: bool array of shape (I,); of images that were not all alike.

    Returns:
        0..1 per key; NaN where all answers are good, or all are bad, or the head has no
        such policy.
    """
    if good.all() or not good.any():
        return dict.fromkeys(confidence, float("nan"))
    return {
        key: float("nan")
        if np.isnan(values).any()
        else float(roc_auc_score(good, values))
        for key, values in confidence.items()
    }


def head_separation(
    statistics: Statistics,
    head: tuple[int, str],
    good: np.ndarray,
    part: str | None = None,
) -> dict[str, float]:
    """``separation`` of all policies of the statistics at one head.

    Args:
        head: (exit index, head id).
        good: of ``good_answers``.
        part: ``calibration`` or ``report``; None takes all images.
    """
    images, column = part_images(statistics, part), statistics.heads.index(head)
    confidence = {
        key: values[images, column] for key, values in statistics.confidence.items()
    }
    return separation(confidence, good[images, column])
