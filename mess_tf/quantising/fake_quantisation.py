"""Fake quantisation of the ``tf_keras`` copy, wherever the int8 graph rounds.

Weights are rounded per channel, to a grid that follows the weights themselves. Values
are rounded to ranges that are observed first on calibration images, then as a moving
average while the network is called with ``training=True``. Called with
``training=False`` the network computes what the int8 file will compute, batch
normalisation with its stored statistics and ranges as they are; gradients flow all the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.quantising.int8_graph import (
    CONVOLUTIONS,
    Int8Graph,
    Int8Operator,
    build_int8_graph,
)
from mess_tf.quantising.keras2 import (
    QuantizeConfig,
    Quantizer,
    QuantizeWrapper,
    tf_keras,
)
from mess_tf.quantising.keras2_mirror import Mirror, build_mirror
from mess_tf.quantising.network_graph import Network, Node
from mess_tf.runtime.interpreter import TIE_RAISE_STEPS

RANGE_MOMENTUM = 0.99  # tfmot's 0.999 is too slow for some hundred steps
SMALLEST_RANGE = (
    1e-3  # of values that are always zero: a scale of 0 cannot be divided by
)
_KERNELS = {"conv": "kernel", "depthwise": "depthwise_kernel", "transposed": "kernel"}


def round_kernel(kernel: tf.Tensor, kind: str) -> tf.Tensor:
    """A kernel on its int8 grid: per output channel, symmetric, -127..127 steps.

    Args:
        kernel: float32 tensor: (h, w, in, out) of a convolution, (h, w, in, multiplier)
            of a depthwise one, (h, w, out, in) of a transposed one.
        kind: of the node.
    """
    if kind == "transposed":
        turned = tf.transpose(kernel, (0, 1, 3, 2))
        return tf.transpose(round_kernel(turned, "conv"), (0, 1, 3, 2))
    shape = tf.shape(kernel)
    channels = shape[2] * shape[3] if kind == "depthwise" else shape[3]
    flat = tf.reshape(kernel, (-1, channels))
    largest = tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-30)
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        flat, -largest, largest, num_bits=8, narrow_range=True
    )
    return tf.reshape(rounded, shape)


class KernelQuantizer(Quantizer):
    """Rounds a kernel; tfmot's rounds depthwise kernels with one scale for all."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def build(
        self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer
    ) -> dict[str, object]:
        return {}

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: object, **kwargs: object
    ) -> tf.Tensor:
        return round_kernel(inputs, self._kind)

    def get_config(self) -> dict[str, object]:
        return {"kind": self._kind}


class ValueQuantizer(Quantizer):
    """Rounds an operator's values to the range of its scale group.

    Args:
        operator: whose values; the image's range is known and does not move, and its
            values midway between two steps go up, as in
            ``mess_tf.runtime.interpreter.quantise``.
        ranges: (low, high) variable per observed operator.
    """

    def __init__(
        self, operator: Int8Operator, ranges: Mapping[str, tf.Variable]
    ) -> None:
        self._is_image = operator.node.kind == "input"
        follows = operator.observed and not self._is_image
        self._observed = ranges[operator.name] if follows else None
        self._shared = [ranges[name] for name in operator.ranges]

    def build(
        self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer
    ) -> dict[str, object]:
        return {}

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: object, **kwargs: object
    ) -> tf.Tensor:
        if training and self._observed is not None:
            seen = tf.stack([tf.reduce_min(inputs), tf.reduce_max(inputs)])
            momentum = RANGE_MOMENTUM
            self._observed.assign(
                momentum * self._observed + (1.0 - momentum) * tf.stop_gradient(seen)
            )
        low, high = joint_range([tf.convert_to_tensor(r) for r in self._shared])
        if self._is_image:
            inputs = inputs + TIE_RAISE_STEPS * (high - low) / 255
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self) -> dict[str, object]:
        return {}


