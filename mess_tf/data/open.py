"""The data of a recipe: its training source, and what is evaluated, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mess_tf.data.cache import Cached
from mess_tf.data.parts import Part, evaluation_source, make_parts
from mess_tf.data.sources import Selection, Source, open_source
from mess_tf.recipe_sections import Data


@dataclass(frozen=True)
class OpenedData:
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


def open_data(data: Data) -> OpenedData:
    """Opens both splits and cuts them into parts; samples are decoded only once.

    Raises:
        MessError: the data set cannot be used; the message names the file.
    """
    train, val = (
        open_source(data.kind, split, **_options(data, count))
        for split, count in (
            (data.train, data.count_train),
            (data.val, data.count_val),
        )
    )
    parts = make_parts(train, val, data.hold_out, data.calibration_fraction)
    evaluation, names = evaluation_source(train, val, parts)
    return OpenedData(Cached(Selection(train, parts.train)), Cached(evaluation), names)


def _options(data: Data, count: int) -> dict[str, Any]:
    if data.kind == "drawn":
        return {"size": data.size, "count": count, "seed": data.seed}
    return {"path": data.path, "ignore_label": data.ignore_label, "group": data.group}
