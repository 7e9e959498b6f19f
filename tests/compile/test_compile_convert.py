from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mess_tf.converting.calibrate import Calibration
from mess_tf.converting.convert import (
    InputSpec,
    convert_function,
    convert_model,
    convert_plain,
)
from mess_tf.core.errors import MessError
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.runtime.interpreter import LiteRTFile

SPEC = InputSpec("x", (1, 8, 8, 4))


def _operators(content: bytes) -> list[str]:
    graph = Graph(read_model(content, "test"))
    return [graph.operator_name(i) for i in range(len(graph.operators))]


def _dilated(rate: int = 2, groups: int = 1) -> keras.Model:
    """Branches that the converter cannot fold back from SPACE_TO_BATCH_ND."""
    layers = keras.layers
    image = keras.Input((30, 30, 8), name="image")
    x = layers.Conv2D(
        8,
        3,
        padding="same",
        dilation_rate=rate,
        groups=groups,
        use_bias=False,
        name="a",
    )(image)
    x = layers.BatchNormalization(name="a_bn")(x)
    x = layers.ReLU(6.0, name="a_relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", dilation_rate=4, name="b")(x)
    y = layers.Activation("relu", name="b_relu")(y)
    return keras.Model(image, layers.Add(name="sum")([x, y]))


def test_outputs_carry_their_names_whatever_their_order() -> None:
    def function(x: Any) -> list[Any]:
        small = x[:, :2]
        return [small * 2.0, x + 1.0, x[:, :1] - 3.0]

    graph = Graph(
        read_model(convert_function(function, [SPEC], ["b", "c", "a"], "float32"), "t")
    )
    shapes = {graph.name(t): graph.shape(t)[1] for t in graph.outputs}
    assert shapes == {"b": 2, "c": 8, "a": 1}
    assert list(shapes) == ["b", "c", "a"]


def test_equal_outputs_are_refused_or_kept_apart() -> None:
    def function(x: Any) -> list[Any]:
        return [x + 1.0, x + 1.0]

    try:
        content = convert_function(function, [SPEC], ["a", "b"], "float32")
    except MessError as error:
        assert "may be the same tensor" in str(error)
    else:
        graph = Graph(read_model(content, "t"))
        assert [graph.name(t) for t in graph.outputs] == ["a", "b"]


def test_native_dilations_give_the_same_numbers(tmp_path: Any) -> None:
    model = _dilated()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) ** 2 for w in model.get_weights()])
    calls = [layer.call for layer in model.layers]
    content = convert_model(model, ["image"], ["out"], "float32")
    assert [layer.call for layer in model.layers] == calls
    assert sorted(_operators(content)) == ["ADD", "CONV_2D", "DEPTHWISE_CONV_2D"]
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    image = rng.normal(size=(1, 30, 30, 8)).astype(np.float32)
    got = LiteRTFile(path).run({"image": image})["out"]
    expected = np.asarray(model(image))
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_plain_way_converts_too() -> None:
    rng = np.random.default_rng(0)
    samples = [[rng.normal(size=(1, 30, 30, 8)).astype(np.float32)] for _ in range(2)]
    graph = Graph(
        read_model(convert_plain(_dilated(), "int8", Calibration(samples)), "plain")
    )
    assert graph.info(graph.inputs[0]).dtype == "int8"
    assert graph.info(graph.outputs[0]).dtype == "int8"


def test_an_operator_that_litert_lacks_is_named_in_one_line() -> None:
    with pytest.raises(MessError, match="no operator for Betainc") as caught:
        convert_function(
            lambda x: [tf.math.betainc(x, x, x)], [SPEC], ["out"], "float32"
        )
    assert "\n" not in str(caught.value)


def test_int8_without_calibration_and_an_unknown_precision_are_refused() -> None:
    with pytest.raises(MessError, match="int8 needs calibration images"):
        convert_function(lambda x: [x + 1.0], [SPEC], ["out"], "int8")
    with pytest.raises(MessError, match="int8 needs calibration images"):
        empty = Calibration([])
        convert_function(lambda x: [x + 1.0], [SPEC], ["out"], "int8", empty)
    with pytest.raises(MessError, match="'int4' is not one of"):
        convert_function(lambda x: [x + 1.0], [SPEC], ["out"], "int4")  # type: ignore[arg-type]


def test_an_open_size_and_nested_or_grouped_models_are_refused() -> None:
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, keras.layers.Conv2D(4, 1, name="c")(image))
    with pytest.raises(MessError, match="no fixed size"):
        convert_model(model, ["image"], ["out"], "float32")
    assert convert_model(model, ["image"], ["out"], "float32", sizes=[(8, 8)])
    fixed = keras.Input((8, 8, 3), name="outer")
    nested = keras.Model(fixed, model(fixed))
    with pytest.raises(MessError, match="nested"):
        convert_model(nested, ["image"], ["out"], "float32")
    with pytest.raises(MessError, match="groups"):
        convert_model(_dilated(groups=2), ["image"], ["out"], "float32")


def test_nothing_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    samples = [[rng.normal(size=(1, 30, 30, 8)).astype(np.float32)] for _ in range(2)]
    convert_model(_dilated(), ["image"], ["out"], "int8", Calibration(samples))
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""
