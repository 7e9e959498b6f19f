"""Features of a ``.tflite`` file's operators, from which latencies are predicted.

Everything is counted from the flatbuffer: kinds, shapes, multiply-accumulates, bytes
moved, kernel, stride, dilation, precision. Nothing is run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from android_bench.errors import BenchError
from mess_tf.core.errors import MessError
from mess_tf.flatbuffer.macs import kernel_area, operator_macs
from mess_tf.flatbuffer.reader import Graph, read_model

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
    try:
        graph = Graph(read_model(content, path))
        indices = range(len(graph.operators))
        for index in indices:
            _check_operator(graph, index, path)
        return tuple(_operator(graph, index, path) for index in indices)
    except MessError as error:
        raise BenchError(str(error)) from error
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise BenchError(
            f"{path} is a damaged .tflite file ({error}); make or copy it again."
        ) from error


def _check_operator(graph: Graph, index: int, path: Path) -> None:
    """Raises BenchError for an operator whose work the file does not tell."""
    name = graph.operator_name(index)
    if not graph.is_builtin(index):
        raise BenchError(
            f"{path} contains the custom operator {name}: what it does is not known"
            " from the file, so its latency cannot be predicted. Measure it (`mess"
            " profile`)."
        )
    if name in CONTROL_FLOW:
        raise BenchError(
            f"{path} contains {name}: how much of it runs depends on its input. Predict"
            " its pieces instead, or measure it (`mess profile`)."
        )
    if name == "CONV_3D":
        raise BenchError(
            f"{path} contains {name}, whose work is not counted here; measure it"
            " (`mess profile`)."
        )


def _operator(graph: Graph, index: int, path: Path) -> Operator:
    read = [tensor for tensor in graph.reads(index) if tensor >= 0]
    values = [tensor for tensor in read if not graph.is_constant(tensor)]
    weights = [tensor for tensor in read if graph.is_constant(tensor)]
    outputs = [tensor for tensor in graph.writes(index) if tensor >= 0]
    for tensor in (*values, *outputs):
        if any(size < 1 for size in graph.shape(tensor)):
            raise BenchError(
                f"{path}: tensor {graph.name(tensor) or '(unnamed)'} has the open shape"
                f" {graph.shape(tensor)}; a latency needs fixed shapes."
            )
    out = graph.shape(outputs[0]) if outputs else ()
    first = graph.shape(values[0]) if values else ()
    options = graph.operators[index].builtinOptions
    return Operator(
        kind=graph.operator_name(index),
        precision=graph.type_name(outputs[0]) if outputs else "",
        weights=graph.type_name(weights[0]) if weights else "",
        cells=math.prod(out[1:-1]),
        channels_in=first[-1] if first else 1,
        channels_out=out[-1] if out else 1,
        kernel=kernel_area(graph, index),
        stride=max(getattr(options, "strideH", 1), getattr(options, "strideW", 1)),
        dilation=max(
            getattr(options, "dilationHFactor", 1),
            getattr(options, "dilationWFactor", 1),
        ),
        macs=operator_macs(graph, index),
        read_bytes=sum(_bytes(graph, tensor) for tensor in values),
        weight_bytes=sum(_bytes(graph, tensor) for tensor in weights),
        written_bytes=sum(_bytes(graph, tensor) for tensor in outputs),
    )


def _bytes(graph: Graph, tensor: int) -> int:
    """Bytes of a tensor's values; sub-byte types are packed."""
    bits = _BITS.get(graph.type_name(tensor), 32)
    return -(-math.prod(graph.shape(tensor)) * bits // 8)
