"""Transfer of thresholds to other images by matching exit rates; labels not needed.

The distribution of a confidence shifts from scene to scene, the order of the images by
confidence mostly does not. So a configuration is taken by its conditional exit rates:
of the images that reach an exit, the share that leaves there. On other images each
threshold is set to the quantile of the confidences that gives the same rate.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.routing import exit_position_per_image, head_index
from mess_tf.core.statistics import Statistics


def conditional_exit_rates(
    statistics: Statistics, configuration: Configuration, images: np.ndarray
) -> np.ndarray:
    """Per early exit, the share leaving there of the images that reach it.

    Args:
        images: int array, indices.

    Returns:
        float64 array of shape (n_exits - 1,), 0 where no image arrives.
    """
    positions = exit_position_per_image(statistics, configuration)[images]
    early = len(configuration.exits) - 1
    leaving = np.bincount(positions, minlength=early + 1)
    reaching = len(images) - np.concatenate([[0], np.cumsum(leaving)[:-1]])
    return np.asarray((leaving / np.maximum(reaching, 1))[:early])


def with_exit_rates(
    statistics: Statistics,
    configuration: Configuration,
    rates: np.ndarray,
    images: np.ndarray,
) -> Configuration:
    """The configuration with the thresholds that give these conditional exit rates.

    Only confidences are read, no labels.

    Args:
        rates: float array of shape (n_exits - 1,), of the images that reach the exit.
        images: int array, indices; at least one.

    Raises:
        MessError: no image is given.
    """
    if not len(images):
        raise MessError("There is no image to set thresholds by; give at least one.")
    stays = np.asarray(images)
    exits: list[ExitChoice] = []
    for choice, rate in zip(configuration.exits[:-1], rates, strict=True):
        head = head_index(statistics, choice)
        values = statistics.confidence[str(choice.policy)][stays, head]
        values = values.astype(np.float64)
        threshold = _upper_quantile(values, float(rate), float(choice.threshold or 0.0))
        exits.append(dataclasses.replace(choice, threshold=threshold))
        stays = stays[values < threshold]
    return Configuration((*exits, configuration.exits[-1]))


def transfer_thresholds(
    statistics: Statistics,
    configuration: Configuration,
    fitted_on: np.ndarray,
    images: np.ndarray,
) -> Configuration:
    """The configuration with thresholds that give the same exit rates on other images.

    Args:
        fitted_on: indices of the images that the thresholds were chosen on.
        images: indices of unlabelled images from where it is going to be used.
    """
    rates = conditional_exit_rates(statistics, configuration, fitted_on)
    return with_exit_rates(statistics, configuration, rates, images)


def _upper_quantile(values: np.ndarray, rate: float, otherwise: float) -> float:
    """A float32 threshold that as near as possible this share of the values reaches."""
    if not len(values):
        return otherwise
    ordered = np.sort(values)[::-1]
    count = int(round(rate * len(ordered)))
    if count == 0:
        return float(np.nextafter(np.float32(ordered[0]), np.float32(np.inf)))
    if count == len(ordered):
        return float(np.nextafter(np.float32(ordered[-1]), np.float32(-np.inf)))
    return float(np.float32((ordered[count - 1] + ordered[count]) / 2))
