"""Where each image leaves a configuration, and the mIoU of what is then answered."""

from __future__ import annotations

import math

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics


def miou_of(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Mean IoU of summed areas.

    A class that neither the labels nor the prediction contain has no IoU and is left
    out; one that is only predicted counts with 0.

    Args:
        intersection: array of shape (..., C), pixels, summed over the images.
        union: likewise.

    Returns:
        float64 array of shape (...), 0..1; NaN where no class has a union.
    """
    seen = union > 0
    iou = np.divide(intersection, union, out=np.zeros(seen.shape), where=seen)
    count = seen.sum(-1)
    return np.divide(
        iou.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0
    )


def rank_of(quantile: float, count: int) -> int:
    """Least number of ``count`` values that must not exceed their ``quantile``."""
    return max(1, math.ceil(quantile * count - 1e-9))


def quantile_of(values: np.ndarray, quantile: float) -> float:
    """The smallest of ``values`` that at least this part of them does not exceed."""
    return float(np.sort(values)[rank_of(quantile, len(values)) - 1])


def leave_at(statistics: Statistics, configuration: Configuration) -> np.ndarray:
    """Where each image leaves: position in the configuration.

    Returns:
        int64 array of shape (I,).

    Raises:
        MessError: a head or policy of the configuration was not evaluated.
    """
    last = len(configuration.exits) - 1
    place = np.full(len(statistics.images), last)
    for index in range(last - 1, -1, -1):
        choice = configuration.exits[index]
        head = head_index(statistics, choice)
        if choice.policy is None or choice.threshold is None:
            raise MessError(f"Exit {choice.exit} has no policy to leave by.")
        if choice.policy not in statistics.confidence:
            raise MessError(
                f"Policy {choice.policy!r} is not in the statistics; they have"
                f" {', '.join(statistics.confidence)}."
            )
        confidence = statistics.confidence[choice.policy][:, head].astype(np.float64)
        place[confidence >= choice.threshold] = index
    return place


def head_index(statistics: Statistics, choice: ExitChoice) -> int:
    """Index of an exit's head on the head axis. MessError when it is not there."""
    try:
        return statistics.heads.index((choice.exit, choice.head))
    except ValueError:
        raise MessError(
            f"Head {choice.head!r} of exit {choice.exit} is not in the statistics; run"
            " `mess evaluate` for it."
        ) from None
