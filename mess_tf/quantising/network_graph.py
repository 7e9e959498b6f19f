"""The graph of a flat functional Keras model, for its copy and its conversion.

Layers that do two things (an activation inside a convolution, a separable convolution)
become two nodes, so that the places where values are quantised all lie between nodes;
layers that do nothing in a deployed network (dropout) are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import keras
import numpy as np

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.core.errors import MessError
from mess_tf.models.batch_norm import BatchNormalization

Kind = Literal[
    "input",
    "conv",
    "depthwise",
    "transposed",
    "norm",
    "relu",
    "add",
    "concat",
    "upsample",
    "pool_max",
    "pool_average",
    "pool_global",
    "pad",
    "crop",
]


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of the network.

    Attributes:
        name: of the layer it comes from.
        kind: what it does.
        inputs: names of the nodes it reads.
        settings: what its kind needs, e.g. ``strides``, ``padding``, ``dilations``.
        weights: float32 arrays; a convolution's kernel and bias (if it has one), a
            normalisation's gamma, beta, mean and variance.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in an order in which they can run; the first is the image.

    Attributes:
        nodes: all of them.
        outputs: names of the nodes whose values leave, in the model's order.
        value_of: layer name -> name of the node that holds the layer's output.
        image_shape: (height, width, channels) of the image; None where it is open.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    value_of: Mapping[str, str]
    image_shape: tuple[int | None, int | None, int]

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def consumers(self) -> dict[str, list[Node]]:
        """Per node, the nodes that read it."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers


Reader = Callable[[keras.layers.Layer, tuple[str, ...]], list[Node]]
"""(layer, names of the nodes it reads) -> its nodes."""


