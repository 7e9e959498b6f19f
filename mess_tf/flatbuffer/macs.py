"""Multiply-accumulates of a graph, counted from its operators."""

from __future__ import annotations

import math

from mess_tf.flatbuffer.schema import Graph

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
"""Operators that multiply by weights."""


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of a graph's convolutions and fully connected layers."""
    return sum(_operator_macs(graph, index) for index in range(len(graph.operators)))


def _operator_macs(graph: Graph, index: int) -> int:
    name = graph.operator_name(index)
    if name not in WEIGHTED:
        return 0
    weights = graph.shape(graph.reads(index)[1])
    output = math.prod(graph.shape(graph.writes(index)[0]))
    if name == "DEPTHWISE_CONV_2D":  # weights (1, kh, kw, out)
        return output * weights[1] * weights[2]
    if name == "TRANSPOSE_CONV":  # weights (out, kh, kw, in), applied per input cell
        values = math.prod(graph.shape(graph.reads(index)[2]))
        return values * weights[0] * weights[1] * weights[2]
    return output * math.prod(weights[1:])  # (out, kh, kw, in) or (out, in)
