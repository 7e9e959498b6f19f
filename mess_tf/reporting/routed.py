"""Configurations routed over the images of one precision, each once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.routing import exit_position_per_image, exit_rates, routed_areas
from mess_tf.core.segmentation_metrics import Areas
from mess_tf.core.statistics import Statistics, part_images


@dataclass(frozen=True, eq=False)
class RoutedConfiguration:
    """A configuration with the exit that each image leaves at.

    Attributes:
        statistics: of the images.
        configuration: that was routed.
        exit_positions: int64 array of shape (I,), position at which each image leaves.
    """

    statistics: Statistics
    configuration: Configuration
    exit_positions: np.ndarray

    def areas(self, images: np.ndarray) -> Areas:
        """Areas of the answers, summed over images, shape (C,).

        Args:
            images: indices of the images.
        """
        return routed_areas(
            self.statistics, self.configuration, self.exit_positions, images
        )

    def exit_rates(self, images: np.ndarray) -> tuple[float, ...]:
        """Share of the images that leaves at each exit.

        Args:
            images: indices of the images.
        """
        return exit_rates(self.exit_positions[images], len(self.configuration.exits))


@dataclass(frozen=True)
class Router:
    """Routes configurations over the images; asked twice, it routes once."""

    statistics: Statistics
    _routed: dict[Configuration, RoutedConfiguration] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __call__(self, configuration: Configuration) -> RoutedConfiguration:
        """The configuration with its exit positions.

        Raises:
            MessError: a head or policy of the configuration was not evaluated.
        """
        if configuration not in self._routed:
            positions = exit_position_per_image(self.statistics, configuration)
            self._routed[configuration] = RoutedConfiguration(
                self.statistics, configuration, positions
            )
        return self._routed[configuration]


def report_images(statistics: Statistics) -> np.ndarray:
    """Indices of the report part, or of all images where none were held out."""
    images = part_images(statistics, "report")
    return images if len(images) else part_images(statistics)
