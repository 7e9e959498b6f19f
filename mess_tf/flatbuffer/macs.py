"""Multiply-accumulates of a graph, counted from its operators."""

from __future__ import annotations

import math

from mess_tf.flatbuffer.reader import Graph

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
"""Operators that multiply by weights."""


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of a graph's convolutions and fully connected layers.

    Products of two computed tensors (BATCH_MATMUL) are left out.
    """
    return sum(
        operator_macs(graph, index)
        for index in range(len(graph.operators))
        if graph.operator_name(index) in WEIGHTED
    )


def operator_macs(graph: Graph, index: int) -> int:
    """Multiply-accumulates of one operator; 0 for one that sums no products.

    Args:
        graph: of static shapes.
        index: of the operator.
    """
    name, reads = graph.operator_name(index), graph.reads(index)
    if name not in (*WEIGHTED, "BATCH_MATMUL"):
        return 0
    output = math.prod(graph.shape(graph.writes(index)[0]))
    if name == "BATCH_MATMUL":
        return output * graph.shape(reads[0])[-1]
    weights = graph.shape(reads[1])
    if name == "DEPTHWISE_CONV_2D":  # weights (1, kh, kw, out)
        return output * weights[1] * weights[2]
    if name == "TRANSPOSE_CONV":  # weights (out, kh, kw, in), applied per input cell
        return math.prod(graph.shape(reads[2])) * math.prod(weights[:3])
    return output * math.prod(weights[1:])  # (out, kh, kw, in) or (out, in)


def kernel_area(graph: Graph, index: int) -> int:
    """Height times width of a convolution's kernel; 1 for any other operator."""
    name = graph.operator_name(index)
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        return 1
    _, height, width, _ = graph.shape(graph.reads(index)[1])
    return height * width
