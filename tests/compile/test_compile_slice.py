from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from hypothesis import given, settings
from hypothesis import strategies as st

from mess_tf.compiling.slice import (
    cut_between,
    cut_in_sequence,
    snap_input_scales,
    write_cut,
)
from mess_tf.converting.calibrate import Calibration
from mess_tf.converting.convert import convert_model
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import TensorInfo
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.runtime.interpreter import LiteRTFile, dequantise, quantise

NAMES = ["segment_1", "segment_2", "segment_3"]
ENDS = ["exit_1", "exit_2", "exit_3"]


def _network() -> keras.Model:
    """Dilations, an inner tensor read two segments later, an image-pooling branch."""
    layers = keras.layers
    x = image = keras.Input((32, 48, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", name="stem")(x)
    inner = layers.ReLU(6.0, name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, name="dw")(inner)
    x = layers.BatchNormalization(name="dw_bn")(x)
    first = layers.ReLU(name="first")(x)
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=3, name="atrous")(first)
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    second = layers.Add(name="second")([x, pooled])
    x = layers.Concatenate(name="join")([second, inner])
    third = layers.Conv2D(6, 1, name="third")(x)
    return keras.Model(image, [first, second, third])


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(1, 32, 48, 3)).astype(np.float32) for _ in range(count)]


def _write(folder: Path, name: str, content: bytes) -> LiteRTFile:
    path = folder / f"{name}.tflite"
    path.write_bytes(content)
    return LiteRTFile(path)


def _chain(folder: Path, content: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    graph = Graph(read_model(content, "test"))
    tensors = {"image": image}
    for cut in cut_in_sequence(graph, NAMES, ENDS):
        tensors.update(_write(folder, cut.name, write_cut(graph, cut, {})).run(tensors))
    return tensors


def test_float_chain_equals_keras(tmp_path: Path) -> None:
    model = _network()
    image = _images(1)[0]
    chained = _chain(
        tmp_path, convert_model(model, ["image"], ENDS, "float32", None), image
    )
    for name, expected in zip(ENDS, model(image), strict=True):
        scale = np.abs(expected).max()
        assert np.abs(chained[name] - expected).max() <= 1e-5 * scale


def test_int8_chain_equals_the_whole_graph_bit_for_bit(tmp_path: Path) -> None:
    samples = Calibration([[image] for image in _images(8)])
    content = convert_model(_network(), ["image"], ENDS, "int8", samples)
    whole = _write(tmp_path, "whole", content)
    image = quantise(_images(1)[0], whole.inputs["image"][1])
    expected = whole.run({"image": image})
    chained = _chain(tmp_path, content, image)
    for name in ENDS:
        assert expected[name].dtype == np.int8
        spread = np.ptp(expected[name].astype(int))
        assert spread > 20, "a flat output would prove nothing"
        np.testing.assert_array_equal(chained[name], expected[name])


def test_dilations_stay_native_and_batch_norm_is_folded() -> None:
    content = convert_model(_network(), ["image"], ENDS, "float32", None)
    graph = Graph(read_model(content, "test"))
    names = [graph.operator_name(i) for i in range(len(graph.operators))]
    assert names.count("CONV_2D") == 3
    assert names.count("DEPTHWISE_CONV_2D") == 1
    assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "MUL"} & set(names)