def read_network(model: keras.Model) -> Network:
    """Reads a model's layers.

    Args:
        model: flat, functional, with one image input; channels last, float32.

    Raises:
        MessError: a layer that fake quantisation cannot follow; it is named, with the
            reason.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise MessError(
            f"Model {model.name!r} has the inputs {[t.shape for t in model.inputs]};"
            " quantisation-aware training takes one batch of images (B, H, W, C)."
        )
    nodes: list[Node] = []
    value_of: dict[str, str] = {}
    for node in nodes_in_order(model.outputs):
        layer = node.operation
        inputs = [_maker(tensor) for tensor in node.input_tensors]
        if layer.name in value_of:
            raise _refusal(layer, "it is used twice; give each use a separate layer")
        made = _read(layer, tuple(value_of[t] for t in inputs))
        nodes += made
        # A layer that only passes its input on is no node.
        value_of[layer.name] = made[-1].name if made else value_of[inputs[0]]
    height, width, channels = model.inputs[0].shape[1:]
    outputs = tuple(value_of[_maker(tensor)] for tensor in model.outputs)
    return Network(tuple(nodes), outputs, value_of, (height, width, channels))


def _maker(tensor: keras.KerasTensor) -> str:
    """Name of the layer a tensor comes from."""
    return tensor._keras_history.operation.name


def _read(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if not isinstance(layer, keras.layers.Layer):
        raise _refusal(layer, "it is an operation and no layer; use a layer of Keras")
    if isinstance(layer, keras.Model):
        raise _refusal(layer, "it is a model inside the model; build one flat model")
    reader = _READERS.get(type(layer))
    if reader is None:
        known = ", ".join(sorted({kind.__name__ for kind in _READERS}))
        raise _refusal(layer, f"that kind of layer is unknown here; accepted: {known}")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _refusal(layer, "its channels come first; they must come last")
    if layer.compute_dtype != "float32":
        raise _refusal(layer, f"it computes in {layer.compute_dtype}, not in float32")
    return reader(layer, inputs)


def _refusal(layer: keras.layers.Layer, reason: str) -> MessError:
    return MessError(
        f"Layer {layer.name!r} ({type(layer).__name__}) cannot be trained with fake"
        f" quantisation: {reason}. Change it, or quantise after training (int8)."
    )


# --- One reader per kind of layer ---------------------------------------------------


def _input(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    return [Node(layer.name, "input", ())]


def _convolution(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if getattr(layer, "groups", 1) != 1:
        raise _refusal(layer, f"it has {layer.groups} groups; 1 is accepted")
    kind: Kind = "conv"
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kind = "depthwise"
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        kind = "transposed"
        if layer.output_padding is not None or tuple(layer.dilation_rate) != (1, 1):
            raise _refusal(layer, "it has output padding or dilation")
    settings = {
        "strides": tuple(layer.strides),
        "padding": layer.padding,
        "dilations": tuple(layer.dilation_rate),
    }
    node = Node(layer.name, kind, inputs, settings, tuple(layer.get_weights()))
    return [node, *_activation_of(layer)]


def _separable(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    depthwise, *pointwise = layer.get_weights()
    settings = {
        "strides": tuple(layer.strides),
        "padding": layer.padding,
        "dilations": tuple(layer.dilation_rate),
    }
    first = Node(f"{layer.name}_depthwise", "depthwise", inputs, settings, (depthwise,))
    plain = {"strides": (1, 1), "padding": "same", "dilations": (1, 1)}
    second = Node(layer.name, "conv", (first.name,), plain, tuple(pointwise))
    return [first, second, *_activation_of(layer)]


def _activation_of(layer: keras.layers.Layer) -> list[Node]:
    """The activation inside a layer as a separate node; none for a linear one."""
    name = layer.activation.__name__
    if name == "linear":
        return []
    return [
        Node(
            f"{layer.name}_activation",
            "relu",
            (layer.name,),
            {"top": _relu_top(layer, name)},
        )
    ]


def _relu_top(layer: keras.layers.Layer, activation: str) -> float | None:
    if activation not in ("relu", "relu6"):
        raise _refusal(
            layer, f"its activation is {activation}; accepted: linear, relu, relu6"
        )
    return 6.0 if activation == "relu6" else None


def _activation(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    name = layer.activation.__name__
    if name == "linear":
        return []
    return [Node(layer.name, "relu", inputs, {"top": _relu_top(layer, name)})]


def _relu(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    top = None if layer.max_value is None else float(layer.max_value)
    if layer.negative_slope or layer.threshold or top not in (None, 6.0):
        raise _refusal(
            layer,
            f"it has max_value {layer.max_value}, negative_slope"
            f" {layer.negative_slope}, threshold {layer.threshold}; accepted: a plain"
            " ReLU or ReLU6",
        )
    return [Node(layer.name, "relu", inputs, {"top": top})]


def _norm(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if layer.axis not in (-1, 3):
        raise _refusal(layer, f"it normalises axis {layer.axis}; the last is accepted")
    to_numpy = keras.ops.convert_to_numpy
    mean, variance = to_numpy(layer.moving_mean), to_numpy(layer.moving_variance)
    gamma = to_numpy(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = to_numpy(layer.beta) if layer.center else np.zeros_like(mean)
    settings = {
        "epsilon": layer.epsilon,
        "momentum": layer.momentum,
        "scale": layer.scale,
        "center": layer.center,
    }
    return [Node(layer.name, "norm", inputs, settings, (gamma, beta, mean, variance))]


def _add(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if len(inputs) != 2:
        raise _refusal(layer, f"it adds {len(inputs)} tensors; add two at a time")
    return [Node(layer.name, "add", inputs)]


def _concat(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if layer.axis not in (-1, 3):
        raise _refusal(layer, f"it joins along axis {layer.axis}; accepted: the last")
    return [Node(layer.name, "concat", inputs)]


def _upsample(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if layer.interpolation not in ("bilinear", "nearest"):
        raise _refusal(
            layer,
            f"it interpolates {layer.interpolation}; accepted: bilinear, nearest",
        )
    settings = {"size": tuple(layer.size), "interpolation": layer.interpolation}
    return [Node(layer.name, "upsample", inputs, settings)]


def _pool(kind: Kind) -> Reader:
    def read(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
        settings = {
            "size": tuple(layer.pool_size),
            "strides": tuple(layer.strides),
            "padding": layer.padding,
        }
        return [Node(layer.name, kind, inputs, settings)]

    return read


def _global_pool(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    if not layer.keepdims:
        raise _refusal(layer, "it drops height and width; set keepdims=True")
    return [Node(layer.name, "pool_global", inputs)]


def _pad(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    return [Node(layer.name, "pad", inputs, {"sides": layer.padding})]


def _crop(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    return [Node(layer.name, "crop", inputs, {"sides": layer.cropping})]


def _nothing(layer: keras.layers.Layer, inputs: tuple[str, ...]) -> list[Node]:
    return []


# Exact types: a subclass may compute something else. Dropout is left out: fine-tuning
# is too short to overfit, and every exit must see the deployed network's values.
_READERS: dict[type, Reader] = {
    keras.layers.InputLayer: _input,
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.Conv2DTranspose: _convolution,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.BatchNormalization: _norm,
    BatchNormalization: _norm,
    keras.layers.ReLU: _relu,
    keras.layers.Activation: _activation,
    keras.layers.Add: _add,
    keras.layers.Concatenate: _concat,
    keras.layers.UpSampling2D: _upsample,
    keras.layers.MaxPooling2D: _pool("pool_max"),
    keras.layers.AveragePooling2D: _pool("pool_average"),
    keras.layers.GlobalAveragePooling2D: _global_pool,
    keras.layers.ZeroPadding2D: _pad,
    keras.layers.Cropping2D: _crop,
    keras.layers.Dropout: _nothing,
    keras.layers.SpatialDropout2D: _nothing,
}
