"""What a finished ``.tflite`` is made of: true types, what stayed in float, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mess_tf.compile.schema import Graph, read_file

# Inside a decision the logits are dequantised first: an int8 softmax has steps of
# 1/256, so a threshold of 0.999 could never be met.
DECISION_REASON = (
    "the exit decision: softmax and comparison of a small map of logits, in float"
    " because an int8 softmax only knows multiples of 1/256"
)


def inventory(path: Path) -> dict[str, Any]:
    """Operators and tensor types of all subgraphs.

    Returns:
        ``operators``: count by name. ``tensors``: count of activations by dtype.
        ``weights``: bytes of constants by dtype. ``float_operators``: count by name of
        operators that read or write a float activation.

    Raises:
        MessError: the file is missing, broken or no ``.tflite``.
    """
    model = read_file(path)
    operators: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    in_float: Counter[str] = Counter()
    weights: dict[int, tuple[str, int]] = {}
    for index in range(len(model.subgraphs)):
        graph = Graph(model, index)
        for tensor in range(len(graph.tensors)):
            value, dtype = graph.constant(tensor), graph.info(tensor).dtype
            if value is None:
                tensors[dtype] += 1
            else:
                # By buffer: constants that several subgraphs share are stored once.
                weights[graph.tensors[tensor].buffer] = (dtype, value.nbytes)
        for operator in range(len(graph.operators)):
            name = graph.operator_name(operator)
            operators[name] += 1
            touched = [*graph.reads(operator), *graph.writes(operator)]
            if any(
                tensor >= 0
                and graph.constant(tensor) is None
                and graph.info(tensor).dtype.startswith("float")
                for tensor in touched
            ):
                in_float[name] += 1
    weight_bytes: Counter[str] = Counter()
    for dtype, size in weights.values():
        weight_bytes[dtype] += size
    return {
        "operators": dict(operators.most_common()),
        "tensors": dict(tensors),
        "weights": dict(weight_bytes),
        "float_operators": dict(in_float.most_common()),
    }