def _add(graph: object, name: str, left: int, right: int) -> int:
    out = graph.add_tensor(name, (1, 4), "float32")  # type: ignore[attr-defined]
    graph.add_operator(  # type: ignore[attr-defined]
        fb.BuiltinOperator.ADD,
        1,
        [left, right],
        [out],
        fb.BuiltinOptions.AddOptions,
        fb.AddOptionsT(),
    )
    return out


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_pieces_of_random_graphs_chain_to_the_whole(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("random")
    count = data.draw(st.integers(3, 12))
    builder = ModelBuilder()
    graph = builder.add_graph("main")
    tensors = [graph.add_tensor("image", (1, 4), "float32")]
    values = [np.array([[1.0, 2.0, -3.0, 0.5]], np.float32)]
    for number in range(count):
        left = data.draw(st.integers(0, len(tensors) - 1))
        right = data.draw(st.integers(0, len(tensors) - 1))
        tensors.append(_add(graph, f"t{number}", tensors[left], tensors[right]))
        values.append(values[left] + values[right])
    ends = data.draw(
        st.lists(st.integers(1, count), min_size=1, max_size=4, unique=True).map(sorted)
    )
    graph.inputs = [tensors[0]]
    graph.outputs = [tensors[i] for i in ends]
    content = builder.finish()

    parsed = Graph(read_model(content, "test"))
    names = [f"p{i}" for i in ends]
    cuts = cut_in_sequence(parsed, names, [f"t{i - 1}" for i in ends])
    owned = [operator for cut in cuts for operator in cut.operators]
    assert len(owned) == len(set(owned))
    known = {"image": values[0]}
    for cut in cuts:
        if cut.operators:
            piece = _write(folder, cut.name, write_cut(parsed, cut, {}))
            known.update(piece.run(known))
    for i in ends:
        np.testing.assert_array_equal(known[f"t{i - 1}"], values[i])


def test_boundary_tensors_get_their_new_names() -> None:
    builder = ModelBuilder()
    graph = builder.add_graph("main")
    image = graph.add_tensor("image", (1, 4), "float32")
    inner = _add(graph, "inner", image, image)
    graph.inputs, graph.outputs = [image], [_add(graph, "end", inner, image)]
    parsed = Graph(read_model(builder.finish(), "test"))
    first, second = cut_in_sequence(parsed, ["a", "b"], ["inner", "end"])
    names = {parsed.tensor("inner"): "crossing", parsed.tensor("end"): "exit_2"}
    piece = Graph(read_model(write_cut(parsed, first, names), "a"))
    assert [piece.name(t) for t in piece.inputs] == ["image"]  # no new one: the old
    assert [piece.name(t) for t in piece.outputs] == ["crossing"]
    piece = Graph(read_model(write_cut(parsed, second, names), "b"))
    assert sorted(piece.name(t) for t in piece.inputs) == ["crossing", "image"]
    assert [piece.name(t) for t in piece.outputs] == ["exit_2"]


def test_a_missing_name_and_a_missing_input_are_said() -> None:
    content = convert_model(_network(), ["image"], ENDS, "float32", None)
    graph = Graph(read_model(content, "test"))
    with pytest.raises(MessError, match="no tensor named 'exit_9'"):
        cut_between(graph, "p", ["image"], ["exit_9"])
    with pytest.raises(MessError, match=r"Piece p also needs \['image'\]"):
        cut_between(graph, "p", ["exit_1"], ["exit_3"])


@pytest.fixture(scope="module")
def int8_content() -> bytes:
    samples = Calibration([[image] for image in _images(4)])
    return convert_model(_network(), ["image"], ENDS, "int8", samples)


@pytest.mark.parametrize(
    ("factor", "requantised"), [(1 + 1e-7, False), (1.25, True)], ids=["noise", "other"]
)
def test_an_input_adopts_its_border_scale_or_is_requantised(
    int8_content: bytes, tmp_path: Path, factor: float, requantised: bool
) -> None:
    graph = Graph(read_model(int8_content, "test"))
    plain = _write(
        tmp_path,
        "plain",
        write_cut(graph, cut_between(graph, "plain", ["image"], ["exit_1"]), {}),
    )
    own = plain.inputs["image"][1]
    scale = float(np.float32(own.scale * factor))
    border = TensorInfo(own.name, own.shape, own.dtype, scale, own.zero_point)
    assert border.scale != own.scale
    snap_input_scales(graph, {"image": border})
    cut = cut_between(graph, "piece", ["image"], ["exit_1"])
    content = write_cut(graph, cut, {}, {"image": border})
    names = [
        g.operator_name(i)
        for g in [Graph(read_model(content, "test"))]
        for i in range(len(g.operators))
    ]
    assert ("QUANTIZE" in names) == requantised
    piece = _write(tmp_path, "piece", content)
    assert piece.inputs["image"][1] == border
    image = _images(1)[0]
    got = piece.run({"image": quantise(image, border)})["exit_1"]
    expected = plain.run({"image": quantise(image, own)})["exit_1"]
    info = piece.outputs["exit_1"][1]
    difference = dequantise(got, info) - dequantise(expected, info)
    assert np.abs(difference).max() <= (0 if not requantised else 12 * info.scale)


def test_a_border_of_another_shape_is_refused(int8_content: bytes) -> None:
    graph = Graph(read_model(int8_content, "test"))
    cut = cut_between(graph, "piece", ["image"], ["exit_1"])
    other = TensorInfo("image", (1, 16, 48, 3), "int8", 0.1, 0)
    with pytest.raises(MessError, match="Piece piece reads"):
        write_cut(graph, cut, {}, {"image": other})