def joint_range(ranges: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """(low, high) that covers all (low, high) pairs and zero."""
    stacked = tf.stack(ranges)
    low = tf.minimum(tf.reduce_min(stacked[:, 0]), 0.0)
    high = tf.maximum(tf.reduce_max(stacked[:, 1]), low + SMALLEST_RANGE)
    return low, tf.maximum(high, 0.0)


class OperatorConfig(QuantizeConfig):
    """tfmot's configuration of a layer: its kernel and its output are rounded."""

    def __init__(self, kind: str, output: ValueQuantizer | None) -> None:
        self._kernel = _KERNELS.get(kind)
        self._quantizer = KernelQuantizer(kind)
        self._output = output

    def get_weights_and_quantizers(
        self, layer: tf_keras.layers.Layer
    ) -> list[tuple[tf.Variable, Quantizer]]:
        if self._kernel is None:
            return []
        return [(getattr(layer, self._kernel), self._quantizer)]

    def get_activations_and_quantizers(
        self, layer: tf_keras.layers.Layer
    ) -> list[tf.Tensor]:
        return []

    def set_quantize_weights(
        self, layer: tf_keras.layers.Layer, quantize_weights: list[tf.Tensor]
    ) -> None:
        if self._kernel is not None:
            setattr(layer, self._kernel, quantize_weights[0])

    def set_quantize_activations(
        self, layer: tf_keras.layers.Layer, quantize_activations: object
    ) -> None:
        return None  # there are none

    def get_output_quantizers(self, layer: tf_keras.layers.Layer) -> list[Quantizer]:
        return [] if self._output is None else [self._output]

    def get_config(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True, eq=False)
class FakeQuantised:
    """A network under fake quantisation.

    Attributes:
        graph: the int8 graph, which says what is rounded.
        mirror: the ``tf_keras`` model with wrapped layers.
        ranges: per observed operator, a variable (low, high).
    """

    graph: Int8Graph
    mirror: Mirror
    ranges: Mapping[str, tf.Variable]

    @property
    def model(self) -> tf_keras.Model:
        return self.mirror.model

    def trainable(self) -> list[tf.Variable]:
        """Variables that gradients move, in a fixed order."""
        weights = [v for group in self.mirror.variables.values() for v in group]
        return [variable for variable in weights if variable.trainable]

    def variables(self) -> list[tf.Variable]:
        """All that is trained or observed, in a fixed order."""
        weights = [v for group in self.mirror.variables.values() for v in group]
        return [*weights, *self.ranges.values()]

    def ranges_now(self) -> dict[str, tuple[float, float]]:
        """(low, high) per operator of the int8 graph."""
        result = {}
        for operator in self.graph.operators:
            low, high = joint_range([self.ranges[name] for name in operator.ranges])
            result[operator.name] = float(low), float(high)
        return result


def image_range(preprocessing: Preprocessing) -> tuple[float, float]:
    """Lowest and highest value that a pixel of 0..255 can have after normalisation.

    Moved by up to half a step, so that zero is a step. With the mean 127.5 it lies
    midway between two; the lower one makes pixel p the int8 value p - 128
    (``mess_tf.exporting.model_io.folds_pixels``), as in the converter's calibration.
    """
    pairs = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    low, high = min(-m / s for m, s in pairs), max((255 - m) / s for m, s in pairs)
    scale = (high - low) / 255
    below_zero = math.ceil(-low / scale - 0.5)
    return -below_zero * scale, (255 - below_zero) * scale


def fake_quantise(
    network: Network, batches: Sequence[np.ndarray], preprocessing: Preprocessing
) -> FakeQuantised:
    """A network under fake quantisation, with ranges of calibration images.

    Args:
        network: of ``read_network``.
        batches: normalised float32 images (B, H, W, C); a range starts as the mean of
            the batches'.
        preprocessing: of the images.
    """
    graph = build_int8_graph(network)
    observed = observe(graph, batches)
    observed[network.nodes[0].name] = np.array(image_range(preprocessing), np.float32)
    ranges = {
        name: tf.Variable(observed[name], trainable=False, name=f"range_{name}")
        for name in graph.observed
    }
    operator_of = {operator.name: operator for operator in graph.operators}

    def wrap(node: Node, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        operator = operator_of.get(node.name)
        output = None
        if operator is not None and operator.rounded:
            output = ValueQuantizer(operator, ranges)
        if output is None and node.kind not in CONVOLUTIONS:
            return layer
        return QuantizeWrapper(layer, OperatorConfig(node.kind, output))

    return FakeQuantised(graph, build_mirror(network, wrap), ranges)


def unrounded(network: Network) -> FakeQuantised:
    """The same network without rounding: the control for what more training does."""
    return FakeQuantised(build_int8_graph(network), build_mirror(network), {})


def observe(graph: Int8Graph, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean over batches of the lowest and highest value of every observed operator.

    The image, whose range is known, is left out.
    """
    model = build_mirror(graph.network).model
    names = [name for name in graph.observed if name != graph.network.nodes[0].name]
    extremes = tf_keras.Model(
        model.input,
        [_Extremes(name=f"{n}_extremes")(model.get_layer(n).output) for n in names],
    )
    run = tf.function(lambda images: extremes(images, training=False), autograph=False)
    rows = []
    for images in batches:
        seen = run(tf.convert_to_tensor(images, tf.float32))
        rows.append([pair.numpy() for pair in tf.nest.flatten(seen)])
    means = list(np.asarray(rows, np.float64).mean(axis=0).astype(np.float32))
    return dict(zip(names, means, strict=True))


class _Extremes(tf_keras.layers.Layer):
    def call(self, values: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
