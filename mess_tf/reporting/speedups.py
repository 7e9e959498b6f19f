"""Fig. 7: what uniform and searched heads reach within growing speed-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mess_tf.core.configuration import Configuration
from mess_tf.core.segmentation_metrics import iou, mean_iou
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.quantising.thresholds import only_heads
from mess_tf.reporting.costs import parts_ms
from mess_tf.reporting.records import Ring
from mess_tf.reporting.views import LeaveAt, routed_areas, told_images

SPEEDUPS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
UNIFORM, SEARCHED = "uniform", "searched"
FCN = "fcn_r1_b0"
"""The plain FCN head, that a uniform network has at every early exit."""

BestWithin = Callable[
    [Statistics, SupernetSpec, Mapping[str, float], float],
    tuple[Configuration, bool] | None,
]
"""The most accurate configuration within a mean latency in ms, and whether that is
proven; None: there is none."""


def uniform_heads(spec: SupernetSpec) -> list[tuple[int, str]]:
    """An FCN head at every early exit that has one, and the network's final head."""
    last = spec.exit_points[-1].index
    return [
        (index, head)
        for index, head in spec.head_names()
        if (head == FCN if index < last else head == spec.final_head.id)
    ]


def make_rings(
    spec: SupernetSpec,
    statistics: Statistics,
    by_piece: Mapping[str, float],
    final_ms: float,
    best_within: BestWithin,
    leave_at: LeaveAt,
) -> tuple[Ring, ...]:
    """The best of both kinds of heads for every speed-up that one of them reaches.

    Both are searched alike: the highest mIoU on the calibration part within the final
    exit's latency over the speed-up. What is told is measured on the report part.

    Args:
        by_piece: milliseconds of all pieces by name.
        final_ms: latency of the final exit.

    Returns:
        uniform ones first, by speed-up; nothing where no early exit has an FCN head.

    Raises:
        MessError: the search failed, or found nothing in its time.
    """
    names = uniform_heads(spec)
    if len(names) < 2:
        return ()
    spaces = {UNIFORM: only_heads(statistics, names), SEARCHED: statistics}
    rings = []
    for heads, known in spaces.items():
        structure = spec.with_heads(known.heads)
        for speedup in SPEEDUPS:
            found = best_within(known, structure, by_piece, final_ms / speedup)
            if found is None:  # no larger one is reached either
                break
            rings.append(
                _ring(spec, statistics, by_piece, speedup, heads, *found, leave_at)
            )
    return tuple(rings)


def _ring(
    spec: SupernetSpec,
    statistics: Statistics,
    by_piece: Mapping[str, float],
    speedup: float,
    heads: str,
    configuration: Configuration,
    proven: bool,
    leave_at: LeaveAt,
) -> Ring:
    images = told_images(statistics)
    places = leave_at(statistics, configuration)
    table = parts_ms(spec, by_piece, configuration)
    if table is None:
        raise ValueError("a configuration was found whose pieces are not measured")
    areas = routed_areas(statistics, configuration, places, images)
    return Ring(
        speedup=speedup,
        heads=heads,
        configuration=configuration,
        proven=proven,
        mean_ms=float(table.sum(axis=1)[places[images]].mean()),
        miou=mean_iou(areas),
        iou=iou(areas),
    )
