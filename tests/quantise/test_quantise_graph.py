"""What cannot be trained under fake quantisation is named in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from mess_tf.core.errors import MessError
from mess_tf.quantising.network_graph import read_network
from tests.support.quantised_networks import network

layers = keras.layers


def shared(x: Any) -> Any:
    twice = layers.Conv2D(3, 1, name="odd")
    return twice(twice(x))


def nested(x: Any) -> Any:
    inside = keras.Input((8, 8, 3))
    model = keras.Model(inside, layers.ReLU()(inside), name="odd")
    return model(x)


def own_layer(x: Any) -> Any:
    class Mine(keras.layers.Conv2D):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs) * 2

    return Mine(3, 1, name="odd")(x)


def first_channels(x: Any) -> Any:
    return layers.MaxPooling2D(2, data_format="channels_first", name="odd")(x)


BAD: list[tuple[str, Callable[[Any], Any]]] = [
    ("unknown here", lambda x: layers.LayerNormalization(name="odd")(x)),
    ("unknown here", own_layer),
    ("used twice", shared),
    ("a model inside the model", nested),
    ("no layer", lambda x: x + 1.0),
    ("groups", lambda x: layers.Conv2D(3, 1, groups=3, name="odd")(x)),
    ("activation is gelu", lambda x: layers.Activation("gelu", name="odd")(x)),
    (
        "activation is silu",
        lambda x: layers.Conv2D(3, 1, activation="silu", name="odd")(x),
    ),
    ("negative_slope", lambda x: layers.ReLU(negative_slope=0.1, name="odd")(x)),
    ("max_value 4", lambda x: layers.ReLU(max_value=4.0, name="odd")(x)),
    ("keepdims", lambda x: layers.GlobalAveragePooling2D(name="odd")(x)),
    ("adds 3 tensors", lambda x: layers.Add(name="odd")([x, x, x])),
    ("axis 1", lambda x: layers.Concatenate(1, name="odd")([x, x])),
    ("axis 1", lambda x: layers.BatchNormalization(1, name="odd")(x)),
    ("bicubic", lambda x: layers.UpSampling2D(interpolation="bicubic", name="odd")(x)),
    ("channels come first", first_channels),
    ("float16", lambda x: layers.Conv2D(3, 1, dtype="float16", name="odd")(x)),
    (
        "output padding",
        lambda x: layers.Conv2DTranspose(3, 3, output_padding=0, name="odd")(x),
    ),
]


@pytest.mark.parametrize(("reason", "build"), BAD, ids=[text for text, _ in BAD])
def test_a_layer_that_cannot_be_followed_is_named_with_the_reason(
    reason: str, build: Callable[[Any], Any]
) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, build(image))
    with pytest.raises(MessError) as caught:
        read_network(model)
    text = str(caught.value)
    assert reason in text
    assert "'odd'" in text or "'add" in text
    assert "\n" not in text


def test_two_images_are_refused() -> None:
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model = keras.Model([one, two], layers.Add()([one, two]))
    with pytest.raises(MessError, match="one batch of images"):
        read_network(model)


def test_layers_with_two_duties_become_two_nodes_and_idle_ones_none() -> None:
    model, _ = network("adopted")
    read = read_network(model)
    kinds = {node.name: node.kind for node in read.nodes}
    assert kinds["first"] == "conv"
    assert kinds["first_activation"] == "relu"
    assert read.value_of["first"] == "first_activation"
    assert (kinds["sep_depthwise"], kinds["sep"]) == ("depthwise", "conv")
    assert "drop" not in kinds
    assert read.value_of["drop"] == "sep_act"
    assert read.value_of["nothing"] == "crop"


def test_nodes_come_before_those_that_read_them() -> None:
    model, _ = network("mobile_08")
    seen: set[str] = set()
    for node in read_network(model).nodes:
        assert set(node.inputs) <= seen
        seen.add(node.name)
