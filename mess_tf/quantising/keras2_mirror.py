"""A copy of the network in Keras 2, which tensorflow-model-optimization can wrap.

Layer names and weights are those of the Keras 3 network, its outputs are equal.
Training goes through this copy, deployment does not: see
``mess_tf.quantising.int8_conversion``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mess_tf.quantising.keras2 import tf_keras
from mess_tf.quantising.network_graph import Network, Node

Wrap = Callable[[Node, tf_keras.layers.Layer], tf_keras.layers.Layer]
"""Called as f(node, its layer); gives what is called on the tensors instead."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """A copy of a network in ``tf_keras``.

    Attributes:
        network: what it mirrors, with the weights it started from.
        model: flat functional ``tf_keras.Model`` from the image (B, H, W, C), of open
            size where the network's is, to the list of the network's outputs.
        variables: per node with weights, its ``tf.Variable``s in Keras' order.
    """

    network: Network
    model: tf_keras.Model
    variables: Mapping[str, tuple[tf.Variable, ...]]

    def trained(self) -> Network:
        """The network with the weights that the mirror has now."""
        nodes = tuple(
            dataclasses.replace(node, weights=self._weights(node))
            for node in self.network.nodes
        )
        return dataclasses.replace(self.network, nodes=nodes)

    def _weights(self, node: Node) -> tuple[np.ndarray, ...]:
        values = [v.numpy() for v in self.variables.get(node.name, ())]
        if node.kind == "norm":
            gamma = values.pop(0) if node.settings["scale"] else node.weights[0]
            beta = values.pop(0) if node.settings["center"] else node.weights[1]
            values = [gamma, beta, *values]
        return tuple(values)


def build_mirror(network: Network, wrap: Wrap | None = None) -> Mirror:
    """Builds the network in ``tf_keras``, with its weights.

    Args:
        network: of ``read_network``.
        wrap: may put something around each layer, also around a layer that stands
            behind the image and does nothing; None leaves layers as they are.
    """
    values: dict[str, tf.Tensor] = {}
    variables: dict[str, tuple[tf.Variable, ...]] = {}
    image = tf_keras.Input(network.image_shape, name=network.nodes[0].name)
    for node in network.nodes:
        given = [values[name] for name in node.inputs] or [image]
        if node.kind != "input":
            layer = _MAKERS[node.kind](node)
        elif wrap is not None:
            layer = tf_keras.layers.Layer(name=f"{node.name}_values")
        else:
            values[node.name] = image
            continue
        if node.weights:
            # Before it is wrapped: the wrapper takes the kernel out of its layer.
            layer.build(given[0].shape)
            layer.set_weights(_weights(node))
            variables[node.name] = tuple(layer.weights)
        called = layer if wrap is None else wrap(node, layer)
        values[node.name] = called(given[0] if len(given) == 1 else given)
    outputs = [values[name] for name in network.outputs]
    return Mirror(network, tf_keras.Model(image, outputs, name="mirror"), variables)


def _weights(node: Node) -> list[np.ndarray]:
    if node.kind != "norm":
        return list(node.weights)
    gamma, beta, mean, variance = node.weights
    affine = [gamma] if node.settings["scale"] else []
    affine += [beta] if node.settings["center"] else []
    return [*affine, mean, variance]


# --- One maker per kind of node -----------------------------------------------------


def _conv(node: Node) -> tf_keras.layers.Layer:
    kernel = node.weights[0]
    return tf_keras.layers.Conv2D(
        kernel.shape[3], kernel.shape[:2], **_convolution_settings(node)
    )


def _depthwise(node: Node) -> tf_keras.layers.Layer:
    kernel = node.weights[0]
    return tf_keras.layers.DepthwiseConv2D(
        kernel.shape[:2],
        depth_multiplier=kernel.shape[3],
        **_convolution_settings(node),
    )


def _transposed(node: Node) -> tf_keras.layers.Layer:
    kernel = node.weights[0]
    return tf_keras.layers.Conv2DTranspose(
        kernel.shape[2], kernel.shape[:2], **_convolution_settings(node)
    )


def _convolution_settings(node: Node) -> dict[str, Any]:
    return {
        "strides": node.settings["strides"],
        "padding": node.settings["padding"],
        "dilation_rate": node.settings["dilations"],
        "use_bias": len(node.weights) > 1,
        "name": node.name,
    }


def _norm(node: Node) -> tf_keras.layers.Layer:
    # Not fused: these are the operations of Keras 3, and so its numbers to the last
    # bit, for a tenth more time per training step.
    return tf_keras.layers.BatchNormalization(
        **node.settings, fused=False, name=node.name
    )


def _relu(node: Node) -> tf_keras.layers.Layer:
    return tf_keras.layers.ReLU(max_value=node.settings["top"], name=node.name)


def _pool(kind: str) -> Callable[[Node], tf_keras.layers.Layer]:
    def make(node: Node) -> tf_keras.layers.Layer:
        return getattr(tf_keras.layers, kind)(
            pool_size=node.settings["size"],
            strides=node.settings["strides"],
            padding=node.settings["padding"],
            name=node.name,
        )

    return make


_MAKERS: dict[str, Callable[[Node], tf_keras.layers.Layer]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "transposed": _transposed,
    "norm": _norm,
    "relu": _relu,
    "add": lambda node: tf_keras.layers.Add(name=node.name),
    "concat": lambda node: tf_keras.layers.Concatenate(name=node.name),
    "upsample": lambda node: tf_keras.layers.UpSampling2D(
        **node.settings, name=node.name
    ),
    "pool_max": _pool("MaxPooling2D"),
    "pool_average": _pool("AveragePooling2D"),
    "pool_global": lambda node: tf_keras.layers.GlobalAveragePooling2D(
        keepdims=True, name=node.name
    ),
    "pad": lambda node: tf_keras.layers.ZeroPadding2D(
        node.settings["sides"], name=node.name
    ),
    "crop": lambda node: tf_keras.layers.Cropping2D(
        node.settings["sides"], name=node.name
    ),
}
