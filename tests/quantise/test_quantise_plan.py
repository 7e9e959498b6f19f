"""Where the int8 graph rounds, and which values share a scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from mess_tf.quantising.int8_graph import Plan, Step, make_plan
from mess_tf.quantising.network_graph import read_network

layers = keras.layers


def plan_of(build: Callable[[Any], Any]) -> dict[str, Step]:
    image = keras.Input((16, 16, 3), name="image")
    plan: Plan = make_plan(read_network(keras.Model(image, build(image))))
    return plan.by_name()


def conv(name: str) -> Any:
    return layers.Conv2D(4, 3, padding="same", name=name)


def norm(name: str) -> Any:
    return layers.BatchNormalization(name=name)


def relu(name: str) -> Any:
    return layers.ReLU(name=name)


def test_a_convolution_takes_normalisation_and_activation_in() -> None:
    steps = plan_of(lambda x: relu("relu")(norm("bn")(conv("conv")(x))))
    assert list(steps) == ["image", "relu"]
    step = steps["relu"]
    assert step.norm is not None and step.relu is not None
    assert (step.node.name, step.norm.name, step.relu.name) == ("conv", "bn", "relu")
    assert step.inputs == ("image",)


def test_a_value_that_two_layers_read_is_a_value_of_its_own() -> None:
    def build(x: Any) -> Any:
        x = conv("conv")(x)
        return layers.Add(name="add")([norm("bn")(x), relu("relu")(x)])

    assert list(plan_of(build)) == ["image", "conv", "bn", "relu", "add"]


def test_a_value_that_leaves_the_network_is_a_value_of_its_own() -> None:
    def build(x: Any) -> Any:
        x = conv("conv")(x)
        return [x, relu("relu")(x)]

    assert list(plan_of(build)) == ["image", "conv", "relu"]


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
    steps = plan_of(lambda x: relu("relu")(layer([conv("a")(x), conv("b")(x)])))
    assert list(steps) == names


def test_a_transposed_convolution_takes_a_normalisation_but_no_activation() -> None:
    def build(x: Any) -> Any:
        x = layers.Conv2DTranspose(4, 3, padding="same", name="up")(x)
        return relu("relu")(norm("bn")(x))

    steps = plan_of(build)
    assert list(steps) == ["image", "bn", "relu"]
    assert steps["bn"].node.name == "up"


def test_a_normalisation_without_convolution_stands_alone_and_takes_a_relu() -> None:
    steps = plan_of(lambda x: relu("relu")(norm("bn")(x)))
    assert steps["relu"].node.kind == "norm"


def test_what_only_a_join_reads_has_the_joins_range() -> None:
    def build(x: Any) -> Any:
        up = layers.UpSampling2D(interpolation="bilinear", name="up")
        small = layers.MaxPooling2D(name="small")(x)
        return layers.Concatenate(name="join")([up(conv("a")(small)), conv("b")(x)])

    steps = plan_of(build)
    for name in ("a", "b", "up", "join"):
        assert steps[name].ranges == ("a", "b"), name
    assert steps["up"].rounded  # it interpolates
    assert not steps["join"].rounded  # it moves values that lie on its grid
    assert not steps["join"].observed and not steps["up"].observed
    assert steps["small"].ranges == ("image",)


def test_what_others_read_too_keeps_its_range_and_widens_the_joins() -> None:
    def build(x: Any) -> Any:
        a = conv("a")(x)
        joined = layers.Concatenate(name="join")([a, conv("b")(x)])
        return [joined, conv("other")(a)]

    steps = plan_of(build)
    assert steps["a"].ranges == ("a",)
    assert steps["b"].ranges == steps["join"].ranges == ("a", "b")
    assert steps["join"].rounded  # what comes from the other grid


def test_a_host_that_is_a_guest_elsewhere_brings_its_own_guests() -> None:
    def build(x: Any) -> Any:
        a = conv("a")(x)
        inner = layers.Concatenate(name="inner")([a, conv("b")(x)])
        outer = layers.Concatenate(name="outer")([inner, conv("c")(x)])
        return [outer, conv("of_a")(a), conv("of_inner")(inner)]

    steps = plan_of(build)
    assert steps["inner"].ranges == ("a", "b")
    assert steps["outer"].ranges == ("a", "b", "c")
    assert steps["c"].ranges == ("a", "b", "c")
