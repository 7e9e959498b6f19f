"""Figures of one configuration on some images: what the search must agree with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.latency import PieceCosts
from mess_tf.core.routing import head_index, leave_at, miou_of, quantile_of
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

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figures:
        return cls(**{**data, "exit_rates": tuple(data["exit_rates"])})


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


class Evaluation:
    """A configuration's answer and cost per image, beside the final head's.

    Attributes:
        place: int64 array of shape (I,), position at which each image leaves.
        latency_ms: float64 array of shape (I,).
    """

    def __init__(
        self,
        statistics: Statistics,
        spec: SupernetSpec,
        latency_ms: Mapping[str, float],
        configuration: Configuration,
        resources: Resources | None = None,
    ) -> None:
        self.configuration = configuration
        self._takes = (resources or Resources()).of(configuration, spec)
        self.place = leave_at(statistics, configuration)
        self.latency_ms = PieceCosts(spec, latency_ms).paths(configuration)[self.place]
        heads = np.array([head_index(statistics, c) for c in configuration.exits])
        reference = head_index(statistics, final_configuration(spec).exits[0])
        self._areas = _areas(statistics, heads[self.place])
        self._reference = _areas(statistics, np.full(len(statistics.images), reference))
        self._true = statistics.true_area

    def restricted(self, images: np.ndarray) -> Evaluation:
        """The same on some images only, which are counted from 0 then."""
        other = copy.copy(self)
        other.place, other.latency_ms = self.place[images], self.latency_ms[images]
        other._areas = self._areas[:, images]
        other._reference = self._reference[:, images]
        other._true = self._true[images]
        return other

    @staticmethod
    def joined(parts: Sequence[Evaluation]) -> Evaluation:
        """Images of several evaluations one after the other, each with its answer.

        Places and the configuration are those of the first: only latencies and mIoU
        mean something then.
        """
        other = copy.copy(parts[0])
        other.place = np.concatenate([p.place * 0 for p in parts])
        other.latency_ms = np.concatenate([p.latency_ms for p in parts])
        other._areas = np.concatenate([p._areas for p in parts], axis=1)
        other._reference = np.concatenate([p._reference for p in parts], axis=1)
        other._true = np.concatenate([p._true for p in parts])
        return other

    def image_quality(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image's own mean IoU over the classes in its labels, 0..1.

        Returns:
            of the configuration's answers and of the final head's, shape (I,) each;
            1 for an image without a labelled pixel.
        """
        return _image_quality(self._areas, self._true), _image_quality(
            self._reference, self._true
        )

    def figures(self, images: np.ndarray, requirement: Requirement) -> Figures:
        """Figures over ``images`` (indices, at least one; repeats count again)."""
        latency = self.latency_ms[images]
        miou, reference = (
            float(miou_of(*areas[:, images].sum(1)))
            for areas in (self._areas, self._reference)
        )
        places = np.bincount(
            self.place[images], minlength=len(self.configuration.exits)
        )
        mean, p90 = float(latency.mean()), quantile_of(latency, 0.9)
        return Figures(
            images=len(images),
            mean_ms=mean,
            p50_ms=quantile_of(latency, 0.5),
            p90_ms=p90,
            miou=miou,
            drop_pp=100 * (reference - miou),
            exit_rates=tuple((places / len(images)).tolist()),
            met=requirement.met(miou, reference, mean, p90, **self._takes),
            **self._takes,
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
            miou_of(*(weights @ by_group(area[images]) for area in areas))
            for areas in (self._areas, self._reference)
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


def _areas(statistics: Statistics, heads: np.ndarray) -> np.ndarray:
    """(intersection, union) of each image under its head, shape (2, I, C)."""
    images = np.arange(len(statistics.images))
    both = statistics.intersection[images, heads]
    union = statistics.true_area + statistics.predicted_area[images, heads] - both
    return np.stack([both, union])


def _image_quality(areas: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean IoU of each image over the classes in its labels, shape (I,)."""
    there = true > 0
    iou = np.divide(areas[0], areas[1], out=np.zeros(there.shape), where=there)
    count = there.sum(1)
    total = (iou * there).sum(1)
    return np.divide(total, count, out=np.ones(len(count)), where=count > 0)


def part_images(statistics: Statistics, part: str) -> np.ndarray:
    """Indices of the images of a part, int64 array."""
    return np.flatnonzero(np.array(statistics.parts) == part)
