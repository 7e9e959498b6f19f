"""Runs pieces and linked files in LiteRT on this computer, for checking and evaluation.

Pieces hand each other their tensors by name and as they are: int8 stays int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.compiling.borders import CLASSES, EXIT, LOGITS, SERVE, THRESHOLDS
from mess_tf.compiling.check import open_interpreter
from mess_tf.errors import MessError
from mess_tf.records import (
    IMAGE_TENSOR,
    Pieces,
    TensorInfo,
    head_name,
    output_name,
    segment_name,
)

# What makes values midway between two steps go up, whatever their last bit, in steps.
TIE_RAISE_STEPS = 1e-3


def quantise(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """float32 values as a tensor's own dtype; float tensors take them as they are.

    Values midway between two steps go up: a normalised pixel p is often just there,
    and p - 128 is then its int8 value (``borders.folds_pixels``), whatever the last bit
    of its float32 value.
    """
    if not info.scale:
        return values.astype(info.dtype)
    limits = np.iinfo(info.dtype)
    half_up = np.float32(0.5 + TIE_RAISE_STEPS)
    steps = np.floor(values / np.float32(info.scale) + half_up) + info.zero_point
    return np.clip(steps, limits.min, limits.max).astype(info.dtype)


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
        self.signatures = sorted(self._interpreter.get_signature_list())

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


@dataclass(frozen=True, eq=False)
class Answer:
    """What an exported file says of an image.

    Attributes:
        exit: exit point taken, 1-based.
        logits: float32 array of shape (h, w, classes); None where the file gives none.
        classes: uint8 array of shape (h, w) of class ids; None likewise.
    """

    exit: int
    logits: np.ndarray | None
    classes: np.ndarray | None


class LinkedModel:
    """An exported file of one piece: image in, answer and the exit taken out.

    Args:
        path: of the file.
        threads: LiteRT threads.
        thresholds: for files that take them as an input, one per early exit.

    Attributes:
        image: the input for the image.
        logits: the output for logits, None where there is none.
        early_exits: length of the input for thresholds, None where there is none.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        path = Path(path)
        self._file = LiteRTFile(path, threads)
        inputs = {name: info for name, (_, info) in self._file.inputs.items()}
        outputs = {name: info for name, (_, info) in self._file.outputs.items()}
        if IMAGE_TENSOR not in inputs or EXIT not in outputs:
            raise MessError(
                f"{path} is no linked model: it has inputs {list(inputs)}"
                f" and outputs {list(outputs)}; make one by `mess export`."
            )
        if SERVE not in self._file.signatures:
            raise MessError(
                f"{path} lacks the signature {SERVE!r}, by which apps call it; it has"
                f" {self._file.signatures}. Export it again."
            )
        self.image = inputs[IMAGE_TENSOR]
        self.logits = outputs.get(LOGITS)
        knob = inputs.get(THRESHOLDS)
        self.early_exits = None if knob is None else knob.shape[0]
        self._thresholds = thresholds
        self._path = path

    def run(
        self, image: np.ndarray, thresholds: Sequence[float] | None = None
    ) -> Answer:
        """Segments one image.

        Args:
            image: normalised float32 (H, W, 3), or uint8 RGB pixels for a file that
                takes these.
            thresholds: instead of those given before.
        """
        tensors = {IMAGE_TENSOR: as_input(image, self.image, self._path)}
        if self.early_exits is not None:
            limits = self._thresholds if thresholds is None else thresholds
            if limits is None or len(limits) != self.early_exits:
                raise MessError(
                    f"{self._path} takes {self.early_exits} thresholds, one per early"
                    f" exit; got {limits}."
                )
            tensors[THRESHOLDS] = np.array(limits, np.float32)
        outputs = self._file.run(tensors)
        return read_answer(outputs, self.logits, int(outputs[EXIT][0]))


def as_input(image: np.ndarray, info: TensorInfo, path: Path) -> np.ndarray:
    """An image (H, W, 3) as a file's input of shape (1, H, W, 3).

    Raises:
        MessError: pixels for a file that takes normalised values, or the reverse, or
            another size.
    """
    if (1, *image.shape) != info.shape:
        raise MessError(
            f"The image has shape {image.shape}; {path} takes {info.shape[1:]}."
        )
    if (image.dtype == np.uint8) != (info.dtype == "uint8"):
        raise MessError(
            f"{path} takes {info.dtype} images"
            f" ({'pixels' if info.dtype == 'uint8' else 'normalised'}); got"
            f" {image.dtype}."
        )
    return image[None] if info.dtype == "uint8" else quantise(image[None], info)


def read_answer(
    outputs: Mapping[str, np.ndarray], logits: TensorInfo | None, exit_index: int
) -> Answer:
    """A file's outputs as an answer."""
    return Answer(
        exit=exit_index,
        logits=None if logits is None else dequantise(outputs[LOGITS][0], logits),
        classes=outputs[CLASSES][0] if CLASSES in outputs else None,
    )
