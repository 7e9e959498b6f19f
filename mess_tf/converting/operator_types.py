"""Types of a graph's operators, and a check of what a precision promises.

Names promise little: a file called int8 may hold float operators, and one with float16
weights computes in float32. So every operator is looked at: what it reads and writes,
and in which type its weights lie in the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import PieceKind
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.flatbuffer.macs import WEIGHTED
from mess_tf.flatbuffer.reader import Graph

# The converter leaves smaller ones in float32: they would gain nothing.
LEAST_DYNAMIC_WEIGHTS = 1024

_WEIGHTS = {
    "float32": "float32",
    "float16": "float16",
    "dynamic": "int8",
    "int8": "int8",
    "int8-qat": "int8",
}


@dataclass(frozen=True)
class OperatorTypes:
    """Types that one operator reads, holds and writes.

    Attributes:
        operator: its name.
        reads, writes: types of computed tensors, in order.
        weights: types of constants as the file holds them, in order.
        elements: of the first constant, 0 without any.
        tensor: name of the first tensor it writes.
    """

    operator: str
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    writes: tuple[str, ...]
    elements: int
    tensor: str

    def __str__(self) -> str:
        """E.g. ``int8 x int8, int32 -> int8``."""
        weights = f" x {', '.join(self.weights)}" if self.weights else ""
        return f"{', '.join(self.reads)}{weights} -> {', '.join(self.writes)}"


def operator_types(graph: Graph) -> Iterator[OperatorTypes]:
    """Types of every operator; unpacking of float16 belongs to who reads it."""
    for index in range(len(graph.operators)):
        if graph.dequantises_constant(index):
            continue
        name = graph.operator_name(index)
        read = [tensor for tensor in graph.reads(index) if tensor >= 0]
        if name == "TRANSPOSE_CONV":
            read = read[1:]  # the first is the output's shape
        sources = [(tensor, graph.constant_source(tensor)) for tensor in read]
        stored = [constant for _, constant in sources if constant is not None]
        yield OperatorTypes(
            operator=name,
            reads=tuple(graph.info(t).dtype for t, c in sources if c is None),
            weights=tuple(graph.info(constant).dtype for constant in stored),
            writes=tuple(graph.info(t).dtype for t in graph.writes(index)),
            elements=math.prod(graph.shape(stored[0])) if stored else 0,
            tensor=graph.name(graph.writes(index)[0]),
        )


def type_table(graph: Graph) -> Counter[tuple[str, str]]:
    """How often each operator occurs with which types."""
    return Counter((row.operator, str(row)) for row in operator_types(graph))


def check_types(graph: Graph, name: str, kind: PieceKind, precision: Precision) -> None:
    """Checks that a piece is what its precision says, operator by operator.

    ``float32``, ``float16``, ``dynamic``: all values between operators are float (or
    counts and truth values); weights of convolutions are of the promised type, but
    ``dynamic`` leaves those of fewer than 1,024 elements in float32. ``int8``: nothing
    is float, convolutions have int8 weights and int32 biases; decisions, which start by
    dequantising, and probes, which hold one, are exempt.

    Raises:
        MessError: names the first tensor or operator that is otherwise.
    """
    integers = has_int8_activations(precision)
    if integers and kind in ("decision", "probe"):
        return
    for tensor in sorted(set(graph.producer) | set(graph.inputs)):
        dtype = graph.info(tensor).dtype
        wrong = dtype.startswith("float") if integers else dtype in ("int8", "uint8")
        if wrong:
            raise MessError(
                f"{precision} piece {name} has the {dtype.rstrip('0123456789')} tensor"
                f" {graph.name(tensor)!r}."
            )
    if kind == "decision":
        return
    for row in operator_types(graph):
        if row.operator in WEIGHTED:
            _check_weights(row, name, precision)


def _check_weights(row: OperatorTypes, name: str, precision: Precision) -> None:
    wanted = _WEIGHTS[precision]
    if precision == "dynamic" and row.elements < LEAST_DYNAMIC_WEIGHTS:
        wanted = "float32"
    if not row.weights or row.weights[0] != wanted:
        raise MessError(
            f"{precision} piece {name} has {row.operator} {row.tensor!r} of types"
            f" {row}; its weights should be {wanted}."
        )
    if has_int8_activations(precision) and row.weights[1:] not in ((), ("int32",)):
        raise MessError(
            f"{precision} piece {name} has {row.operator} {row.tensor!r} of types"
            f" {row}; its bias should be int32."
        )
