"""Multiply-accumulates of a Keras model, counted the way the paper's tables are.

Convolutions and dense layers count one MAC per product; a batch normalisation counts
two per output element (it is not folded in the paper's count), and so do other
normalisations. With this, the paper's baselines come out at 138.63 G (ResNet-50 + FCN,
output stride 8) and 8.78 G (MobileNetV2 + FCN, output stride 8) at 512x512 and 21
classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mess_tf.core.errors import MessError

# Products that Keras offers as plain operations too: there nothing is counted.
_UNCOUNTED_OPERATIONS = (
    "Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "Matmul", "Dot",
    "Einsum", "Tensordot", "Vdot", "Inner", "Outer",
)  # fmt: skip


def layer_macs(layer: Any) -> int:
    """MACs of one Keras layer at batch 1; its spatial size must be known."""
    import keras

    if not isinstance(layer, _multiplying() + _normalising()):
        return 0
    shape = layer.output.shape[1:]
    if None in shape:
        raise MessError(
            f"Layer {layer.name!r} has the open shape {shape}: MACs need a model with"
            " a fixed image size."
        )
    elements = math.prod(shape)
    if isinstance(layer, _normalising()):
        return 2 * elements
    channels_in = layer.input.shape[-1]
    if isinstance(layer, keras.layers.Dense):
        return elements * channels_in
    taps = math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return elements * taps
    if isinstance(layer, keras.layers.SeparableConv2D):
        cells = elements // layer.filters
        inner = channels_in * layer.depth_multiplier
        return cells * inner * (taps + layer.filters)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return math.prod(layer.input.shape[1:]) * taps * layer.filters
    return elements * taps * (channels_in // layer.groups)


def has_known_macs(operation: Any) -> bool:
    """Whether ``layer_macs`` counts all that a Keras layer or operation multiplies."""
    import keras

    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ not in _UNCOUNTED_OPERATIONS
    # One weight per channel, as of a learnt scale, is no matrix product.
    matrices = any(len(weight.shape) > 1 for weight in operation.weights)
    return not matrices or isinstance(operation, _multiplying())


def _multiplying() -> tuple[Any, ...]:
    from keras import layers

    return (
        layers.Conv2D,
        layers.DepthwiseConv2D,
        layers.SeparableConv2D,
        layers.Conv2DTranspose,
        layers.Dense,
    )


def _normalising() -> tuple[Any, ...]:
    from keras import layers

    return (
        layers.BatchNormalization,
        layers.LayerNormalization,
        layers.GroupNormalization,
    )


def model_macs(layers: Iterable[Any]) -> int:
    """Sum over ``layers`` (a model's ``.layers``)."""
    return sum(layer_macs(layer) for layer in layers)
