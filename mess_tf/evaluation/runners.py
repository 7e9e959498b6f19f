"""Two ways to get every head's logits for an image: the pieces, or the Keras model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mess_tf.records import HeadSpec, Pieces, SupernetSpec, head_name, output_name
from mess_tf.supernet import Supernet


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """One head's answer to one image.

    Attributes:
        native: float32 array of shape (h, w, C) on the head's own grid: what the policy
            sees.
        output: float32 array of shape (oh, ow, C) on the common output grid: what
            leaves the network.
    """

    native: np.ndarray
    output: np.ndarray


class Runner(Protocol):
    """Runs all heads of a supernet on one image."""

    @property
    def source(self) -> str:
        """What runs, as stored in ``Statistics.source``."""

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        """Normalised float32 image (H, W, 3) -> one answer per head, in the order of
        ``SupernetSpec.head_names()``."""


class PiecesRunner:
    """What is deployed is what is measured: the pieces in LiteRT."""

    def __init__(self, spec: SupernetSpec, pieces: Pieces, threads: int = 1) -> None:
        from mess_tf.compile.runner import LiteRTFile, PieceRunner

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

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from mess_tf.compile.runner import dequantise

        tensors = self._runner.features(image)
        for exit_index, head_id in self._spec.head_names():
            info = self._pieces[head_name(exit_index, head_id)].outputs[0]
            native = self._runner.raw_logits(tensors, exit_index, head_id)
            output, size = native, native.shape[1:3]
            if size in self._resizes:
                (output,) = self._resizes[size].run({"logits": native}).values()
            yield HeadOutput(dequantise(native[0], info), dequantise(output[0], info))


class KerasRunner:
    """The trained Keras model, on any backend."""

    source = "keras"

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet.at_size()

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        from keras import ops

        from mess_tf.training.losses import resize_to

        height, width = self._supernet.spec.output_size
        logits = self._supernet.model.predict_on_batch(image[None])
        for native in logits if isinstance(logits, list) else [logits]:
            output = ops.convert_to_numpy(resize_to(native, height, width))
            yield HeadOutput(np.asarray(native[0]), np.asarray(output[0]))
