"""Runs an exported file with early exits: image in, prediction and exit out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.core.pieces import TensorInfo
from mess_tf.runtime.interpreter import LiteRTFile, dequantise, quantise
from mess_tf.runtime.signature_names import CLASSES, EXIT, LOGITS, SERVE, THRESHOLDS


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of an exported file for one image.

    Attributes:
        exit: exit point taken, 1-based.
        logits: float32 array of shape (h, w, classes); None where the file gives none.
        classes: uint8 array of shape (h, w) of class ids; None likewise.
    """

    exit: int
    logits: np.ndarray | None
    classes: np.ndarray | None


class LinkedModel:
    """An exported file with early exits, ready to run.

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
        threshold_input = inputs.get(THRESHOLDS)
        self.early_exits = None if threshold_input is None else threshold_input.shape[0]
        self._thresholds = thresholds
        self._path = path

    def run(
        self, image: np.ndarray, thresholds: Sequence[float] | None = None
    ) -> Prediction:
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
        return read_prediction(outputs, self.logits, int(outputs[EXIT][0]))


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


def read_prediction(
    outputs: Mapping[str, np.ndarray], logits: TensorInfo | None, exit_index: int
) -> Prediction:
    """A file's outputs as a prediction.

    Args:
        outputs: by name.
        logits: record of the output ``logits``, None where there is none.
        exit_index: exit point taken, 1-based.
    """
    return Prediction(
        exit=exit_index,
        logits=None if logits is None else dequantise(outputs[LOGITS][0], logits),
        classes=outputs[CLASSES][0] if CLASSES in outputs else None,
    )
