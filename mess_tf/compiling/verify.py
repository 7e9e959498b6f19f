"""Compares pieces with Keras, and linked files with their pieces, exit by exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.policies.comparison_exit import reference_head
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.runtime.piece_runner import PieceRunner

if TYPE_CHECKING:
    from mess_tf.models.supernet import Supernet


@dataclass(frozen=True)
class HeadDifference:
    """Largest difference of a head's logits: chained pieces against Keras layers.

    Attributes:
        exit, head: which.
        largest: largest absolute difference of a logit over all images.
        magnitude: largest absolute Keras logit.
    """

    exit: int
    head: str
    largest: float
    magnitude: float

    @property
    def relative(self) -> float:
        """Largest difference as a share of the largest logit."""
        return self.largest / self.magnitude if self.magnitude else self.largest


@dataclass(frozen=True)
class LinkedCheck:
    """Routing and logits of a linked file against its pieces and the numpy policy.

    Attributes:
        taken: exit point per image as the file says.
        expected: the same by ``Policy.confidence_numpy`` on the pieces' logits.
        largest: per exit point, largest absolute difference of a logit.
        step: the linked output's quantisation step; 0 for float files. Half of it is
            the difference that bringing all exits to one scale may make.
        margin: per image, the smallest distance of a confidence from its threshold.
    """

    taken: tuple[int, ...]
    expected: tuple[int, ...]
    largest: Mapping[int, float]
    step: float
    margin: tuple[float, ...]

    @property
    def misrouted(self) -> tuple[int, ...]:
        """Images that left at another exit than expected."""
        pairs = enumerate(zip(self.taken, self.expected, strict=True))
        return tuple(index for index, (taken, expected) in pairs if taken != expected)


def compare_pieces(
    pieces: Pieces,
    supernet: Supernet,
    images: Sequence[np.ndarray],
    heads: Sequence[tuple[int, str]] | None = None,
) -> list[HeadDifference]:
    """Chains the pieces on images and compares every head with its Keras layers.

    Args:
        pieces: of ``compile_supernet``.
        supernet: they come from.
        images: normalised float32 (H, W, 3).
        heads: (exit, head id) to look at; None = all.
    """
    from mess_tf.converting.convert import as_inputs

    wanted = list(supernet.spec.head_names() if heads is None else heads)
    runner = PieceRunner(pieces)
    chained = [runner.features(image) for image in images]
    batch = np.stack(images)
    backbone = supernet.backbone()
    features = _as_list(backbone(as_inputs(backbone, [batch]), training=False))
    result = []
    for exit_index in sorted({exit_index for exit_index, _ in wanted}):
        ids = [head for e, head in wanted if e == exit_index]
        inputs = [features[i - 1] for i in supernet.head_inputs(exit_index, ids)]
        model = supernet.heads(exit_index, ids)
        outputs = _as_list(model(as_inputs(model, inputs), training=False))
        for head_id, output in zip(ids, outputs, strict=True):
            keras_logits = np.asarray(output)
            logits = [
                runner.logits(tensors, exit_index, head_id) for tensors in chained
            ]
            result.append(
                HeadDifference(
                    exit_index,
                    head_id,
                    float(np.abs(np.concatenate(logits) - keras_logits).max()),
                    float(np.abs(keras_logits).max()),
                )
            )
    return result


def _as_list(result: object) -> list[object]:
    return list(result) if isinstance(result, list | tuple) else [result]


def compare_linked(
    path: Path,
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    images: Sequence[np.ndarray],
) -> LinkedCheck:
    """Runs a linked file on images and compares routing and logits with the pieces.

    Args:
        path: written by ``link_configuration`` from the same pieces and configuration,
            in the default form.
        pieces, spec, configuration: what it was linked from.
        images: normalised float32 (H, W, 3).
    """
    linked, runner = LinkedModel(path), PieceRunner(pieces)
    if linked.logits is None:
        raise MessError(f"{path} gives no logits to compare; link it with them.")
    by_exit = {choice.exit: choice for choice in configuration.exits}
    taken, expected, margins = [], [], []
    largest: dict[int, float] = {}
    for image in images:
        prediction = linked.run(image)
        tensors = runner.features(image, configuration.exits[-1].exit)
        route, margin = _route(runner, tensors, spec, configuration)
        taken.append(prediction.exit)
        expected.append(route)
        margins.append(margin)
        reference = runner.output_logits(
            tensors, prediction.exit, by_exit[prediction.exit].head, spec.output_size
        )[0]
        difference = float(np.abs(prediction.logits - reference).max())
        largest[prediction.exit] = max(largest.get(prediction.exit, 0.0), difference)
    return LinkedCheck(
        tuple(taken), tuple(expected), largest, linked.logits.scale, tuple(margins)
    )


def _route(
    runner: PieceRunner,
    tensors: Mapping[str, np.ndarray],
    spec: SupernetSpec,
    configuration: Configuration,
) -> tuple[int, float]:
    """(exit taken, smallest distance of a confidence from its threshold)."""
    margin = float("inf")
    for choice in configuration.exits[:-1]:
        logits = runner.logits(tensors, choice.exit, choice.head)
        policy, parameters = Policy.parse(str(choice.policy)), choice.parameters
        other = None
        if policy.reference is not None:
            head = reference_head(spec, policy.reference)
            other = runner.logits(tensors, policy.reference, head.id)
        confidence = confidence_numpy(policy, logits, parameters, other)[0]
        threshold = np.float32(choice.threshold)
        margin = min(margin, float(abs(confidence - threshold)))
        if confidence >= threshold:
            return choice.exit, margin
    return configuration.exits[-1].exit, margin
