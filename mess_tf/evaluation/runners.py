"""Two ways to get every head's logits for an image: the pieces, or the Keras model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mess_tf.policies import confidences_numpy
from mess_tf.records import HeadSpec, Pieces, SupernetSpec, head_name, output_name
from mess_tf.supernet import Supernet


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """One head's answer to one image.

    Attributes:
        output: float32 array of shape (oh, ow, C): the logits on the common output
            grid, as they leave the network.
        confidence: per policy key, what the policy says of the logits on the head's own
            grid.
    """

    output: np.ndarray
    confidence: Mapping[str, float]


class Runner(Protocol):
    """Runs all heads of a supernet on one image."""

    @property
    def source(self) -> str:
        """What runs, as stored in ``Statistics.source``."""

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        """Normalised float32 image (H, W, 3) -> one answer per head, in the order of
        ``SupernetSpec.head_names()``."""


class PiecesRunner:
    """What is deployed is what is measured: pieces and decisions in LiteRT."""

    def __init__(
        self,
        spec: SupernetSpec,
        pieces: Pieces,
        policy_keys: Sequence[str],
        threads: int = 1,
    ) -> None:
        from mess_tf.compile.runner import LiteRTFile, PieceRunner
        from mess_tf.compile.small import confidences_file

        self.source = f"pieces:{pieces.precision}"
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
        self._decisions = {
            size: LiteRTFile(
                confidences_file(policy_keys, size, len(spec.classes)), threads
            )
            for size in sizes
        }

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from mess_tf.compile.runner import dequantise
        from mess_tf.compile.small import LOGITS

        tensors = self._runner.features(image)
        for exit_index, head_id in self._spec.head_names():
            info = self._pieces[head_name(exit_index, head_id)].outputs[0]
            native = self._runner.raw_logits(tensors, exit_index, head_id)
            output, size = native, native.shape[1:3]
            if size in self._resizes:
                (output,) = self._resizes[size].run({LOGITS: native}).values()
            decided = self._decisions[size].run({LOGITS: dequantise(native, info)})
            confidence = {key: float(value[0]) for key, value in decided.items()}
            yield HeadOutput(dequantise(output[0], info), confidence)


class KerasRunner:
    """The trained Keras model, on any backend."""

    source = "keras"

    def __init__(self, supernet: Supernet, policy_keys: Sequence[str]) -> None:
        self._supernet = supernet.at_size()
        self._policy_keys = policy_keys

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from keras import ops

        from mess_tf.training.losses import resize_to

        height, width = self._supernet.spec.output_size
        logits = self._supernet.model.predict_on_batch(image[None])
        for native in logits if isinstance(logits, list) else [logits]:
            output = ops.convert_to_numpy(resize_to(native, height, width))
            values = confidences_numpy(np.asarray(native), self._policy_keys)
            confidence = {key: float(value[0]) for key, value in values.items()}
            yield HeadOutput(np.asarray(output[0]), confidence)
