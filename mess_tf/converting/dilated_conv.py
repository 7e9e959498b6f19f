"""Dilated convolutions as one native operator each.

Keras runs a dilated convolution on the CPU as SPACE_TO_BATCH_ND, convolution,
BATCH_TO_SPACE_ND, and the converter cannot always undo that: batch normalisation then
stays unfolded and the network runs a quarter slower. ``tf.nn.conv2d(dilations=...)``
reaches the flatbuffer as it is.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from mess_tf.core.errors import MessError


@contextlib.contextmanager
def native_dilations(model: keras.Model) -> Iterator[None]:
    """While the block runs, the model's dilated convolutions trace to one operator.

    Only the layers' ``call`` is exchanged and put back: copying the model instead costs
    a third of a conversion.

    Args:
        model: flat functional model, channels last.

    Raises:
        MessError: a dilated layer has groups or channels first, or the model is nested.
    """
    with contextlib.ExitStack() as stack:
        for layer in model.layers:
            if _is_dilated(layer):
                native = _convolution
                if isinstance(layer, keras.layers.DepthwiseConv2D):
                    native = _depthwise
                elif isinstance(layer, keras.layers.SeparableConv2D):
                    native = _separable
                # Past Keras' attribute tracking, which would take it for a new state.
                object.__setattr__(layer, "call", functools.partial(native, layer))
                stack.callback(object.__delattr__, layer, "call")
        yield


def _is_dilated(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.Model):
        raise MessError(
            f"Model {layer.name!r} is nested in another model, which cannot be"
            " compiled; build one flat functional model."
        )
    kinds = (
        keras.layers.Conv2D,
        keras.layers.DepthwiseConv2D,
        keras.layers.SeparableConv2D,
    )
    if not isinstance(layer, kinds):
        return False
    if tuple(layer.dilation_rate) == (1, 1):
        return False
    if layer.data_format != "channels_last" or getattr(layer, "groups", 1) != 1:
        raise MessError(
            f"Layer {layer.name!r} is a dilated convolution with groups or channels"
            " first; only channels-last ones without groups can be compiled."
        )
    return True


def _convolution(layer: keras.layers.Layer, inputs: Any) -> Any:
    y = tf.nn.conv2d(
        inputs,
        tf.convert_to_tensor(layer.kernel),
        layer.strides,
        layer.padding.upper(),
        dilations=layer.dilation_rate,
    )
    return _finish(layer, y)


def _depthwise(layer: keras.layers.Layer, inputs: Any) -> Any:
    return _finish(layer, _by_channel(layer, layer.kernel, inputs))


def _separable(layer: keras.layers.Layer, inputs: Any) -> Any:
    y = _by_channel(layer, layer.depthwise_kernel, inputs)
    pointwise = tf.convert_to_tensor(layer.pointwise_kernel)
    return _finish(layer, tf.nn.conv2d(y, pointwise, 1, "VALID"))


def _by_channel(layer: keras.layers.Layer, kernel: Any, inputs: Any) -> Any:
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs,
        filter=tf.convert_to_tensor(kernel),
        strides=[1, *layer.strides, 1],
        padding=layer.padding.upper(),
        dilations=[1, *layer.dilation_rate, 1],
    )


def _finish(layer: keras.layers.Layer, y: Any) -> Any:
    if layer.use_bias:
        y = y + tf.convert_to_tensor(layer.bias)
    return layer.activation(y)
