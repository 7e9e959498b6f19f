"""The data set of a recipe: its training source, and what is evaluated, by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mess_tf.core.errors import MessError
from mess_tf.data.cache import Cached
from mess_tf.data.sources import Selection, Source, open_source
from mess_tf.data.splits import Part, evaluation_source, split_indices
from mess_tf.recipe.sections import Data


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for training and evaluation.

    Attributes:
        train: samples for training.
        evaluation: samples for calibration and report.
        parts: per sample of ``evaluation``, ``calibration`` or ``report``.
    """

    train: Source
    evaluation: Source
    parts: tuple[Part, ...]

    def calibration(self) -> Source:
        """The evaluation samples that choices may be made on."""
        chosen = [i for i, part in enumerate(self.parts) if part == "calibration"]
        return Selection(self.evaluation, chosen)


def open_dataset(data: Data) -> Dataset:
    """Opens both splits and cuts them into parts; samples are decoded only once.

    Raises:
        MessError: the data set cannot be used; the message names the file.
    """
    train, val = open_split(data, data.train), open_split(data, data.val)
    # In a plain folder two videos may well number their frames alike.
    common = set() if data.kind == "folder" else set(train.names) & set(val.names)
    if common:
        raise MessError(
            f"{len(common)} images are in both {data.train!r} and {data.val!r} (one:"
            f" {min(common)}); choose data.train and data.val that share none."
        )
    parts = split_indices(train, val, data.hold_out, data.calibration_fraction)
    evaluation, names = evaluation_source(train, val, parts)
    return Dataset(Cached(Selection(train, parts.train)), Cached(evaluation), names)


def open_split(data: Data, split: str) -> Source:
    """Opens one of the two splits of a recipe's data.

    Raises:
        MessError: the data set cannot be used; the message names the file.
    """
    return open_source(data.kind, split, **_options(data, split == data.train))


def _options(data: Data, training: bool) -> dict[str, Any]:
    if data.kind == "drawn":
        count = data.count_train if training else data.count_val
        return {"size": data.size, "count": count, "seed": data.seed}
    options: dict[str, Any] = {"path": data.path, "group": data.group}
    if data.kind == "folder":
        options |= {"ignore_label": data.ignore_label}
    elif data.kind == "voc":
        options |= {"sbd": data.sbd, "trainaug_images": data.trainaug_images}
    elif data.kind == "coco":
        options |= {"training": training}
    return options
