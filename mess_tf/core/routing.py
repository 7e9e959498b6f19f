"""Which exit answers each image of a configuration, and the areas of the answers."""

from __future__ import annotations

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.segmentation_metrics import Areas
from mess_tf.core.statistics import Statistics


def first_exit(leaves: np.ndarray) -> np.ndarray:
    """Position of the first early exit that lets each image leave.

    Args:
        leaves: bool array of shape (..., n_early, I): whether the image would leave at
            the early exit, if it came there.

    Returns:
        int64 array of shape (..., I); ``n_early``, the last exit, where none does.
    """
    last = np.ones((*leaves.shape[:-2], 1, leaves.shape[-1]), bool)
    return np.argmax(np.concatenate([leaves, last], axis=-2), axis=-2)


def exit_position_per_image(
    statistics: Statistics, configuration: Configuration
) -> np.ndarray:
    """Position in the configuration at which each image leaves.

    Returns:
        int64 array of shape (I,).

    Raises:
        MessError: a head or policy of the configuration was not evaluated.
    """
    early = configuration.exits[:-1]
    leaves = np.zeros((len(early), len(statistics.images)), bool)
    for position, choice in enumerate(early):
        head = head_index(statistics, choice)
        if choice.policy is None or choice.threshold is None:
            raise MessError(f"Exit {choice.exit} has no policy to leave by.")
        if choice.policy not in statistics.confidence:
            raise MessError(
                f"Policy {choice.policy!r} is not in the statistics; they have"
                f" {', '.join(statistics.confidence)}."
            )
        confidence = statistics.confidence[choice.policy][:, head].astype(np.float64)
        leaves[position] = confidence >= choice.threshold
    return first_exit(leaves)


def exit_rates(positions: np.ndarray, n_exits: int) -> tuple[float, ...]:
    """Share of the images that leaves at each exit; zeros where there is no image.

    Args:
        positions: int array of shape (I,), as ``exit_position_per_image``.
        n_exits: exits of the configuration.
    """
    counts = np.bincount(positions, minlength=n_exits)
    return tuple((counts / max(len(positions), 1)).tolist())


def head_index(statistics: Statistics, choice: ExitChoice) -> int:
    """Index of an exit's head on the head axis. MessError when it is not there."""
    try:
        return statistics.heads.index((choice.exit, choice.head))
    except ValueError:
        raise MessError(
            f"Head {choice.head!r} of exit {choice.exit} is not in the statistics; run"
            " `mess evaluate` for it."
        ) from None


def answer_areas(
    statistics: Statistics, configuration: Configuration, positions: np.ndarray
) -> Areas:
    """Areas of each image as the exit answers at which it leaves, shape (I, C).

    Args:
        positions: int array of shape (I,), position at which each image leaves.
    """
    heads = np.array([head_index(statistics, c) for c in configuration.exits])
    images = np.arange(len(positions))
    answering = heads[positions]
    return Areas(
        statistics.true_area,
        statistics.predicted_area[images, answering],
        statistics.intersection[images, answering],
    )


def routed_areas(
    statistics: Statistics,
    configuration: Configuration,
    positions: np.ndarray,
    images: np.ndarray,
) -> Areas:
    """Areas of a configuration's answers, summed over images; shape (C,).

    Args:
        positions: int array of shape (I,), position at which each image leaves.
        images: indices of the images to sum over.
    """
    return answer_areas(statistics, configuration, positions).sum(images)
