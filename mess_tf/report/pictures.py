"""What every kept exit makes of some images, from easy ones to hard ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mess_tf.data.augment import evaluation_image
from mess_tf.data.open import OpenedData
from mess_tf.errors import MessError
from mess_tf.evaluation.accuracy import rows
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.records import (
    Configuration,
    ExitChoice,
    Pieces,
    Statistics,
    SupernetSpec,
)
from mess_tf.report.targets import LeaveAt

COUNT = 6
SHOWN_WIDTH = 320
"""Pixels; the page need not carry more than it shows."""

_VOID = (40, 40, 40)


@dataclass(frozen=True)
class Choice:
    """An image to show: its index in the statistics and where it leaves."""

    index: int
    place: int


@dataclass(frozen=True, eq=False)
class Cell:
    """One exit's answer to one image.

    Attributes:
        exit: exit point.
        overlay: uint8 array of shape (h, w, 3), the picture under the classes' colours.
        confidence, threshold: of the policy; None on the last exit.
        right: part of the labelled pixels that it gets right.
        taken: the image leaves here.
    """

    exit: int
    overlay: np.ndarray
    confidence: float | None
    threshold: float | None
    right: float
    taken: bool


@dataclass(frozen=True, eq=False)
class Strip:
    """One image: itself, every kept exit's answer, its labels in colour."""

    name: str
    picture: np.ndarray
    cells: tuple[Cell, ...]
    labels: np.ndarray


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
    images = rows(statistics, "report")
    images = images if len(images) else rows(statistics)
    places = leave_at(statistics, configuration)
    first = configuration.exits[0]
    column = statistics.heads.index((first.exit, first.head))
    policy = first.policy or next(iter(statistics.confidence))
    sure = statistics.confidence[policy][:, column]
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


def make_strips(
    data: OpenedData,
    spec: SupernetSpec,
    pieces: Pieces,
    statistics: Statistics,
    configuration: Configuration,
    choices: Sequence[Choice],
) -> tuple[Strip, ...]:
    """Runs every kept exit on the chosen images.

    Raises:
        MessError: an image is no longer in the data set, or a piece cannot be run.
    """
    from mess_tf.compile.runner import PieceRunner

    runner = PieceRunner(pieces)
    places = {name: i for i, name in enumerate(data.evaluation.names)}
    palette = np.full((256, 3), _VOID, np.uint8)
    palette[: len(data.evaluation.palette)] = data.evaluation.palette
    strips = []
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
        tensors = runner.features(image, configuration.exits[-1].exit)
        cells = []
        for place, kept in enumerate(configuration.exits):
            logits = runner.output_logits(
                tensors, kept.exit, kept.head, spec.output_size
            )
            classes = upsampled_classes(logits[0], *sample.labels.shape)
            confidence = _confidence(statistics, choice.index, kept)
            valid = sample.labels < len(spec.classes)
            cells.append(
                Cell(
                    exit=kept.exit,
                    overlay=_over(sample.image, palette[classes]),
                    confidence=confidence,
                    threshold=kept.threshold,
                    right=float((classes == sample.labels)[valid].mean())
                    if valid.any()
                    else float("nan"),
                    taken=place == choice.place,
                )
            )
        strips.append(
            Strip(
                name,
                _shown(sample.image),
                tuple(cells),
                _shown(palette[sample.labels], smooth=False),
            )
        )
    return tuple(strips)


def data_uri(picture: np.ndarray, photograph: bool = True) -> str:
    """uint8 (h, w, 3) as text for ``src``: JPEG, or PNG for flat colours."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if photograph:
        image.save(buffer, "JPEG", quality=85)
    else:
        image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photograph else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _confidence(statistics: Statistics, image: int, kept: ExitChoice) -> float | None:
    if kept.policy is None:
        return None
    column = statistics.heads.index((kept.exit, kept.head))
    return float(statistics.confidence[kept.policy][image, column])


def _over(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Half picture, half colours, at the size that is shown."""
    import cv2

    if colours.shape != picture.shape:
        height, width = picture.shape[:2]
        colours = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
    grey = picture.mean(axis=2, keepdims=True)
    mixed = 0.35 * grey + 0.1 * picture + 0.55 * colours
    return _shown(mixed.astype(np.uint8))


def _shown(picture: np.ndarray, smooth: bool = True) -> np.ndarray:
    import cv2

    height, width = picture.shape[:2]
    if width <= SHOWN_WIDTH:
        return picture
    size = (SHOWN_WIDTH, max(1, round(height * SHOWN_WIDTH / width)))
    method = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method))
