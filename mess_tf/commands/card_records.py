"""Records of ``card.json``: what an export is, promises, and was made of.

The card inside a file is the same without what only finished files tell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mess_tf.core.configuration import ExitChoice
from mess_tf.core.json_files import Json, to_json
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.exporting.embedded_card import CARD_SCHEMA
from mess_tf.exporting.options import ExportForm
from search.anytime import AnytimeResult
from search.requirement import Requirement
from search.result import Outcome


@dataclass(frozen=True)
class ImageInput(TensorInfo):
    """The image input of a file.

    Attributes:
        holds: what its values are, and how pixels become them.
    """

    holds: str = field(kw_only=True)


@dataclass(frozen=True)
class Thresholds:
    """Exit thresholds of the early exits.

    Attributes:
        default: one per early exit, in order of depth.
        input: whether they are an input of the file.
    """

    default: tuple[float | None, ...]
    input: bool


@dataclass(frozen=True)
class CardExit(ExitChoice):
    """An exit of the exported configuration, with facts about it.

    Attributes:
        layer: backbone layer whose output it reads.
        macs: multiply-accumulates up to its answer, its decision's included.
        miou: of its head alone, by part of the images; null where there is none.
    """

    layer: str = field(kw_only=True)
    macs: int = field(kw_only=True)
    miou: Mapping[Literal["report", "calibration"], float] = field(kw_only=True)


@dataclass(frozen=True)
class Inventory:
    """Operators and tensor types of all subgraphs; see ``exporting.inventory``.

    Attributes:
        operators: count by name.
        tensors: count of activations by dtype.
        weights: bytes of constants by dtype.
        float_operators: count, by name, of operators on float activations.
        types: per operator, its count by signature ``values x constants -> values``.
    """

    operators: Mapping[str, int]
    tensors: Mapping[str, int]
    weights: Mapping[str, int]
    float_operators: Mapping[str, int]
    types: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class FloatOperator:
    """Operators of one kind that work on float values, and why."""

    operator: str
    count: int
    reason: str


@dataclass(frozen=True)
class CardLatency:
    """How the promised latencies were measured.

    Attributes:
        device: its description.
        preset: of measuring.
        conditions: state of the device while the final network was measured.
        statistic: how a promise is computed from measurements.
    """

    device: Mapping[str, Any]
    threads: int
    preset: str
    conditions: Mapping[str, Any]
    statistic: str = "sum of the pieces' medians, mean over images"


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card inside an exported file.

    Attributes:
        name: of the export.
        form: what was asked for.
        precision: of the pieces.
        quantisation: how their numbers came about.
        outputs: by name, the tensor of the logits or, in words, what the output holds.
        palette: RGB per class, 0..255.
        exits: of the configuration, in order of depth.
        in_float: operators on float values, with reasons.
        requirement: of the search.
        promise: the exported configuration with its figures.
        best_static: the best single exit for the requirement; null without one.
        reference: the final head alone.
        anytime: the exits that answer one after the other, with their figures by the
            deadlines; then requirement, promise, best_static and reference are null.
            Left out of other exports' cards.
        statistics_source: what the search's statistics were measured on.
        sources: sha256 of everything that went in; of pieces by name.
        versions: of packages.
    """

    name: str
    schema: int = CARD_SCHEMA
    form: ExportForm
    precision: Precision
    quantisation: Mapping[str, Any]
    input: ImageInput
    outputs: Mapping[str, TensorInfo | str]
    thresholds: Thresholds
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    exits: tuple[CardExit, ...]
    inventory: Inventory
    in_float: tuple[FloatOperator, ...]
    requirement: Requirement | None
    promise: Outcome | None
    best_static: Outcome | None
    reference: Outcome | None
    latency: CardLatency
    statistics_source: str
    sources: Mapping[str, str | Mapping[str, str]]
    versions: Mapping[str, str]
    anytime: AnytimeResult | None = None

    def to_json(self) -> dict[str, Json]:
        """Plain JSON; a number that is not finite is null, which every reader knows."""
        plain: dict[str, Json] = _without_nan(to_json(self))
        if self.anytime is None:
            del plain["anytime"]
        return plain


@dataclass(frozen=True, kw_only=True)
class CardFile(Card):
    """``card.json``: the card, and what only the finished files tell.

    Attributes:
        model: file that the card lies in; of stages the first.
        sha256: of that file.
        size_bytes: of all files.
        files: sha256 by name.
    """

    model: str
    sha256: str
    size_bytes: int
    files: Mapping[str, str]

    @classmethod
    def of(
        cls, card: Card, *, model: str, size_bytes: int, files: Mapping[str, str]
    ) -> CardFile:
        """The card with the facts of its files."""
        facts = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
        digest = files[model]
        return cls(
            **facts, model=model, sha256=digest, size_bytes=size_bytes, files=files
        )


def _without_nan(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
