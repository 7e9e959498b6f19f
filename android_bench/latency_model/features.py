"""What a ``.tflite`` file makes the processor do, operator by operator.

Everything is counted from the flatbuffer: kinds, shapes, multiply-accumulates, bytes
moved, kernel, stride, dilation, precision. Nothing is run.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from android_bench.errors import BenchError

_KINDS = {
    value: name
    for name, value in vars(fb.BuiltinOperator).items()
    if isinstance(value, int)
}
_TYPES = {
    value: name.lower()
    for name, value in vars(fb.TensorType).items()
    if isinstance(value, int)
}
_BITS = {"int4": 4, "int8": 8, "uint8": 8, "bool": 8, "int16": 16, "float16": 16}
_BITS |= {"int32": 32, "uint32": 32, "float32": 32, "int64": 64, "float64": 64}

CONTROL_FLOW = ("IF", "WHILE", "CALL", "CALL_ONCE")


@dataclass(frozen=True, order=True)
class Operator:
    """One operator; two that are equal take the same time.

    Attributes:
        kind: its name in the schema, e.g. ``CONV_2D``.
        precision: type of the values it writes, e.g. ``int8``.
        weights: type of its weights, "" where it has none.
        cells: output positions, height x width.
        channels_in, channels_out: last axis of the first input and of the output.
        kernel: positions of the kernel, height x width; 1 where there is none.
        stride, dilation: the larger of both axes; 1 where there is none.
        macs: multiply-accumulates.
        read_bytes, weight_bytes, written_bytes: values read, constants, values written.
    """

    kind: str
    precision: str
    weights: str
    cells: int
    channels_in: int
    channels_out: int
    kernel: int
    stride: int
    dilation: int
    macs: int
    read_bytes: int
    weight_bytes: int
    written_bytes: int


def operators_of(path: Path) -> tuple[Operator, ...]:
    """The operators of a file's only graph, in running order.

    Raises:
        BenchError: no such file, damaged, an open shape, a custom operator, or control
            flow (what such a file does is not known before it runs).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BenchError(
            f"Model {path} cannot be read ({error.strerror}); give the path of a"
            " .tflite file."
        ) from error
    if content[4:8] != b"TFL3":
        raise BenchError(f"{path} is not a .tflite file (no TFL3 mark).")
    try:
        model = fb.ModelT.InitFromPackedBuf(content, 0)
        graph = model.subgraphs[0]
        operators = list(graph.operators or ())
        found = [(_kind(model.operatorCodes[o.opcodeIndex]), o) for o in operators]
        for kind, _ in found:
            _check_kind(kind, path)
        return tuple(_operator(model, graph, kind, o, path) for kind, o in found)
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{path} is a damaged .tflite file ({error}); make or copy it again."
        ) from error


def _kind(code: Any) -> str:
    # Old writers put the code into a byte, newer ones into the wider field as well.
    return _KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _check_kind(kind: str, path: Path) -> None:
    if kind in ("CUSTOM", "DELEGATE"):
        raise BenchError(
            f"{path} contains a {kind} operator: what it does cannot be told from the"
            " file, so its latency cannot be predicted. Measure it (`mess profile`)."
        )
    if kind in CONTROL_FLOW:
        raise BenchError(
            f"{path} contains {kind}: how much of it runs depends on its input. Predict"
            " its pieces instead, or measure it (`mess profile`)."
        )


def _operator(model: Any, graph: Any, kind: str, operator: Any, path: Path) -> Operator:
    inputs = [graph.tensors[i] for i in _ids(operator.inputs) if i >= 0]
    outputs = [graph.tensors[i] for i in _ids(operator.outputs) if i >= 0]
    constant = [_is_constant(model, tensor) for tensor in inputs]
    values = [t for t, c in zip(inputs, constant, strict=True) if not c]
    weights = [t for t, c in zip(inputs, constant, strict=True) if c]
    for tensor in (*values, *outputs):
        if any(size < 1 for size in _shape(tensor)):
            raise BenchError(
                f"{path}: tensor {_text(tensor.name)} has the open shape"
                f" {_shape(tensor)}; a latency needs fixed shapes."
            )
    out = _shape(outputs[0]) if outputs else ()
    first = _shape(values[0]) if values else ()
    kernel, macs = _kernel_and_macs(kind, inputs, out, path)
    options = operator.builtinOptions
    return Operator(
        kind=kind,
        precision=_type(outputs[0]) if outputs else "",
        weights=_type(weights[0]) if weights else "",
        cells=math.prod(out[1:-1]),
        channels_in=first[-1] if first else 1,
        channels_out=out[-1] if out else 1,
        kernel=kernel,
        stride=max(getattr(options, "strideH", 1), getattr(options, "strideW", 1)),
        dilation=max(
            getattr(options, "dilationHFactor", 1),
            getattr(options, "dilationWFactor", 1),
        ),
        macs=macs,
        read_bytes=sum(map(_bytes, values)),
        weight_bytes=sum(map(_bytes, weights)),
        written_bytes=sum(map(_bytes, outputs)),
    )


def _kernel_and_macs(
    kind: str, inputs: list[Any], out: tuple[int, ...], path: Path
) -> tuple[int, int]:
    """Positions of the kernel, and products summed; 0 where an operator has none."""
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        _, height, width, channels = _shape(inputs[1])
        kernel = height * width
        # A convolution's filter is (out, h, w, in), a depthwise one's (1, h, w, out).
        per_output = kernel * (channels if kind == "CONV_2D" else 1)
        return kernel, math.prod(out) * per_output
    if kind == "TRANSPOSE_CONV":
        channels, height, width, _ = _shape(inputs[1])
        return height * width, math.prod(_shape(inputs[2])) * channels * height * width
    if kind == "FULLY_CONNECTED":
        return 1, math.prod(out) * _shape(inputs[1])[-1]
    if kind == "BATCH_MATMUL":
        return 1, math.prod(out) * _shape(inputs[0])[-1]
    if kind == "CONV_3D":
        raise BenchError(
            f"{path} contains {kind}, whose work is not counted here; measure it"
            " (`mess profile`)."
        )
    return 1, 0


def _ids(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(_ids(tensor.shape))


def _type(tensor: Any) -> str:
    return _TYPES[tensor.type]


def _text(name: Any) -> str:
    return name.decode("utf-8", "backslashreplace") if name else "(unnamed)"


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _bytes(tensor: Any) -> int:
    bits = _BITS.get(_type(tensor), 32)
    return -(-int(np.prod(_shape(tensor), dtype=np.int64)) * bits // 8)
