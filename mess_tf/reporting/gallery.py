"""Sample images from easy to hard, with the output of every head.

The material of Fig. 9 and 10 and of Tables 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mess_tf.core.configuration import ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.segmentation_metrics import (
    Areas,
    background_class,
    foreground_accuracy,
    image_quality,
)
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import Dataset
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.policies.confidence import confidences_numpy
from mess_tf.policies.median_smoothing import median_smoothed_numpy
from mess_tf.policies.registry import Policy
from mess_tf.policies.top1 import top1_numpy
from mess_tf.reporting.configuration_records import ReportedConfiguration
from mess_tf.reporting.routed import report_images

COUNT = 6
SHOWN_WIDTH = 320
"""Pixels; the page need not carry more than it shows."""

PIXEL_THRESHOLD = 0.9
"""Of Eq. 7 in Fig. 10, where the configuration has none."""

Head = tuple[int, str]


class HeadRunner(Protocol):
    """Runs compiled pieces, as ``mess_tf.runtime.piece_runner.PieceRunner``."""

    def features(
        self, image: np.ndarray, upto: int | None = None
    ) -> Mapping[str, np.ndarray]:
        """Border tensors up to an exit point, of an image (H, W, 3)."""

    def logits(
        self, tensors: Mapping[str, np.ndarray], exit_index: int, head_id: str
    ) -> np.ndarray:
        """Logits (1, rows, columns, C) of a head on its grid."""

    def output_logits(
        self,
        tensors: Mapping[str, np.ndarray],
        exit_index: int,
        head_id: str,
        size: tuple[int, int],
    ) -> np.ndarray:
        """Logits (1, H, W, C) of a head on the output grid."""


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """Output of one head for one image.

    Attributes:
        classes: uint8 array of shape (h, w), class ids at the size that is shown.
        confidence_map, smoothed_map: float32 arrays of shape (rows, columns) on the
            head's grid: top-1 probabilities, and the same after Eq. 9.
        confidence: of the image, by policy key: ``mean``, Eq. 7, Eq. 7 + 9.
        miou, accuracy: of the image: mean IoU over the classes in its labels, and pixel
            accuracy without the background's true positives (Table 8).
    """

    classes: np.ndarray
    confidence_map: np.ndarray
    smoothed_map: np.ndarray
    confidence: Mapping[str, float]
    miou: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class SampleImage:
    """One image of the gallery.

    Attributes:
        index: in the statistics.
        picture: uint8 array of shape (h, w, 3), as shown.
        labels: uint8 array of shape (h, w), class ids; others where there is no label.
        outputs: by (exit, head id).
    """

    index: int
    name: str
    picture: np.ndarray
    labels: np.ndarray
    outputs: Mapping[Head, HeadOutput]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Sample images of one precision of a run.

    Attributes:
        samples: from the easiest to the hardest.
        palette: uint8 array of shape (classes, 3), RGB.
        policies: the keys of ``HeadOutput.confidence``: mean, Eq. 7, Eq. 7 + 9.
    """

    samples: tuple[SampleImage, ...]
    palette: np.ndarray
    policies: tuple[str, str, str]


