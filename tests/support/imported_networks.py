"""Small networks as users bring them: plain, with skips, with ASPP, nested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from mess_tf.models.adoption import adopt
from mess_tf.models.supernet import Supernet

layers = keras.layers
SIZE = 32
CLASSES = 3
NORMALISED = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}


def conv(x: Any, filters: int, name: str, **options: Any) -> Any:
    x = layers.Conv2D(
        filters, 3, padding="same", use_bias=False, name=f"{name}_conv", **options
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def plain() -> keras.Model:
    """A convnet down to stride 4; logits enlarged to the image."""
    image = keras.Input((SIZE, SIZE, 3))
    x = conv(image, 4, "a", strides=2)
    x = conv(x, 8, "b", strides=2)
    x = conv(x, 8, "head_1")  # a name that could be mistaken for one of ours
    x = layers.Dropout(0.1, name="drop")(x)
    x = layers.Conv2D(CLASSES, 1, name="classifier")(x)
    x = layers.UpSampling2D(4, interpolation="bilinear", name="enlarge")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(x), name="plain")


def unet(classes: int = CLASSES) -> keras.Model:
    """Two levels down and up, softmax inside the last convolution."""
    image = keras.Input((SIZE, SIZE, 3))
    top = conv(image, 4, "top")
    low = conv(layers.MaxPooling2D(name="pool1")(top), 8, "low")
    x = conv(layers.MaxPooling2D(name="pool2")(low), 16, "mid")
    x = layers.Conv2DTranspose(8, 2, strides=2, name="up1")(x)
    x = conv(layers.Concatenate(name="join1")([x, low]), 8, "back1")
    x = layers.UpSampling2D(2, name="up2")(x)
    x = conv(layers.Concatenate(name="join2")([x, top]), 4, "back2")
    x = layers.Conv2D(classes, 1, activation="softmax", name="classifier")(x)
    return keras.Model(image, x, name="unet")


def deeplab() -> keras.Model:
    """DeepLabV3+ in small: residual blocks, ASPP with pooling, one decoder skip."""
    image = keras.Input((SIZE, SIZE, 3))
    x = conv(image, 4, "stem", strides=2)
    low = conv(x, 8, "low", strides=2)
    x = conv(low, 8, "r1", strides=2)
    x = layers.ReLU(name="res1_out")(x + conv(conv(x, 8, "r2"), 8, "r3"))
    branches = [conv(x, 8, "aspp0")]
    y = layers.SeparableConv2D(
        8, 3, padding="same", dilation_rate=2, activation="relu", name="aspp1"
    )(x)
    branches.append(y)
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    pooled = layers.Conv2D(8, 1, activation="relu", name="pool_conv")(pooled)
    branches.append(
        layers.Resizing(4, 4, interpolation="bilinear", name="pool_up")(pooled)
    )
    x = conv(layers.Concatenate(name="aspp_join")(branches), 16, "project")
    x = layers.UpSampling2D(2, interpolation="bilinear", name="decoder_up")(x)
    skip = layers.Conv2D(4, 1, activation="relu", name="low_project")(low)
    x = conv(layers.Concatenate(name="decoder_join")([x, skip]), 8, "decoder")
    x = layers.Conv2D(CLASSES, 1, name="classifier")(x)
    x = layers.Resizing(SIZE, SIZE, interpolation="bilinear", name="enlarge")(x)
    return keras.Model(image, x, name="deeplab")


class Twice(keras.layers.Layer):
    """A layer of the user's own that is made of Keras layers and operations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first = layers.Conv2D(8, 3, padding="same", name="inner_first")
        self.rest = keras.Sequential(
            [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization()]
        )

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.rest.build((*shape[:-1], 8))
        self.built = True

    def call(self, inputs: Any) -> Any:
        first = keras.ops.relu(self.first(inputs))
        return keras.ops.relu(self.rest(first) + first)


def nested() -> keras.Model:
    """A functional encoder and a layer of one's own inside a model."""
    inside = keras.Input((None, None, 3))
    low = conv(inside, 4, "a", strides=2)
    encoder = keras.Model(inside, {"low": low, "deep": conv(low, 8, "b", strides=2)})
    image = keras.Input((SIZE, SIZE, 3))
    taps = encoder(image, training=False)
    x = conv(Twice(name="twice")(taps["deep"]), 8, "a")
    x = layers.UpSampling2D(2, name="up")(x)
    x = conv(layers.Concatenate(name="join")([x, taps["low"]]), 4, "c")
    return keras.Model(
        image, layers.Conv2D(CLASSES, 1, name="classifier")(x), name="nested"
    )


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "plain": plain,
    "unet": unet,
    "deeplab": deeplab,
    "nested": nested,
}


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with random weights, its normalisations too."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


def adopted(model: keras.Model, **options: Any) -> Supernet:
    return adopt(model, **{**NORMALISED, "exits": 3, **options})


def images(count: int = 2, size: int = SIZE) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.normal(size=(count, size, size, 3)).astype(np.float32)
