"""Figures of one configuration on some images: what the search must agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.latency import PathLatency
from mess_tf.core.quantiles import quantile
from mess_tf.core.routing import answer_areas, exit_position_per_image, exit_rates
from mess_tf.core.segmentation_metrics import (
    Areas,
    mean_iou,
    mean_iou_of_labelled,
    mean_iou_of_sums,
)
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from search.requirement import Requirement
from search.resources import Resources


@dataclass(frozen=True)
class Figures:
    """What a configuration does on a part of the images.

    Attributes:
        images: how many.
        mean_ms, p50_ms, p90_ms: latency over the images.
        miou: data-set mIoU, 0..1.
        drop_pp: percentage points below the final head alone on the same images
            (negative: better than it).
        exit_rates: per exit of the configuration, the part of the images that leave.
        met: per limit of the requirement, whether it is kept on these images.
        size_mb, memory_mb: files of the kept pieces, and the largest peak memory of
            one, millions of bytes; 0 where unknown.
    """

    images: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    miou: float
    drop_pp: float
    exit_rates: tuple[float, ...]
    met: Mapping[str, bool]
    size_mb: float = 0.0
    memory_mb: float = 0.0


@dataclass(frozen=True)
class Interval:
    """Bootstrap interval of one figure; ``level`` is its nominal coverage."""

    low: float
    high: float
    level: float = 0.95


def final_configuration(spec: SupernetSpec) -> Configuration:
    """The final head alone: the reference of every drop."""
    last = spec.exit_points[-1].index
    return Configuration((ExitChoice(last, spec.final_head.id),))


@dataclass(frozen=True, eq=False)
class RoutedEvaluation:
    """What a configuration answers and costs per image, beside the final head.

    Attributes:
        configuration: its exits.
        positions: int64 array of shape (I,), position of the exit that each image
            leaves at.
        latency_ms: float64 array of shape (I,).
        areas: of the configuration's answers, shape (I, C).
        reference_areas: of the final head's answers, shape (I, C).
        resources: ``size_mb`` and ``memory_mb`` (``Resources.of``).
    """

    configuration: Configuration
    positions: np.ndarray
    latency_ms: np.ndarray
    areas: Areas
    reference_areas: Areas
    resources: Mapping[str, float]

    @classmethod
    def of(
        cls,
        statistics: Statistics,
        spec: SupernetSpec,
        latency_ms: Mapping[str, float],
        configuration: Configuration,
        resources: Resources | None = None,
    ) -> RoutedEvaluation:
        """Routes every image of the statistics, whatever its part.

        Args:
            latency_ms: milliseconds by piece name.

        Raises:
            MessError: a head, a policy or a latency is missing.
        """
        positions = exit_position_per_image(statistics, configuration)
        return cls(
            configuration,
            positions,
            PathLatency(spec, latency_ms).image_ms(configuration, positions),
            answer_areas(statistics, configuration, positions),
            answer_areas(statistics, final_configuration(spec), positions * 0),
            (resources or Resources()).of(configuration, spec),
        )

    def restricted(self, images: np.ndarray) -> RoutedEvaluation:
        """The same on some images only, which are counted from 0 then."""
        return dataclasses.replace(
            self,
            positions=self.positions[images],
            latency_ms=self.latency_ms[images],
            areas=self.areas[images],
            reference_areas=self.reference_areas[images],
        )

    @staticmethod
    def joined(parts: Sequence[RoutedEvaluation]) -> RoutedEvaluation:
        """Images of several evaluations one after the other, each with its answer.

        Positions and the configuration are those of the first: only latencies and mIoU
        mean something then.
        """
        return dataclasses.replace(
            parts[0],
            positions=np.concatenate([p.positions * 0 for p in parts]),
            latency_ms=np.concatenate([p.latency_ms for p in parts]),
            areas=Areas.concatenate([p.areas for p in parts]),
            reference_areas=Areas.concatenate([p.reference_areas for p in parts]),
        )

    def image_quality(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image's mean IoU over the classes in its labels, 0..1.

        Returns:
            of the configuration's answers and of the final head's, shape (I,) each;
            1 for an image without a labelled pixel.
        """
        return (
            np.nan_to_num(mean_iou_of_labelled(self.areas), nan=1.0),
            np.nan_to_num(mean_iou_of_labelled(self.reference_areas), nan=1.0),
        )

    def figures(self, images: np.ndarray, requirement: Requirement) -> Figures:
        """Figures over ``images`` (indices, at least one; repeats count again)."""
        latency = self.latency_ms[images]
        miou = mean_iou(self.areas.sum(images))
        reference = mean_iou(self.reference_areas.sum(images))
        mean, p90 = float(latency.mean()), quantile(latency, 0.9)
        return Figures(
            images=len(images),
            mean_ms=mean,
            p50_ms=quantile(latency, 0.5),
            p90_ms=p90,
            miou=miou,
            drop_pp=100 * (reference - miou),
            exit_rates=exit_rates(
                self.positions[images], len(self.configuration.exits)
            ),
            met=requirement.met(miou, reference, mean, p90, **self.resources),
            **self.resources,
        )

    def bootstrap(
        self,
        images: np.ndarray,
        groups: tuple[str, ...],
        seed: int,
        repeats: int = 2000,
        level: float = 0.95,
    ) -> dict[str, Interval]:
        """Percentile intervals of ``drop_pp`` and ``mean_ms`` over resampled groups.

        Images of one sequence are alike, so whole groups are drawn, not images.

        Args:
            images: int array, indices of the part's images.
            groups: group of every image of the statistics.

        Returns:
            empty when the images come from fewer than two groups: nothing can be
            said about other scenes then.
        """
        names, member = np.unique([groups[i] for i in images], return_inverse=True)
        if len(names) < 2:
            return {}

        def by_group(values: np.ndarray) -> np.ndarray:
            sums = np.zeros((len(names), *values.shape[1:]))
            np.add.at(sums, member, values)
            return sums

        rng = np.random.default_rng(seed)
        even = np.full(len(names), 1 / len(names))
        weights = rng.multinomial(len(names), even, repeats)
        mious = [
            mean_iou_of_sums(
                weights @ by_group(areas.intersection[images]),
                weights @ by_group(areas.union[images]),
            )
            for areas in (self.areas, self.reference_areas)
        ]
        drop = 100 * (mious[1] - mious[0])
        mean = (weights @ by_group(self.latency_ms[images])) / (
            weights @ by_group(np.ones(len(images)))
        )
        tails = [(1 - level) / 2, (1 + level) / 2]
        intervals = {}
        for name, values in (("drop_pp", drop), ("mean_ms", mean)):
            if np.isnan(values).all():
                continue  # Not one labelled or predicted pixel: there is no mIoU.
            low, high = np.nanquantile(values, tails).tolist()
            intervals[name] = Interval(low, high, level)
        return intervals
