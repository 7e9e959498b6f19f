"""Runs pieces and linked files in LiteRT on this computer, for checking and evaluation.

Pieces hand each other their tensors by name and as they are: int8 stays int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.compile.check import open_interpreter
from mess_tf.errors import MessError
from mess_tf.records import (
    IMAGE_TENSOR,
    Pieces,
    TensorInfo,
    head_name,
    output_name,
    segment_name,
)


def quantise(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """float32 values as a tensor's own dtype; float tensors take them as they are."""
    if not info.scale:
        return values.astype(info.dtype)
    steps = np.round(values / np.float32(info.scale)) + info.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)


def dequantise(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """A tensor's float32 values."""
    if not info.scale:
        return values.astype(np.float32)
    steps = values.astype(np.float32) - np.float32(info.zero_point)
    return steps * np.float32(info.scale)


class LiteRTFile:
    """One ``.tflite`` file, or its bytes, ready to run; tensors go by name."""

    def __init__(self, file: Path | bytes, threads: int = 1) -> None:
        self._interpreter = open_interpreter(file, threads)
        self.inputs = self._infos(self._interpreter.get_input_details())
        self.outputs = self._infos(self._interpreter.get_output_details())

    def _infos(self, details: Sequence[Any]) -> dict[str, tuple[int, TensorInfo]]:
        result = {}
        for detail in details:
            scale, zero_point = detail["quantization"]
            result[detail["name"]] = (
                int(detail["index"]),
                TensorInfo(
                    name=detail["name"],
                    shape=tuple(int(n) for n in detail["shape"]),
                    dtype=np.dtype(detail["dtype"]).name,
                    scale=float(scale),
                    zero_point=int(zero_point),
                ),
            )
        return result

    def run(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs once; ``tensors`` may hold more than the inputs."""
        for name, (index, _) in self.inputs.items():
            self._interpreter.set_tensor(index, tensors[name])
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(index)
            for name, (index, _) in self.outputs.items()
        }


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
            Every border tensor by name, in the pieces' own dtype.
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
        """A head's logits (1, h, w, classes) on its own grid, in the piece's dtype."""
        name = head_name(exit_index, head_id)
        return self._file(name).run(tensors)[name]

    def logits(
        self, tensors: Mapping[str, np.ndarray], exit_index: int, head_id: str
    ) -> np.ndarray:
        """A head's logits (1, h, w, classes) on its own grid as float32.

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


class LinkedModel:
    """A linked file: image in, logits and the exit taken out."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._file = LiteRTFile(path, threads)
        if IMAGE_TENSOR not in self._file.inputs or not (
            {"logits", "exit"} <= set(self._file.outputs)
        ):
            raise MessError(
                f"{path} is no linked model: it has inputs {list(self._file.inputs)}"
                f" and outputs {list(self._file.outputs)}; make one by `mess export`."
            )
        self.image = self._file.inputs[IMAGE_TENSOR][1]
        self.output = self._file.outputs["logits"][1]

    def run(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        """Normalised float32 (H, W, 3) -> float32 logits (oh, ow, classes) and exit."""
        result = self._file.run({IMAGE_TENSOR: quantise(image[None], self.image)})
        return dequantise(result["logits"][0], self.output), int(result["exit"][0])
