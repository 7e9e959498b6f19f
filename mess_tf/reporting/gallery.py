"""Sample images, from easy ones to hard ones, and what every head makes of them.

The material of Fig. 9 and 10 and of Tables 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.segmentation_metrics import (
    Areas,
    background_class,
    foreground_accuracy,
    image_quality,
)
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.open import OpenedData
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.policies.confidence import confidences_numpy
from mess_tf.policies.median_smoothing import median_smoothed_numpy
from mess_tf.policies.registry import Policy
from mess_tf.policies.top1 import top1_numpy
from mess_tf.reporting.records import View
from mess_tf.reporting.views import LeaveAt, told_images

COUNT = 6
SHOWN_WIDTH = 320
"""Pixels; the page need not carry more than it shows."""

PIXEL_THRESHOLD = 0.9
"""Of Eq. 7 in Fig. 10, where the configuration has none of its own."""

Head = tuple[int, str]


@dataclass(frozen=True)
class Choice:
    """An image to show: its index in the statistics and where it leaves."""

    index: int
    place: int


@dataclass(frozen=True, eq=False)
class Look:
    """What one head makes of one image.

    Attributes:
        classes: uint8 array of shape (h, w), class ids at the size that is shown.
        sure, smoothed: float32 arrays of shape (rows, columns) on the head's own grid:
            top-1 probabilities, and the same after Eq. 9.
        confidence: of the image, by policy key: ``mean``, Eq. 7, Eq. 7 + 9.
        miou, accuracy: of the image: mean IoU over the classes in its labels, and pixel
            accuracy without the background's true positives (Table 8).
    """

    classes: np.ndarray
    sure: np.ndarray
    smoothed: np.ndarray
    confidence: Mapping[str, float]
    miou: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Shot:
    """One image of the gallery.

    Attributes:
        index: in the statistics.
        picture: uint8 array of shape (h, w, 3), as shown.
        labels: uint8 array of shape (h, w), class ids; others where nothing is told.
        looks: by (exit, head id).
    """

    index: int
    name: str
    picture: np.ndarray
    labels: np.ndarray
    looks: Mapping[Head, Look]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images of one precision of a run.

    Attributes:
        shots: from the easiest to the hardest.
        palette: uint8 array of shape (classes, 3), RGB.
        policies: the keys of ``Look.confidence``: mean, Eq. 7, Eq. 7 + 9.
    """

    shots: tuple[Shot, ...]
    palette: np.ndarray
    policies: tuple[str, str, str]


def choose_images(
    statistics: Statistics,
    configuration: Configuration,
    leave_at: LeaveAt,
    count: int = COUNT,
) -> list[Choice]:
    """Images of the report part, evenly spread from the easiest to the hardest.

    Easy is what leaves early, and of that what the first exit is surest of. Every exit
    that any image takes is shown at least once, as far as ``count`` allows.
    """
    images = told_images(statistics)
    places = leave_at(statistics, configuration)
    first = configuration.exits[0]
    column = statistics.heads.index((first.exit, first.head))
    evaluated = {
        key: values[:, column]
        for key, values in statistics.confidence.items()
        if not np.isnan(values[:, column]).any()
    }
    sure = evaluated[first.policy or next(iter(evaluated))]
    ordered = sorted(images.tolist(), key=lambda i: (places[i], -sure[i], i))
    if not ordered:
        return []
    spread = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    chosen = {ordered[int(round(at))] for at in spread}
    for place in sorted({int(places[i]) for i in ordered}):
        alike = [i for i in ordered if places[i] == place]
        if not chosen & set(alike):
            chosen.add(alike[len(alike) // 2])
    shown = [i for i in ordered if i in chosen]
    while len(shown) > count:
        # The exit with the most images gives one up.
        kept = [int(places[i]) for i in shown]
        crowded = max(set(kept), key=lambda p: (kept.count(p), p))
        if kept.count(crowded) == 1:
            shown = shown[:count]
            break
        del shown[kept.index(crowded) + kept.count(crowded) // 2]
    return [Choice(i, int(places[i])) for i in shown]


def same_images(
    statistics: Statistics,
    configuration: Configuration,
    leave_at: LeaveAt,
    names: Sequence[str],
) -> list[Choice]:
    """The named images, in their order; none where one of them was not evaluated."""
    known = {name: i for i, name in enumerate(statistics.images)}
    if any(name not in known for name in names):
        return []
    places = leave_at(statistics, configuration)
    return [Choice(known[name], int(places[known[name]])) for name in names]


def end_heads(view: View) -> list[Head]:
    """The first and the last exit of a configuration; one where they are the same."""
    both = (view.exits[0], view.exits[-1])
    return list(dict.fromkeys((choice.exit, choice.head) for choice in both))


def pixel_threshold(configuration: Configuration) -> float:
    """Of Eq. 7: the first that the configuration decides by, else a usual one."""
    for choice in configuration.exits:
        policy = None if choice.policy is None else Policy.parse(choice.policy)
        if policy is not None and policy.family in ("eq7", "eq7+9"):
            return policy.pixel_threshold or PIXEL_THRESHOLD
    return PIXEL_THRESHOLD


def make_gallery(
    data: OpenedData,
    spec: SupernetSpec,
    pieces: Pieces,
    statistics: Statistics,
    choices: Sequence[Choice],
    heads: Iterable[Head],
    threshold: float,
) -> Gallery:
    """Runs heads on the chosen images.

    Args:
        heads: (exit, head id), all in the statistics.
        threshold: of Eq. 7, for the pixels.

    Raises:
        MessError: an image is no longer in the data set, or a piece cannot be run.
    """
    from mess_tf.runtime.piece_runner import PieceRunner

    runner = PieceRunner(pieces)
    wanted = sorted(set(heads))
    policies = ("mean", f"eq7@{threshold:g}", f"eq7+9@{threshold:g}")
    places = {name: i for i, name in enumerate(data.evaluation.names)}
    shots = []
    for choice in choices:
        name = statistics.images[choice.index]
        if name not in places:
            raise MessError(
                f"Image {name!r} of the statistics is not in the data set any more; run"
                " `mess evaluate` again."
            )
        sample = data.evaluation.load(places[name])
        image = evaluation_image(
            sample.image, spec.image_height, spec.image_width, spec.preprocessing
        )
        tensors = runner.features(image, max(exit_index for exit_index, _ in wanted))
        looks = {}
        for head in wanted:
            own = runner.logits(tensors, *head)
            answer = runner.output_logits(tensors, *head, spec.output_size)
            areas = image_areas(statistics, choice.index, head)
            looks[head] = Look(
                classes=_shown(upsampled_classes(answer[0], *sample.labels.shape)),
                sure=top1_numpy(own)[0],
                smoothed=median_smoothed_numpy(own)[0],
                confidence={
                    key: float(values[0])
                    for key, values in confidences_numpy(own, policies).items()
                },
                miou=image_quality(areas),
                accuracy=foreground_accuracy(
                    areas, background_class(statistics.classes)
                ),
            )
        picture = _shown(sample.image, smooth=True)
        shots.append(Shot(choice.index, name, picture, _shown(sample.labels), looks))
    return Gallery(tuple(shots), data.evaluation.palette, policies)


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
