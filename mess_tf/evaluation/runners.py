"""Two ways to get every head's logits for an image: the pieces, or the Keras model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mess_tf.core.piece_names import head_name, output_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.models.supernet import Supernet
from mess_tf.policies.comparison_exit import (
    is_reference,
    reference_exit,
    reference_head,
)
from mess_tf.policies.confidence import confidences_numpy
from mess_tf.policies.registry import keys_at


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """One head's answer to one image.

    Attributes:
        native: float32 array of shape (h, w, C): the logits on the head's grid.
        output: float32 array of shape (oh, ow, C): the logits on the common output
            grid, as they leave the network.
        confidence: per policy key that its exit has, what the policy says of the logits
            on the head's grid.
    """

    native: np.ndarray
    output: np.ndarray
    confidence: Mapping[str, float]


class Runner(Protocol):
    """Runs all heads of a supernet on one image."""

    @property
    def source(self) -> str:
        """What runs, as stored in ``Statistics.source``."""

    @property
    def parameters(self) -> Mapping[str, np.ndarray]:
        """Numbers of fitted policies, as stored in ``Statistics.parameters``."""

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        """Normalised float32 image (H, W, 3) -> one answer per head, in the order of
        ``SupernetSpec.head_names()``."""


class PiecesRunner:
    """What is deployed is what is measured: pieces and decisions in LiteRT.

    Args:
        spec: structure, with the heads that have pieces.
        pieces: of one precision.
        policy_keys: whose confidences to give; may be empty.
        threads: LiteRT threads.
        parameters: of the fitted families among the policies; see ``Statistics``.
    """

    def __init__(
        self,
        spec: SupernetSpec,
        pieces: Pieces,
        policy_keys: Sequence[str],
        threads: int = 1,
        parameters: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        from mess_tf.converting.decision_graphs import confidences_file
        from mess_tf.runtime.interpreter import LiteRTFile
        from mess_tf.runtime.piece_runner import PieceRunner

        self.source = f"pieces:{pieces.precision}"
        self.parameters = parameters or {}
        self._spec = spec
        self._pieces = pieces
        self._runner = PieceRunner(pieces, threads)
        sizes = {
            spec.head_size(index, HeadSpec.parse(head_id))
            for index, head_id in spec.head_names()
        }
        self._resizes = {
            size: LiteRTFile(pieces.path(output_name(size)), threads)
            for size in sizes - {spec.output_size}
        }
        classes = len(spec.classes)
        alone = keys_at(policy_keys, None)
        self._decisions = {
            size: LiteRTFile(confidences_file(alone, size, classes), threads)
            for size in (sizes if alone else ())
        }
        self._comparisons = {
            (exit_index, size): LiteRTFile(
                confidences_file(keys, size, classes, reference_size), threads
            )
            for exit_index, size, keys, reference_size in _compared(spec, policy_keys)
        }

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from mess_tf.converting.decision_graphs import (
            LOGITS,
            REFERENCE,
            parameters_input,
        )
        from mess_tf.runtime.interpreter import dequantise

        tensors = self._runner.features(image)
        references: dict[int | None, np.ndarray] = {}
        for head, (exit_index, head_id) in enumerate(self._spec.head_names()):
            info = self._pieces[head_name(exit_index, head_id)].outputs[0]
            raw = self._runner.raw_logits(tensors, exit_index, head_id)
            output, size = raw, raw.shape[1:3]
            if size in self._resizes:
                (output,) = self._resizes[size].run({LOGITS: raw}).values()
            native = dequantise(raw, info)
            decided = {}
            if size in self._decisions:
                parameters = {
                    parameters_input(family): values
                    for family, values in _of_head(self.parameters, head).items()
                }
                decided = self._decisions[size].run({LOGITS: native, **parameters})
            if (exit_index, size) in self._comparisons:
                other = references[reference_exit(self._spec, exit_index)]
                both = {LOGITS: native, REFERENCE: other}
                decided |= self._comparisons[exit_index, size].run(both)
            if is_reference(self._spec, exit_index, head_id):
                references[exit_index] = native
            confidence = {key: float(value[0]) for key, value in decided.items()}
            yield HeadOutput(native[0], dequantise(output[0], info), confidence)


class KerasRunner:
    """The trained Keras model, on any backend; arguments as for ``PiecesRunner``."""

    source = "keras"

    def __init__(
        self,
        supernet: Supernet,
        policy_keys: Sequence[str],
        parameters: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._supernet = supernet.at_size()
        self._policy_keys = policy_keys
        self.parameters = parameters or {}

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from keras import ops

        from mess_tf.training.losses import resize_to

        spec = self._supernet.spec
        height, width = spec.output_size
        logits = self._supernet.model.predict_on_batch(image[None])
        heads = logits if isinstance(logits, list) else [logits]
        references: dict[int | None, np.ndarray] = {}
        for head, (exit_index, head_id) in enumerate(spec.head_names()):
            native = np.asarray(heads[head])
            output = ops.convert_to_numpy(resize_to(native, height, width))
            parameters = _of_head(self.parameters, head)
            reference = reference_exit(spec, exit_index)
            keys = keys_at(self._policy_keys, reference)
            values = confidences_numpy(
                native, keys, parameters, references.get(reference)
            )
            if is_reference(spec, exit_index, head_id):
                references[exit_index] = native
            confidence = {key: float(value[0]) for key, value in values.items()}
            yield HeadOutput(native[0], np.asarray(output[0]), confidence)


def _compared(
    spec: SupernetSpec, policy_keys: Sequence[str]
) -> Iterator[tuple[int, tuple[int, int], list[str], tuple[int, int]]]:
    """Exit, head grid, keys that compare there, and the grid they compare with."""
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        exit_index = reference_exit(spec, point.index)
        keys = set(keys_at(policy_keys, exit_index)) - set(keys_at(policy_keys, None))
        if exit_index is not None and keys:
            other = spec.head_size(exit_index, reference_head(spec, exit_index))
            for size in {spec.head_size(point.index, head) for head in heads}:
                yield point.index, size, sorted(keys), other


def _of_head(parameters: Mapping[str, np.ndarray], head: int) -> dict[str, np.ndarray]:
    return {family: values[head] for family, values in parameters.items()}
