"""Reading and walking flatbuffers of the TFLite schema.

``Graph`` is a view of one subgraph that finds tensors by name and operators by what
they produce. Tensors are found by name, never by a number that another pass may change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import TensorInfo

IDENTIFIER = b"TFL3"

OPERATOR_NAMES: dict[int, str] = {
    value: name
    for name, value in vars(fb.BuiltinOperator).items()
    if isinstance(value, int)
}
NUMPY_TYPES: dict[int, str] = {
    fb.TensorType.FLOAT32: "float32",
    fb.TensorType.FLOAT16: "float16",
    fb.TensorType.INT32: "int32",
    fb.TensorType.INT64: "int64",
    fb.TensorType.INT8: "int8",
    fb.TensorType.UINT8: "uint8",
    fb.TensorType.BOOL: "bool",
}
TYPE_CODES: dict[str, int] = {name: code for code, name in NUMPY_TYPES.items()}


def read_model(content: bytes, what: str | Path) -> fb.ModelT:
    """Parses a flatbuffer.

    Args:
        content: of a ``.tflite`` file.
        what: file or description, for the error line.

    Raises:
        MessError: truncated or not a TFLite file.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise MessError(
            f"{what} is not a .tflite file (no {IDENTIFIER.decode()} mark)."
        )
    try:
        model = fb.ModelT.InitFromPackedBuf(content, 0)
        _check_whole(model)
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
        raise MessError(
            f"{what} is a damaged .tflite file ({error}); make or copy it again."
        ) from error
    return model


def read_file(path: Path) -> fb.ModelT:
    """Reads and parses a ``.tflite`` file; MessError if it is missing or damaged."""
    try:
        return read_model(path.read_bytes(), path)
    except OSError as error:
        raise MessError(f"Cannot read {path}: {error.strerror}.") from error


def _check_whole(model: fb.ModelT) -> None:
    """Raises ValueError when parts refer to what is not there."""
    if not model.subgraphs or not model.buffers:
        raise ValueError("no subgraph or no buffers")
    for subgraph in model.subgraphs:
        count = len(subgraph.tensors or ())
        for tensor in subgraph.tensors or ():
            if tensor.buffer >= len(model.buffers):
                raise ValueError("a tensor refers to a missing buffer")
        for operator in subgraph.operators or ():
            used = [*_ids(operator.inputs), *_ids(operator.outputs)]
            if any(not -1 <= tensor < count for tensor in used):
                raise ValueError("an operator refers to a missing tensor")
            if operator.opcodeIndex >= len(model.operatorCodes or ()):
                raise ValueError("an operator has no code")


def _ids(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


class Graph:
    """One subgraph of a parsed model, with what is needed to walk it.

    Attributes:
        model, subgraph: the parsed objects.
        tensors: of the subgraph.
        operators: in execution order.
        inputs, outputs: tensor ids.
    """

    def __init__(self, model: fb.ModelT, subgraph: int = 0) -> None:
        self.model = model
        self.subgraph = model.subgraphs[subgraph]
        self.tensors: list[Any] = self.subgraph.tensors or []
        self.operators: list[Any] = self.subgraph.operators or []
        self.inputs = _ids(self.subgraph.inputs)
        self.outputs = _ids(self.subgraph.outputs)
        self._reads = [_ids(operator.inputs) for operator in self.operators]
        self._writes = [_ids(operator.outputs) for operator in self.operators]
        self.producer = {t: i for i, ids in enumerate(self._writes) for t in ids}

    def name(self, tensor: int) -> str:
        """Name of a tensor id."""
        name = self.tensors[tensor].name
        return name.decode() if isinstance(name, bytes) else str(name or "")

    def tensor(self, name: str) -> int:
        """Id of the tensor called ``name``; MessError if there is none."""
        for tensor in range(len(self.tensors)):
            if self.name(tensor) == name:
                return tensor
        raise MessError(f"The flatbuffer has no tensor named {name!r}.")

    def reads(self, operator: int) -> list[int]:
        """Tensor ids an operator reads; -1 stands for an absent optional input."""
        return self._reads[operator]

    def writes(self, operator: int) -> list[int]:
        """Tensor ids an operator writes."""
        return self._writes[operator]

    def operator_name(self, operator: int) -> str:
        """``CONV_2D``, ... ; a custom operator gives its own name."""
        code = self.model.operatorCodes[self.operators[operator].opcodeIndex]
        if code.customCode:
            return str(code.customCode.decode())
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return OPERATOR_NAMES.get(number, f"OPERATOR_{number}")

    def constant(self, tensor: int) -> np.ndarray | None:
        """Value of a constant tensor, None for one that is computed."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        if data is None or not len(data):
            return None
        dtype = NUMPY_TYPES[self.tensors[tensor].type]
        return np.asarray(data, np.uint8).view(dtype).reshape(self.shape(tensor))

    def stored(self, tensor: int) -> int | None:
        """The constant behind a tensor: itself, or what a DEQUANTIZE unpacks into it.

        float16 weights are unpacked once, when a runtime prepares the graph.
        """
        if self.constant(tensor) is not None:
            return tensor
        maker = self.producer.get(tensor)
        if maker is None or self.operator_name(maker) != "DEQUANTIZE":
            return None
        return self.stored(self.reads(maker)[0])

    def unpacks(self, operator: int) -> bool:
        """Whether an operator only unpacks a constant."""
        written = self.writes(operator)
        return len(written) == 1 and self.stored(written[0]) is not None

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Static shape of a tensor id."""
        return tuple(_ids(self.tensors[tensor].shape))

    def info(self, tensor: int) -> TensorInfo:
        """A tensor's border record: name, shape, dtype, scale and zero point."""
        code = self.tensors[tensor].type
        if code not in NUMPY_TYPES:
            raise MessError(
                f"Tensor {self.name(tensor)!r} has type code {code}; accepted:"
                f" {sorted(TYPE_CODES)}."
            )
        scale, zero_point = scale_of(self.tensors[tensor])
        return TensorInfo(
            self.name(tensor), self.shape(tensor), NUMPY_TYPES[code], scale, zero_point
        )

    def needed_for(self, targets: Iterable[int], given: Iterable[int]) -> list[int]:
        """Operators that compute ``targets`` when ``given`` is known, in order."""
        known, stack, found = set(given), list(targets), set()
        while stack:
            tensor = stack.pop()
            if tensor in known or tensor < 0:
                continue
            known.add(tensor)
            operator = self.producer.get(tensor)
            if operator is not None and operator not in found:
                found.add(operator)
                stack.extend(self.reads(operator))
        return sorted(found)


def scale_of(tensor: Any) -> tuple[float, int]:
    """(scale, zero point) of a per-tensor quantised tensor, (0.0, 0) otherwise."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return 0.0, 0
    if len(quantization.scale) != 1:
        return 0.0, 0
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def quantization(scale: float, zero_point: int) -> fb.QuantizationParametersT:
    """Per-tensor parameters of the schema."""
    return fb.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )
