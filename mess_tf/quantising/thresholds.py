"""What thresholds do on another graph than the one they were fitted on.

Rounding shifts confidences, and fine-tuning shifts them more: the same thresholds let
other images leave, and what a search promised no longer holds. ``routed`` says what a
configuration does on any statistics; ``only_heads`` leaves a search the chosen heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.routing import exit_rates, routed_areas
from mess_tf.core.segmentation_metrics import mean_iou
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.evaluation.accuracy import head_miou


@dataclass(frozen=True)
class Routed:
    """What a configuration does on the images of one part.

    Attributes:
        exit_rates: per exit of the configuration, the part of the images that leave.
        miou: data-set mIoU of the mixed predictions, 0..1.
        drop_pp: percentage points below the final head alone on the same graph.
    """

    exit_rates: tuple[float, ...]
    miou: float
    drop_pp: float


def routed(
    statistics: Statistics,
    configuration: Configuration,
    place: np.ndarray,
    final: tuple[int, str],
    part: str,
) -> Routed | None:
    """A configuration on the images of a part; None where the part has none.

    Args:
        statistics: of the graph that runs, with all heads of the configuration.
        configuration: its exits.
        place: int array of shape (I,), the position in the configuration at which each
            image leaves on that graph.
        final: (exit index, head id) of the final head.
        part: ``calibration`` or ``report``.
    """
    chosen = part_images(statistics, part)
    if not len(chosen):
        return None
    miou = mean_iou(routed_areas(statistics, configuration, place, chosen))
    return Routed(
        exit_rates(place[chosen], len(configuration.exits)),
        miou,
        100 * (head_miou(statistics, final, part) - miou),
    )


def only_heads(statistics: Statistics, heads: Sequence[tuple[int, str]]) -> Statistics:
    """The statistics of some heads alone, in the order of the statistics.

    Raises:
        MessError: a head is not in the statistics.
    """
    missing = [head for head in heads if head not in statistics.heads]
    if missing:
        raise MessError(
            f"Head {missing[0][1]!r} of exit {missing[0][0]} is not in the statistics;"
            " run `mess evaluate` for it."
        )
    selected = [i for i, head in enumerate(statistics.heads) if head in set(heads)]
    return dataclasses.replace(
        statistics,
        heads=tuple(statistics.heads[i] for i in selected),
        predicted_area=statistics.predicted_area[:, selected],
        intersection=statistics.intersection[:, selected],
        confidence={key: v[:, selected] for key, v in statistics.confidence.items()},
        parameters={key: v[selected] for key, v in statistics.parameters.items()},
    )
