"""Functional Keras models with each dilated convolution as one native operator.

Keras runs a dilated convolution on the CPU as SPACE_TO_BATCH_ND, convolution,
BATCH_TO_SPACE_ND, and the converter cannot always undo that: batch normalisation then
stays unfolded and the network runs a quarter slower. ``tf.nn.conv2d(dilations=...)``
reaches the flatbuffer as it is.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.core.errors import MessError


class NativeDilations:
    """A functional model's inference whose dilated convolutions are native operators.

    Nodes are run one by one; only the layers that differ are replaced, since
    cloning the whole model costs a third of a conversion.

    Args:
        model: flat functional model, channels last. Its weights as they are now become
            constants; variables would have to be frozen, which doubles the time.

    Raises:
        MessError: a dilated layer has groups or channels first, or the model is nested.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._nodes = [n for n in nodes_in_order(model.outputs) if n.input_tensors]
        self._native = {
            layer: _NativeConvolution(layer)
            for layer in model.layers
            if _is_dilated(layer)
        }
        self._weights = [(v, v.value.numpy()) for v in model.variables]

    def __call__(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        """Output tensors for input tensors, both in the model's order."""
        values = dict(zip(map(id, self._model.inputs), inputs, strict=True))
        with keras.StatelessScope(state_mapping=self._weights):
            for node in self._nodes:
                args, kwargs = node.arguments.fill_in(values)
                kwargs.pop("training", None)
                operation = self._native.get(node.operation, node.operation)
                results = keras.tree.flatten(operation(*args, **kwargs))
                values.update(zip(map(id, node.outputs), results, strict=True))
        return [values[id(tensor)] for tensor in self._model.outputs]


class _NativeConvolution(keras.layers.Layer):
    """A dilated layer's weights and settings, computed by native operators.

    Args:
        layer: convolution, depthwise or separable convolution; its weights are read.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self._layer = layer
        self.built = True  # the layer's variables are there

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        layer = self._layer
        if isinstance(layer, keras.layers.SeparableConv2D):
            y = _by_channel(layer, layer.depthwise_kernel, inputs)
            pointwise = tf.convert_to_tensor(layer.pointwise_kernel)
            y = tf.nn.conv2d(y, pointwise, 1, "VALID")
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            y = _by_channel(layer, layer.kernel, inputs)
        else:
            y = tf.nn.conv2d(
                inputs,
                tf.convert_to_tensor(layer.kernel),
                layer.strides,
                layer.padding.upper(),
                dilations=layer.dilation_rate,
            )
        if layer.use_bias:
            y = y + tf.convert_to_tensor(layer.bias)
        return layer.activation(y)


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


def _by_channel(
    layer: keras.layers.Layer, kernel: keras.Variable, inputs: tf.Tensor
) -> tf.Tensor:
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs,
        filter=tf.convert_to_tensor(kernel),
        strides=[1, *layer.strides, 1],
        padding=layer.padding.upper(),
        dilations=[1, *layer.dilation_rate, 1],
    )
