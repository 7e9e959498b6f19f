"""The int8 file computes, operator by operator, what training under rounding saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from mess_tf.core.errors import MessError
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.quantising.fake_quantisation import FakeQuantised
from mess_tf.quantising.int8_conversion import convert_quantised, run_operator
from mess_tf.quantising.int8_graph import Int8Graph, build_int8_graph
from mess_tf.quantising.keras2 import tf_keras
from mess_tf.runtime.interpreter import LiteRTFile, dequantise
from mess_tf.runtime.interpreter import quantise as to_int8
from tests.support.quantised_networks import NETWORKS, images, network, quantised
from tests.support.tiers import sampled

# What LiteRT runs in int8 for these networks; nothing else may be in the file.
ACCEPTED = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "MAX_POOL_2D",
    "MEAN",
    "PAD",
    "QUANTIZE",
    "RELU",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "STRIDED_SLICE",
    "TRANSPOSE_CONV",
}
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


@dataclass(frozen=True, eq=False)
class Case:
    """A network under fake quantisation; its int8 file gives all values as outputs."""

    model: FakeQuantised
    size: tuple[int, int]
    graph: Int8Graph
    names: list[str]
    content: bytes


@pytest.fixture(scope="module", params=sampled(reversed(NETWORKS), 1))
def case(request: pytest.FixtureRequest) -> Case:
    keras_model, size = network(request.param)
    model = quantised(keras_model, size)
    graph = build_int8_graph(model.mirror.trained())
    names = [o.name for o in graph.operators if o.node.kind != "input"]
    layer_of = {node: layer for layer, node in graph.network.value_of.items()}
    outputs = {f"{name}_value": layer_of.get(name, name) for name in names}
    known = {k: v for k, v in outputs.items() if v in graph.network.value_of}
    content = convert_quantised(model, size, known)
    names = [name for name in names if f"{name}_value" in known]
    return Case(model, size, graph, names, content)


def test_everything_is_int8_and_nothing_is_left_beside_its_convolution(
    case: Case,
) -> None:
    graph = Graph(read_model(case.content, "the file"))
    operators = Counter(graph.operator_name(i) for i in range(len(graph.operators)))
    assert set(operators) <= ACCEPTED
    for index in range(len(graph.operators)):
        name = graph.operator_name(index)
        assert [graph.info(t).dtype for t in graph.writes(index)] == ["int8"], name
        if name in CONVOLUTIONS:
            assert graph.info(graph.reads(index)[1]).dtype == "int8"
    kinds_of = Counter(operator.node.kind for operator in case.graph.operators)
    assert operators["CONV_2D"] == kinds_of["conv"]
    assert operators["DEPTHWISE_CONV_2D"] == kinds_of["depthwise"] + kinds_of["norm"]
    assert operators["TRANSPOSE_CONV"] == kinds_of["transposed"]
    assert operators["ADD"] == kinds_of["add"]


def test_dilation_is_inside_the_convolutions(case: Case) -> None:
    graph = Graph(read_model(case.content, "the file"))
    found = Counter(
        (options.dilationHFactor, options.dilationWFactor)
        for index in range(len(graph.operators))
        if graph.operator_name(index) in ("CONV_2D", "DEPTHWISE_CONV_2D")
        for options in [graph.operators[index].builtinOptions]
    )
    expected = Counter(
        operator.node.settings.get("dilations", (1, 1))
        for operator in case.graph.operators
        if operator.node.kind in ("conv", "depthwise", "norm")
    )
    assert found == expected
    assert any(dilation != (1, 1) for dilation in found)


def test_every_channel_of_every_kernel_has_its_own_scale(case: Case) -> None:
    graph = Graph(read_model(case.content, "the file"))
    for index in range(len(graph.operators)):
        name = graph.operator_name(index)
        if name not in CONVOLUTIONS:
            continue
        kernel = graph.reads(index)[1]
        channels = graph.shape(graph.writes(index)[0])[3]
        scales = graph.tensors[kernel].quantization.scale
        assert len(scales) == channels, graph.name(graph.writes(index)[0])


def test_every_operator_gives_what_training_saw_within_one_step(case: Case) -> None:
    """Each is compared on the file's own inputs to it, so that nothing adds up."""
    file = LiteRTFile(case.content)
    info = file.inputs["image"][1]
    ranges = case.model.ranges_now()
    image = case.graph.operators[0].name
    for picture in images(2, 8, case.size):
        raw = {"image": to_int8(picture[None], info)}
        values = {image: dequantise(raw["image"], info)}
        result = file.run(raw)
        for name in case.names:
            values[name] = dequantise(
                result[f"{name}_value"], file.outputs[f"{name}_value"][1]
            )
        for operator in case.graph.operators[1:]:
            if operator.name not in values or not set(operator.inputs) <= set(values):
                continue
            given = [tf.constant(values[name]) for name in operator.inputs]
            expected = run_operator(operator, ranges, given).numpy()
            low, high = ranges[operator.name]
            error = np.abs(values[operator.name] - expected) * 255 / (high - low)
            assert error.max() < 1.01, operator.name
            # A mean of few integers often lies between two, where kernels differ.
            ties = operator.node.kind in ("pool_average", "upsample")
            few = 1.0 / min(error.size, 100)
            assert error.mean() < (0.3 if ties else 0.03) + few, operator.name


def test_the_graph_that_is_converted_is_the_one_that_was_trained(case: Case) -> None:
    """Each operator is compared on the trained network's values: a tie broken otherwise
    does not spread."""
    batch = images(1, 8, case.size)
    trained, ranges = trained_values(case, batch), case.model.ranges_now()
    values: dict[str, tf.Tensor] = {}
    for operator in case.graph.operators:
        given = [values[name] for name in operator.inputs] or [trained[operator.name]]
        expected = run_operator(operator, ranges, given)
        values[operator.name] = trained.get(operator.name, expected)
        low, high = ranges[operator.name]
        error = np.abs(values[operator.name] - expected) * 255 / (high - low)
        assert error.max() < 1.01, operator.name
        assert error.mean() < 0.002, operator.name


def trained_values(case: Case, batch: np.ndarray) -> dict[str, tf.Tensor]:
    """What the fake-quantised network computes of every operator that is rounded."""
    layers = {layer.name: layer for layer in case.model.model.layers}
    names = [operator.name for operator in case.graph.operators if operator.rounded]
    image = case.graph.operators[0].name
    outputs = []
    for name in names:
        wrapped = f"quant_{name}_values" if name == image else f"quant_{name}"
        outputs.append(layers.get(wrapped, layers.get(name)).output)
    inner = tf_keras.Model(case.model.model.input, outputs)
    return dict(zip(names, inner(batch, training=False), strict=True))


def test_one_tensor_twice_is_refused() -> None:
    model, size = network("adopted")
    with pytest.raises(MessError, match="one and the same tensor"):
        convert_quantised(quantised(model), size, {"a": "crop", "b": "nothing"})