def choose_images(
    statistics: Statistics,
    exits: Sequence[ExitChoice],
    exit_positions: np.ndarray,
    count: int = COUNT,
) -> list[int]:
    """Images of the report part, evenly spread from the easiest to the hardest.

    Easy is what leaves early, and of that what the first exit is most confident of.
    Every exit that any image takes is shown at least once, as far as ``count`` allows.

    Args:
        statistics: of the images.
        exits: of the configuration.
        exit_positions: int64 array of shape (I,), position at which each image leaves.
        count: at most so many.

    Returns:
        indices in the statistics.
    """
    column = statistics.heads.index((exits[0].exit, exits[0].head))
    evaluated = {
        key: values[:, column]
        for key, values in statistics.confidence.items()
        if not np.isnan(values[:, column]).any()
    }
    confidence = evaluated[exits[0].policy or next(iter(evaluated))]
    ordered = sorted(
        report_images(statistics).tolist(),
        key=lambda i: (exit_positions[i], -confidence[i], i),
    )
    if not ordered:
        return []
    spread = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    chosen = {ordered[int(round(at))] for at in spread}
    for position in sorted({int(exit_positions[i]) for i in ordered}):
        alike = [i for i in ordered if exit_positions[i] == position]
        if not chosen & set(alike):
            chosen.add(alike[len(alike) // 2])
    shown = [i for i in ordered if i in chosen]
    while len(shown) > count:
        # The exit with the most images gives one up.
        positions = [int(exit_positions[i]) for i in shown]
        crowded = max(set(positions), key=lambda p: (positions.count(p), p))
        if positions.count(crowded) == 1:
            return shown[:count]
        del shown[positions.index(crowded) + positions.count(crowded) // 2]
    return shown


def named_images(statistics: Statistics, names: Sequence[str]) -> list[int]:
    """Indices of the named images; none where one of them was not evaluated."""
    known = {name: i for i, name in enumerate(statistics.images)}
    if any(name not in known for name in names):
        return []
    return [known[name] for name in names]


def end_heads(reported: ReportedConfiguration) -> list[Head]:
    """The first and the last exit of a configuration; one where they are the same."""
    both = (reported.exits[0], reported.exits[-1])
    return list(dict.fromkeys((choice.exit, choice.head) for choice in both))


def early_head(reported: ReportedConfiguration | None) -> Head | None:
    """The first exit, that runs are compared by; None without a configuration."""
    return (
        None if reported is None else (reported.exits[0].exit, reported.exits[0].head)
    )


def pixel_threshold(exits: Sequence[ExitChoice]) -> float:
    """Of Eq. 7: the first that the configuration decides by, else a usual one."""
    for choice in exits:
        policy = None if choice.policy is None else Policy.parse(choice.policy)
        if policy is not None and policy.family in ("eq7", "eq7+9"):
            return policy.pixel_threshold or PIXEL_THRESHOLD
    return PIXEL_THRESHOLD


@dataclass(frozen=True)
class GalleryMaker:
    """Runs heads on sample images.

    Attributes:
        data: the opened data set.
        spec: structure of the supernet.
        statistics: of the images; has all heads that are run.
        runner: of the pieces.
        threshold: of Eq. 7, for the pixels.
    """

    data: Dataset
    spec: SupernetSpec
    statistics: Statistics
    runner: HeadRunner
    threshold: float

    def gallery(self, images: Sequence[int], heads: Iterable[Head]) -> Gallery:
        """The images with the output of every head.

        Args:
            images: indices in the statistics.
            heads: (exit, head id).

        Raises:
            MessError: an image is no longer in the data set, or a piece cannot be run.
        """
        wanted = sorted(set(heads))
        policies = ("mean", f"eq7@{self.threshold:g}", f"eq7+9@{self.threshold:g}")
        return Gallery(
            tuple(self._sample(index, wanted, policies) for index in images),
            self.data.evaluation.palette,
            policies,
        )

    def _sample(
        self, index: int, heads: Sequence[Head], policies: Sequence[str]
    ) -> SampleImage:
        name = self.statistics.images[index]
        if name not in self.data.evaluation.names:
            raise MessError(
                f"Image {name!r} of the statistics is not in the data set any more; run"
                " `mess evaluate` again."
            )
        source = self.data.evaluation.load(self.data.evaluation.names.index(name))
        spec = self.spec
        image = evaluation_image(
            source.image, spec.image_height, spec.image_width, spec.preprocessing
        )
        deepest = max(exit_index for exit_index, _ in heads)
        tensors = self.runner.features(image, deepest)
        background = background_class(self.statistics.classes)
        outputs = {}
        for head in heads:
            logits = self.runner.logits(tensors, *head)
            upsampled = self.runner.output_logits(tensors, *head, spec.output_size)
            areas = image_areas(self.statistics, index, head)
            by_policy = confidences_numpy(logits, policies)
            outputs[head] = HeadOutput(
                classes=_shown(upsampled_classes(upsampled[0], *source.labels.shape)),
                confidence_map=top1_numpy(logits)[0],
                smoothed_map=median_smoothed_numpy(logits)[0],
                confidence={key: float(v[0]) for key, v in by_policy.items()},
                miou=image_quality(areas),
                accuracy=foreground_accuracy(areas, background),
            )
        picture = _shown(source.image, smooth=True)
        return SampleImage(index, name, picture, _shown(source.labels), outputs)


def image_areas(statistics: Statistics, image: int, head: Head) -> Areas:
    """Pixel counts of one head on one image."""
    column = statistics.heads.index(head)
    return Areas(
        statistics.true_area[image],
        statistics.predicted_area[image, column],
        statistics.intersection[image, column],
    )


def _shown(picture: np.ndarray, smooth: bool = False) -> np.ndarray:
    import cv2

    height, width = picture.shape[:2]
    if width <= SHOWN_WIDTH:
        return picture
    size = (SHOWN_WIDTH, max(1, round(height * SHOWN_WIDTH / width)))
    method = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method))
