from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mess_tf.converting.operator_types import check_types, operator_types, type_table
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import CONVERTED, Precision
from mess_tf.flatbuffer.reader import Graph, read_file

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]

CONVOLUTION = {
    "float32": {"float32 x float32, float32 -> float32"},
    "float16": {"float32 x float16, float16 -> float32"},
    "dynamic": {
        "float32 x int8, float32 -> float32",
        "float32 x float32, float32 -> float32",
    },
    "int8": {"int8 x int8, int32 -> int8"},
}


def _graphs(compiled: Compiled) -> dict[str, Graph]:
    return {
        piece.name: Graph(read_file(compiled.pieces.path(piece.name)))
        for piece in compiled.pieces.pieces
        if piece.kind in ("segment", "head")
    }


def test_every_convolution_has_the_types_of_its_precision(compiled: Compiled) -> None:
    found = set()
    for graph in _graphs(compiled).values():
        for (operator, types), count in type_table(graph).items():
            if operator in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                assert count > 0
                found.add(types.replace("float32 x int8 ->", "float32 x int8,"))
    # A projection without a bias is the same with one constant less.
    whole = {types for types in found if "," in types}
    assert whole == CONVOLUTION[compiled.precision]


def test_values_between_operators_are_float_unless_the_precision_is_int8(
    compiled: Compiled,
) -> None:
    for graph in _graphs(compiled).values():
        for row in operator_types(graph):
            expected = "int8" if compiled.precision == "int8" else "float32"
            assert {*row.reads, *row.writes} == {expected}, row


@pytest.mark.slow
def test_dynamic_leaves_small_kernels_in_float(compile_at: CompileAt) -> None:
    sizes: dict[str, list[int]] = {"int8": [], "float32": []}
    for graph in _graphs(compile_at("dynamic")).values():
        for index in range(len(graph.operators)):
            if graph.operator_name(index) in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                kernel = graph.reads(index)[1]
                sizes[graph.info(kernel).dtype].append(math.prod(graph.shape(kernel)))
    assert max(sizes["float32"]) < 1024 <= min(sizes["int8"])


def test_int8_kernels_have_a_scale_per_channel(compile_at: CompileAt) -> None:
    for precision in ("int8", "dynamic"):
        for graph in _graphs(compile_at(precision)).values():
            for index in range(len(graph.operators)):
                name = graph.operator_name(index)
                if name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                    continue
                kernel = graph.reads(index)[1]
                if graph.info(kernel).dtype != "int8":
                    continue
                axis = 0 if name == "CONV_2D" else 3
                scales = graph.tensors[kernel].quantization.scale
                assert len(scales) == graph.shape(kernel)[axis]


def test_a_piece_of_one_precision_is_refused_as_another(compile_at: CompileAt) -> None:
    for made in CONVERTED:
        graph = Graph(read_file(compile_at(made).pieces.path("segment_4")))
        for asked in CONVERTED:
            if asked == made:
                check_types(graph, "segment_4", "segment", asked)
                continue
            with pytest.raises(MessError, match=f"^{asked} piece segment_4 has"):
                check_types(graph, "segment_4", "segment", asked)


def test_float16_weights_take_half_the_room(compile_at: CompileAt) -> None:
    size = {
        precision: compile_at(precision).pieces["segment_4"].size_bytes
        for precision in CONVERTED
    }
    assert size["float16"] < 0.65 * size["float32"]
    assert size["dynamic"] < 0.5 * size["float32"]
    assert size["int8"] < 0.5 * size["float32"]
