"""Where the int8 graph rounds, and which values share a scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from mess_tf.quantising.int8_graph import Int8Graph, Int8Operator, build_int8_graph
from mess_tf.quantising.network_graph import read_network

layers = keras.layers


def operators_of(build: Callable[[Any], Any]) -> dict[str, Int8Operator]:
    image = keras.Input((16, 16, 3), name="image")
    graph: Int8Graph = build_int8_graph(read_network(keras.Model(image, build(image))))
    return graph.by_name()


def conv(name: str) -> Any:
    return layers.Conv2D(4, 3, padding="same", name=name)


def norm(name: str) -> Any:
    return layers.BatchNormalization(name=name)


def relu(name: str) -> Any:
    return layers.ReLU(name=name)


def test_a_convolution_takes_normalisation_and_activation_in() -> None:
    operators = operators_of(lambda x: relu("relu")(norm("bn")(conv("conv")(x))))
    assert list(operators) == ["image", "relu"]
    operator = operators["relu"]
    assert operator.norm is not None and operator.relu is not None
    names = (operator.node.name, operator.norm.name, operator.relu.name)
    assert names == ("conv", "bn", "relu")
    assert operator.inputs == ("image",)


def test_a_value_that_two_layers_read_is_a_value_of_its_own() -> None:
    def build(x: Any) -> Any:
        x = conv("conv")(x)
        return layers.Add(name="add")([norm("bn")(x), relu("relu")(x)])

    assert list(operators_of(build)) == ["image", "conv", "bn", "relu", "add"]


def test_a_value_that_leaves_the_network_is_a_value_of_its_own() -> None:
    def build(x: Any) -> Any:
        x = conv("conv")(x)
        return [x, relu("relu")(x)]

    assert list(operators_of(build)) == ["image", "conv", "relu"]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (layers.Add(name="add"), ["image", "a", "b", "relu"]),
        (layers.Concatenate(name="join"), ["image", "a", "b", "join", "relu"]),
    ],
    ids=["add", "concatenate"],
)
def test_only_operators_with_an_activation_take_one_in(
    layer: Any, names: list[str]
) -> None:
    operators = operators_of(
        lambda x: relu("relu")(layer([conv("a")(x), conv("b")(x)]))
    )
    assert list(operators) == names


def test_a_transposed_convolution_takes_a_normalisation_but_no_activation() -> None:
    def build(x: Any) -> Any:
        x = layers.Conv2DTranspose(4, 3, padding="same", name="up")(x)
        return relu("relu")(norm("bn")(x))

    operators = operators_of(build)
    assert list(operators) == ["image", "bn", "relu"]
    assert operators["bn"].node.name == "up"


def test_a_normalisation_without_convolution_stands_alone_and_takes_a_relu() -> None:
    operators = operators_of(lambda x: relu("relu")(norm("bn")(x)))
    assert operators["relu"].node.kind == "norm"


def test_what_only_a_join_reads_has_the_joins_range() -> None:
    def build(x: Any) -> Any:
        up = layers.UpSampling2D(interpolation="bilinear", name="up")
        small = layers.MaxPooling2D(name="small")(x)
        return layers.Concatenate(name="join")([up(conv("a")(small)), conv("b")(x)])

    operators = operators_of(build)
    for name in ("a", "b", "up", "join"):
        assert operators[name].ranges == ("a", "b"), name
    assert operators["up"].rounded  # it interpolates
    assert not operators["join"].rounded  # it moves values that lie on its grid
    assert not operators["join"].observed and not operators["up"].observed
    assert operators["small"].ranges == ("image",)


def test_what_others_read_too_keeps_its_range_and_widens_the_joins() -> None:
    def build(x: Any) -> Any:
        a = conv("a")(x)
        joined = layers.Concatenate(name="join")([a, conv("b")(x)])
        return [joined, conv("other")(a)]

    operators = operators_of(build)
    assert operators["a"].ranges == ("a",)
    assert operators["b"].ranges == operators["join"].ranges == ("a", "b")
    assert operators["join"].rounded  # what comes from the other grid


def test_a_host_that_is_a_guest_elsewhere_brings_its_own_guests() -> None:
    def build(x: Any) -> Any:
        a = conv("a")(x)
        inner = layers.Concatenate(name="inner")([a, conv("b")(x)])
        outer = layers.Concatenate(name="outer")([inner, conv("c")(x)])
        return [outer, conv("of_a")(a), conv("of_inner")(inner)]

    operators = operators_of(build)
    assert operators["inner"].ranges == ("a", "b")
    assert operators["outer"].ranges == ("a", "b", "c")
    assert operators["c"].ranges == ("a", "b", "c")
