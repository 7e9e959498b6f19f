"""Fig. 7: the most accurate uniform and searched networks for growing speed-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mess_tf.core.latency import PathLatency
from mess_tf.core.segmentation_metrics import iou, mean_iou
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.quantising.thresholds import only_heads
from mess_tf.reporting.configuration_records import SpeedupPoint
from mess_tf.reporting.routed import Router, report_images

SPEEDUPS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
UNIFORM, SEARCHED = "uniform", "searched"
FCN = "fcn_r1_b0"
"""The plain FCN head, that a uniform network has at every early exit."""

TIME_LIMIT_S = 3.0
"""For each search; on CamVid each takes a fraction of a second."""


def uniform_heads(spec: SupernetSpec) -> list[tuple[int, str]]:
    """An FCN head at every early exit that has one, and the network's final head."""
    last = spec.exit_points[-1].index
    return [
        (index, head)
        for index, head in spec.head_names()
        if (head == FCN if index < last else head == spec.final_head.id)
    ]


@dataclass(frozen=True)
class SpeedupSearch:
    """Searches the most accurate configuration within a share of a latency.

    Attributes:
        spec: structure of the supernet.
        latency_ms: milliseconds of all pieces by name.
        final_ms: latency of the final exit, that speed-ups are over.
        time_limit_s: for each search.
    """

    spec: SupernetSpec
    latency_ms: Mapping[str, float]
    final_ms: float
    time_limit_s: float = TIME_LIMIT_S

    def points(self, router: Router) -> tuple[SpeedupPoint, ...]:
        """The best of both kinds of heads for every speed-up that one of them reaches.

        Both are searched alike: the highest mIoU on the calibration part, with at most
        one early exit, within the final exit's latency over the speed-up. Figures are
        of the report part.

        Args:
            router: over the images, with all heads.

        Returns:
            uniform ones first, by speed-up; nothing where no early exit has an FCN
            head.

        Raises:
            MessError: the search failed, or found nothing in its time.
        """
        names = uniform_heads(self.spec)
        if len(names) < 2:
            return ()
        uniform = only_heads(router.statistics, names)
        points = []
        for heads, space in ((UNIFORM, uniform), (SEARCHED, router.statistics)):
            for speedup in SPEEDUPS:
                point = self._point(router, space, heads, speedup)
                if point is None:  # no larger one is reached either
                    break
                points.append(point)
        return tuple(points)

    def _point(
        self, router: Router, space: Statistics, heads: str, speedup: float
    ) -> SpeedupPoint | None:
        from search.infeasible import InfeasibleError
        from search.parameters import SearchParameters
        from search.requirement import Requirement
        from search.run import search

        try:
            result = search(
                space,
                self.spec.with_heads(space.heads),
                self.latency_ms,
                Requirement(max_latency_ms=self.final_ms / speedup),
                SearchParameters(max_early_exits=1, time_limit_s=self.time_limit_s),
            )
        except InfeasibleError:
            return None
        routed = router(result.configuration)
        images = report_images(router.statistics)
        image_ms = PathLatency(self.spec, self.latency_ms).image_ms(
            result.configuration, routed.exit_positions[images]
        )
        areas = routed.areas(images)
        return SpeedupPoint(
            speedup=speedup,
            heads=heads,
            configuration=result.configuration,
            proven=result.proven,
            mean_ms=float(image_ms.mean()),
            miou=mean_iou(areas),
            iou=iou(areas),
        )
