"""Reads flatbuffers of the TFLite schema; ``Graph`` views one subgraph.

Tensors are found by name, never by a number that another pass may change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import TensorInfo
from mess_tf.flatbuffer.schema import (
    IDENTIFIER,
    NUMPY_TYPES,
    OPERATOR_NAMES,
    TYPE_CODES,
    TYPE_NAMES,
)


def read_model(content: bytes, what: str | Path) -> fb.ModelT:
    """Parses a TFLite flatbuffer and checks that its references resolve.

    Args:
        content: bytes of a ``.tflite`` file.
        what: file or description, for the error message.

    Raises:
        MessError: truncated or not a TFLite file.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise MessError(
            f"{what} is not a .tflite file (no {IDENTIFIER.decode()} mark)."
        )
    try:
        model = fb.ModelT.InitFromPackedBuf(content, 0)
        _check_references(model)
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


def _check_references(model: fb.ModelT) -> None:
    """Raises ValueError where an index of the model is out of range."""
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


def _ids(values: Sequence[int] | np.ndarray | None) -> list[int]:
    return [] if values is None else [int(value) for value in values]


class Graph:
    """A subgraph of a parsed model: tensors by name, operators by what they write.

    Args:
        model: parsed flatbuffer.
        subgraph: index of the subgraph; 0 is the one that runs.

    Attributes:
        model, subgraph: the parsed objects.
        tensors: of the subgraph; an id is an index into this list.
        operators: in execution order.
        inputs, outputs: tensor ids.
        producer: tensor id -> index of the operator that writes it.
    """

    def __init__(self, model: fb.ModelT, subgraph: int = 0) -> None:
        self.model = model
        self.subgraph = model.subgraphs[subgraph]
        self.tensors: list[fb.TensorT] = self.subgraph.tensors or []
        self.operators: list[fb.OperatorT] = self.subgraph.operators or []
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
        """``CONV_2D``, ...; the registered name of a custom operator."""
        code = self._code(operator)
        if code.customCode:
            return str(code.customCode.decode())
        # Old writers put the code into a byte, newer ones into the wider field too.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return OPERATOR_NAMES.get(number, f"OPERATOR_{number}")

    def is_builtin(self, operator: int) -> bool:
        """Whether an operator is one of the schema's, and no custom one."""
        code = self._code(operator)
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return OPERATOR_NAMES.get(number, "CUSTOM") not in ("CUSTOM", "DELEGATE")

    def _code(self, operator: int) -> fb.OperatorCodeT:
        return self.model.operatorCodes[self.operators[operator].opcodeIndex]

    def is_constant(self, tensor: int) -> bool:
        """Whether the file holds a tensor's values."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def constant(self, tensor: int) -> np.ndarray | None:
        """Values of a constant tensor, None for a computed one."""
        if not self.is_constant(tensor):
            return None
        data = self.model.buffers[self.tensors[tensor].buffer].data
        dtype = NUMPY_TYPES[self.tensors[tensor].type]
        return np.asarray(data, np.uint8).view(dtype).reshape(self.shape(tensor))

    def constant_source(self, tensor: int) -> int | None:
        """The constant that a tensor is, or is dequantised from; None if computed.

        float16 weights are dequantised once, when a runtime prepares the graph.
        """
        if self.is_constant(tensor):
            return tensor
        producer = self.producer.get(tensor)
        if producer is None or self.operator_name(producer) != "DEQUANTIZE":
            return None
        return self.constant_source(self.reads(producer)[0])

    def dequantises_constant(self, operator: int) -> bool:
        """Whether an operator only dequantises a constant."""
        written = self.writes(operator)
        return len(written) == 1 and self.constant_source(written[0]) is not None

    def type_name(self, tensor: int) -> str:
        """Element type of a tensor id, as the schema names it: ``int4``, ..."""
        return TYPE_NAMES[self.tensors[tensor].type]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Static shape of a tensor id."""
        return tuple(_ids(self.tensors[tensor].shape))

    def info(self, tensor: int) -> TensorInfo:
        """Name, shape, dtype, scale and zero point of a tensor id."""
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

    def operators_between(
        self, given: Iterable[int], targets: Iterable[int]
    ) -> list[int]:
        """Operators that compute ``targets`` from ``given``, in execution order."""
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


def scale_of(tensor: fb.TensorT) -> tuple[float, int]:
    """(scale, zero point) of a per-tensor quantised tensor, (0.0, 0) otherwise."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return 0.0, 0
    if len(quantization.scale) != 1:
        return 0.0, 0
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])
