"""Thresholds that follow the images: the share that leaves is kept, not the value.

A threshold's value does not carry over from scene to scene, the order of the images by
confidence mostly does. So a configuration is taken for what it lets leave: of the
images that come to an exit, which share goes. On other images, labels not needed, the
thresholds are set so that the same shares leave again.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.routing import exit_position_per_image, head_index
from mess_tf.core.statistics import Statistics


def leaving_shares(
    statistics: Statistics, configuration: Configuration, images: np.ndarray
) -> np.ndarray:
    """Per early exit, the share of the images coming to it that leave there.

    Args:
        images: int array, indices.

    Returns:
        float64 array of shape (n_exits - 1,), 0 where no image comes.
    """
    place = exit_position_per_image(statistics, configuration)[images]
    early = len(configuration.exits) - 1
    left = np.bincount(place, minlength=early + 1)
    coming = len(images) - np.concatenate([[0], np.cumsum(left)[:-1]])
    shares = left / np.maximum(coming, 1)
    return np.asarray(shares[:early])


def with_shares(
    statistics: Statistics,
    configuration: Configuration,
    shares: np.ndarray,
    images: np.ndarray,
) -> Configuration:
    """Sets thresholds so that given shares of some images leave.

    Only confidences are read, no labels.

    Args:
        shares: float array of shape (n_exits - 1,), of those that come to the exit.
        images: int array, indices; at least one.

    Raises:
        MessError: no image is given.
    """
    if not len(images):
        raise MessError("There is no image to set thresholds by; give at least one.")
    stays = np.asarray(images)
    exits: list[ExitChoice] = []
    for choice, share in zip(configuration.exits[:-1], shares, strict=True):
        head = head_index(statistics, choice)
        values = statistics.confidence[str(choice.policy)][stays, head]
        values = values.astype(np.float64)
        cut = _cut(values, float(share), float(choice.threshold or 0.0))
        exits.append(dataclasses.replace(choice, threshold=cut))
        stays = stays[values < cut]
    return Configuration((*exits, configuration.exits[-1]))


def refit(
    statistics: Statistics,
    configuration: Configuration,
    fitted_on: np.ndarray,
    images: np.ndarray,
) -> Configuration:
    """The configuration with thresholds moved to other images, labels not needed.

    Args:
        fitted_on: indices of the images that the thresholds were chosen on.
        images: indices of unlabelled images from where it is going to be used.
    """
    shares = leaving_shares(statistics, configuration, fitted_on)
    return with_shares(statistics, configuration, shares, images)


def _cut(values: np.ndarray, share: float, otherwise: float) -> float:
    """A float32 number that as near as possible this share of the values reaches."""
    if not len(values):
        return otherwise
    ordered = np.sort(values)[::-1]
    count = int(round(share * len(ordered)))
    if count == 0:
        return float(np.nextafter(np.float32(ordered[0]), np.float32(np.inf)))
    if count == len(ordered):
        return float(np.nextafter(np.float32(ordered[-1]), np.float32(-np.inf)))
    return float(np.float32((ordered[count - 1] + ordered[count]) / 2))
