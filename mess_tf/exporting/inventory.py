"""Operators and tensor types of exported files; float operators with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mess_tf.converting.decision_graphs import DECISION
from mess_tf.converting.operator_types import (
    LEAST_DYNAMIC_WEIGHTS,
    OperatorTypes,
    operator_types,
)
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.flatbuffer.reader import Graph, read_file

# Inside a decision the logits are dequantised first: an int8 softmax has steps of
# 1/256, so a threshold of 0.999 could never be met.
DECISION_REASON = (
    "the exit decision: softmax and comparison of a small map of logits, in float"
    " because an int8 softmax only knows multiples of 1/256"
)
_INPUT_REASON = "the image comes in as float32, as asked for"
_OUTPUT_REASON = "the logits leave as float32, as asked for"
_HANDED_ON = "hands the thresholds, an input, on to the branch that compares them"
_PRECISION_REASON = {
    "float32": "float32 was asked for",
    "float16": "only weights are float16; the values between operators are float32",
    "dynamic": "only weights are int8; the values between operators are float32",
}
_SMALL_REASON = (
    f"fewer than {LEAST_DYNAMIC_WEIGHTS:,} weights: the converter leaves them in"
    " float32, values too"
)
_UNKNOWN_REASON = "no reason known: this should be int8"


def inventory(paths: Path | Sequence[Path]) -> dict[str, Any]:
    """Operators and tensor types of all subgraphs.

    Args:
        paths: one file, or the files of one export.

    Returns:
        ``operators``: count by name. ``tensors``: count of activations by dtype.
        ``weights``: bytes of constants by dtype. ``float_operators``: count by name of
        operators that read or write a float activation. ``types``: per operator, how
        often it occurs with which types, as ``values x constants -> values``.

    Raises:
        MessError: a file is missing, broken or no ``.tflite``.
    """
    operators: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    in_float: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    types: dict[str, Counter[str]] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        stored: dict[int, tuple[str, int]] = {}
        for graph in _graphs(path):
            for tensor in range(len(graph.tensors)):
                value, dtype = graph.constant(tensor), graph.info(tensor).dtype
                if value is not None:
                    # By buffer: constants that subgraphs share are stored once.
                    stored[graph.tensors[tensor].buffer] = (dtype, value.nbytes)
                elif graph.constant_source(tensor) is None:
                    tensors[dtype] += 1
            for row in operator_types(graph):
                operators[row.operator] += 1
                in_float[row.operator] += _is_float(row)
                types.setdefault(row.operator, Counter())[str(row)] += 1
        for dtype, size in stored.values():
            weights[dtype] += size
    return {
        "operators": dict(operators.most_common()),
        "tensors": dict(tensors),
        "weights": dict(weights),
        "float_operators": dict((+in_float).most_common()),
        "types": {name: dict(counts) for name, counts in types.items()},
    }


def float_operators(
    paths: Path | Sequence[Path], precision: Precision
) -> list[dict[str, Any]]:
    """Operators that work on float values, counted, with the reason.

    Args:
        paths: as above.
        precision: of the pieces that the files were made of.

    Returns:
        Rows with ``operator``, ``count`` and ``reason``.
    """
    found: Counter[tuple[str, str]] = Counter()
    for path in [paths] if isinstance(paths, Path) else paths:
        for graph in _graphs(path):
            for row in operator_types(graph):
                if _is_float(row):
                    found[row.operator, _reason(row, precision)] += 1
    return [
        {"operator": operator, "count": count, "reason": reason}
        for (operator, reason), count in found.most_common()
    ]


def _graphs(path: Path) -> Iterator[Graph]:
    model = read_file(path)
    for index in range(len(model.subgraphs)):
        yield Graph(model, index)


def _is_float(row: OperatorTypes) -> bool:
    return any(dtype.startswith("float") for dtype in (*row.reads, *row.writes))


def _reason(row: OperatorTypes, precision: Precision) -> str:
    if row.tensor.startswith(DECISION) or row.tensor == "confidence":
        return DECISION_REASON
    if not has_int8_activations(precision):
        small = precision == "dynamic" and row.weights and row.weights[0] == "float32"
        return _SMALL_REASON if small else _PRECISION_REASON[precision]
    if row.operator == "IF":
        return _HANDED_ON
    if row.tensor.startswith("input_"):
        return _INPUT_REASON
    if row.operator == "DEQUANTIZE" and row.tensor == "logits":
        return _OUTPUT_REASON
    return _UNKNOWN_REASON
