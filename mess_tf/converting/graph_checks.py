"""Checks of a finished piece: its operators, its types, and a run in LiteRT."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mess_tf.converting.operator_types import check_types
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import PieceKind, TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.runtime.interpreter import open_interpreter

FORBIDDEN = ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def check_operators(
    graph: Graph, name: str, kind: PieceKind, precision: Precision
) -> None:
    """Checks the operators of a piece before it is ever run.

    Raises:
        MessError: a custom operator, SPACE_TO_BATCH_ND, batch normalisation left beside
            its convolution, or a type that the precision does not promise.
    """
    for index in range(len(graph.operators)):
        operator = graph.operator_name(index)
        code = graph.model.operatorCodes[graph.operators[index].opcodeIndex]
        if code.customCode:
            raise MessError(f"Piece {name} has the custom operator {operator}.")
        if operator in FORBIDDEN:
            raise MessError(
                f"Piece {name} has {operator}: a dilated convolution was not converted"
                " natively."
            )
        if operator == "MUL" and _is_unfolded_normalisation(graph, index):
            raise MessError(
                f"Piece {name} multiplies a convolution's output by constants: its"
                " batch normalisation was not folded."
            )
    check_types(graph, name, kind, precision)


def _is_unfolded_normalisation(graph: Graph, index: int) -> bool:
    reads = graph.reads(index)
    constants = [t for t in map(graph.constant_source, reads) if t is not None]
    # One factor for all channels (of a hard sigmoid, say) is no normalisation.
    if all(math.prod(graph.shape(tensor)) == 1 for tensor in constants):
        return False
    makers = [graph.producer[tensor] for tensor in reads if tensor in graph.producer]
    return any(graph.operator_name(maker) in _CONVOLUTIONS for maker in makers)


def check_piece(path: Path, name: str, kind: PieceKind, precision: Precision) -> Graph:
    """Checks one file's operators, then that LiteRT runs it as the file promises.

    Returns:
        The parsed graph.

    Raises:
        MessError: in one line, what does not hold.
    """
    graph = Graph(read_file(path))
    check_operators(graph, name, kind, precision)
    interpreter = open_interpreter(path)
    promised_in = [graph.info(tensor) for tensor in graph.inputs]
    promised_out = [graph.info(tensor) for tensor in graph.outputs]
    _check_io(name, promised_in, interpreter.get_input_details())
    _check_io(name, promised_out, interpreter.get_output_details())
    rng = np.random.default_rng(0)
    for info, detail in zip(promised_in, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(detail["index"], _random(info, rng))
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        if not np.isfinite(interpreter.get_tensor(detail["index"])).all():
            raise MessError(
                f"Piece {name} gives values that are not finite in {detail['name']!r};"
                " check the trained weights."
            )
    return graph


def _random(info: TensorInfo, rng: np.random.Generator) -> np.ndarray:
    if info.dtype == "int8":
        return rng.integers(-128, 128, info.shape, dtype=np.int8)
    return rng.normal(size=info.shape).astype(info.dtype)


def _check_io(name: str, promised: list[TensorInfo], details: list[Any]) -> None:
    for info, detail in zip(promised, details, strict=True):
        scale, zero_point = detail["quantization"]
        got = (
            detail["name"],
            tuple(int(n) for n in detail["shape"]),
            np.dtype(detail["dtype"]).name,
        )
        if got != (info.name, info.shape, info.dtype) or not math.isclose(
            scale, info.scale, rel_tol=1e-6
        ):
            raise MessError(f"Piece {name} promises {info} and LiteRT finds {detail}.")
        if info.scale and zero_point != info.zero_point:
            raise MessError(f"Piece {name} promises {info} and LiteRT finds {detail}.")
