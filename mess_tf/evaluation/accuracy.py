"""mIoU of single heads, from ``Statistics``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mess_tf.core.segmentation_metrics import Areas, mean_iou
from mess_tf.core.statistics import Statistics, part_images


def head_areas(
    statistics: Statistics, head: tuple[int, str], images: Sequence[int] | np.ndarray
) -> Areas:
    """Summed areas of one head over some images."""
    column = statistics.heads.index(head)
    return Areas(
        statistics.true_area[images].sum(axis=0),
        statistics.predicted_area[images, column].sum(axis=0),
        statistics.intersection[images, column].sum(axis=0),
    )


def head_miou(
    statistics: Statistics, head: tuple[int, str], part: str | None = None
) -> float:
    """Data-set mIoU (0..1) of one head on a part."""
    return mean_iou(head_areas(statistics, head, part_images(statistics, part)))
