"""LiteRT interpreters without log lines, run with tensors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import TensorInfo
from mess_tf.terminal.output_capture import capture_output


def open_interpreter(file: Path | bytes, threads: int = 1) -> Interpreter:
    """Loads a file, or what would stand in one, in LiteRT without its log lines.

    Raises:
        MessError: LiteRT refuses it.
    """
    source: dict[str, Any] = (
        {"model_path": str(file)} if isinstance(file, Path) else {"model_content": file}
    )
    with capture_output():
        try:
            interpreter = Interpreter(**source, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else "no reason given"
            name = file if isinstance(file, Path) else "a model in memory"
            raise MessError(f"LiteRT cannot load {name}: {reason}") from error
    return interpreter


# What makes values midway between two steps go up, whatever their last bit, in steps.
TIE_RAISE_STEPS = 1e-3


def quantise(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """float32 values quantised to a tensor's dtype; float tensors take them unchanged.

    Values midway between two steps go up: a normalised pixel p is often just there,
    and p - 128 is then its int8 value (``mess_tf.exporting.model_io``), whatever the
    last bit of its float32 value.
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
