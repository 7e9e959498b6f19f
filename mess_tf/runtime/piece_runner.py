"""Runs the pieces of a supernet in LiteRT on this computer, head by head.

Pieces hand each other their tensors by name and as they are: int8 stays int8.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR, head_name, output_name, segment_name
from mess_tf.core.pieces import Pieces
from mess_tf.runtime.interpreter import LiteRTFile, dequantise, quantise


class PieceRunner:
    """Runs segments and heads of a folder of pieces; files are opened when first used.

    Args:
        pieces: of ``compile_supernet``.
        threads: LiteRT threads per piece.
    """

    def __init__(self, pieces: Pieces, threads: int = 1) -> None:
        self.pieces = pieces
        self._threads = threads
        self._open: dict[str, LiteRTFile] = {}
        self._segments = sum(piece.kind == "segment" for piece in pieces.pieces)

    def _file(self, name: str) -> LiteRTFile:
        if name not in self._open:
            self._open[name] = LiteRTFile(self.pieces.path(name), self._threads)
        return self._open[name]

    def features(
        self, image: np.ndarray, upto: int | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the segments one after the other.

        Args:
            image: normalised float32 (H, W, 3).
            upto: exit point to stop at; None = the last.

        Returns:
            Every piece's outputs and the image by name, in the pieces' dtypes.
        """
        info = self.pieces[segment_name(1)].inputs[0]
        if (1, *image.shape) != info.shape:
            raise MessError(
                f"The image has shape {image.shape}; the pieces take {info.shape[1:]}."
            )
        tensors = {IMAGE_TENSOR: quantise(image[None], info)}
        for k in range(1, (upto or self._segments) + 1):
            tensors.update(self._file(segment_name(k)).run(tensors))
        return tensors

    def raw_logits(
        self, tensors: Mapping[str, np.ndarray], exit_index: int, head_id: str
    ) -> np.ndarray:
        """A head's logits (1, h, w, classes) on its grid, in the piece's dtype."""
        name = head_name(exit_index, head_id)
        return self._file(name).run(tensors)[name]

    def logits(
        self, tensors: Mapping[str, np.ndarray], exit_index: int, head_id: str
    ) -> np.ndarray:
        """A head's logits (1, h, w, classes) on its grid, float32.

        Args:
            tensors: of ``features``, at least up to ``exit_index``.
            exit_index: exit point of the head.
            head_id: the head.
        """
        info = self.pieces[head_name(exit_index, head_id)].outputs[0]
        return dequantise(self.raw_logits(tensors, exit_index, head_id), info)

    def output_logits(
        self,
        tensors: Mapping[str, np.ndarray],
        exit_index: int,
        head_id: str,
        output_size: tuple[int, int],
    ) -> np.ndarray:
        """The same on the common output grid, as a linked file gives them."""
        info = self.pieces[head_name(exit_index, head_id)].outputs[0]
        raw = self.raw_logits(tensors, exit_index, head_id)
        size = (raw.shape[1], raw.shape[2])
        if size != tuple(output_size):
            (raw,) = self._file(output_name(size)).run({"logits": raw}).values()
        return dequantise(raw, info)
