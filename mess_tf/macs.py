"""Multiply-accumulates of a Keras model, counted the way the paper's tables are.

Convolutions and dense layers count one MAC per product; a batch normalisation counts
two per output element (it is not folded in the paper's count). With this, the paper's
baselines come out at 138.63 G (ResNet-50 + FCN, output stride 8) and 8.78 G
(MobileNetV2 + FCN, output stride 8) at 512x512 and 21 classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mess_tf.errors import MessError


def layer_macs(layer: Any) -> int:
    """MACs of one Keras layer at batch 1; its spatial size must be known."""
    import keras

    counted = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    normal = keras.layers.BatchNormalization
    if not isinstance(layer, (*counted, normal)):
        return 0
    shape = layer.output.shape[1:]
    if None in shape:
        raise MessError(
            f"Layer {layer.name!r} has the open shape {shape}: MACs need a model with"
            " a fixed image size."
        )
    elements = math.prod(shape)
    if isinstance(layer, normal):
        return 2 * elements
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return elements * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2D):
        channels_in = layer.input.shape[-1] // layer.groups
        return elements * math.prod(layer.kernel_size) * channels_in
    return elements * layer.input.shape[-1]


def model_macs(layers: Iterable[Any]) -> int:
    """Sum over ``layers`` (a model's ``.layers``)."""
    return sum(layer_macs(layer) for layer in layers)
