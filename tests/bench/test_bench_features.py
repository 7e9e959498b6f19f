"""Features of operators, against their definitions, and files that have none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb

from android_bench.errors import BenchError
from android_bench.latency_model.features import Operator, operators_of
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.macs import count_macs
from mess_tf.flatbuffer.reader import Graph, read_file, read_model
from mess_tf.flatbuffer.writer import write_model

Shape = tuple[int, ...]


def one_operator(
    path: Path,
    kind: str,
    reads: Sequence[tuple[Shape, str, bool]],
    out: Shape,
    options: tuple[int, object] = (0, None),
) -> Operator:
    """Writes a file of one operator and returns its features.

    Args:
        path: to write.
        kind: name of the builtin operator.
        reads: per input its shape, its type and whether it is constant.
        out: shape of the output, of the type of the first computed input.
        options: the schema's type of the options, and the options.
    """
    builder = ModelBuilder()
    graph = builder.add_graph("main")
    ids = [
        graph.add_tensor(
            f"in_{i}", shape, dtype, value=np.ones(shape, dtype) if constant else None
        )
        for i, (shape, dtype, constant) in enumerate(reads)
    ]
    graph.inputs = [
        t for t, (*_, constant) in zip(ids, reads, strict=True) if not constant
    ]
    dtype = next(dtype for _, dtype, constant in reads if not constant)
    output = graph.add_tensor("out", out, dtype)
    graph.outputs = [output]
    graph.add_operator(getattr(fb.BuiltinOperator, kind), 1, ids, [output], *options)
    path.write_bytes(builder.finish())
    (operator,) = operators_of(path)
    return operator


def test_a_convolution(tmp_path: Path) -> None:
    options = fb.Conv2DOptionsT(
        strideH=2, strideW=1, dilationHFactor=1, dilationWFactor=3
    )
    operator = one_operator(
        tmp_path / "m.tflite",
        "CONV_2D",
        [
            ((1, 10, 12, 8), "int8", False),
            ((16, 3, 5, 8), "int8", True),
            ((16,), "int32", True),
        ],
        (1, 5, 12, 16),
        (fb.BuiltinOptions.Conv2DOptions, options),
    )
    assert operator == Operator(
        kind="CONV_2D",
        precision="int8",
        weights="int8",
        cells=5 * 12,
        channels_in=8,
        channels_out=16,
        kernel=15,
        stride=2,
        dilation=3,
        macs=5 * 12 * 16 * 15 * 8,
        read_bytes=10 * 12 * 8,
        weight_bytes=16 * 15 * 8 + 16 * 4,
        written_bytes=5 * 12 * 16,
    )


@pytest.mark.parametrize(
    ("kind", "reads", "out", "macs", "kernel"),
    [
        (
            "DEPTHWISE_CONV_2D",
            [((1, 6, 6, 4), "float32", False), ((1, 3, 3, 4), "float32", True)],
            (1, 6, 6, 4),
            6 * 6 * 4 * 9,
            9,
        ),
        (
            "TRANSPOSE_CONV",
            [
                ((4,), "int32", True),
                ((5, 3, 3, 2), "float32", True),
                ((1, 4, 4, 2), "float32", False),
            ],
            (1, 8, 8, 5),
            4 * 4 * 2 * 9 * 5,
            9,
        ),
        (
            "FULLY_CONNECTED",
            [((1, 20), "float32", False), ((7, 20), "float32", True)],
            (1, 7),
            7 * 20,
            1,
        ),
        (
            "BATCH_MATMUL",
            [((2, 3, 4), "float32", False), ((2, 4, 5), "float32", False)],
            (2, 3, 5),
            2 * 3 * 5 * 4,
            1,
        ),
        ("RELU", [((1, 4, 4, 3), "float32", False)], (1, 4, 4, 3), 0, 1),
    ],
)
def test_multiply_accumulates(
    tmp_path: Path,
    kind: str,
    reads: Sequence[tuple[Shape, str, bool]],
    out: Shape,
    macs: int,
    kernel: int,
) -> None:
    path = tmp_path / "m.tflite"
    operator = one_operator(path, kind, reads, out)
    assert (operator.kind, operator.macs, operator.kernel) == (kind, macs, kernel)
    # What a piece or a card counts is the same, without products of computed tensors.
    counted = count_macs(Graph(read_file(path)))
    assert counted == (0 if kind == "BATCH_MATMUL" else macs)


def test_a_custom_operator_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    one_operator(path, "RELU", [((1, 4), "float32", False)], (1, 4))
    model = read_model(path.read_bytes(), path)
    (code,) = model.operatorCodes
    code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.CUSTOM
    code.customCode = b"MyOperator"
    path.write_bytes(write_model(model))
    with pytest.raises(BenchError, match="custom operator MyOperator"):
        operators_of(path)


@pytest.mark.parametrize("kind", ["IF", "WHILE", "CONV_3D"])
def test_work_that_the_file_does_not_tell_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BenchError, match=rf"contains {kind}.*mess profile"):
        reads = [((1, 4), "float32", False)]
        one_operator(tmp_path / "m.tflite", kind, reads, (1, 4))


def test_an_open_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"out has the open shape \(1, -1\)"):
        one_operator(
            tmp_path / "m.tflite", "RELU", [((1, 4), "float32", False)], (1, -1)
        )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"none\.tflite cannot be read"):
        operators_of(tmp_path / "none.tflite")
