"""Conversion of a fine-tuned network to a flatbuffer that is int8 throughout.

The graph is written anew for the converter: batch normalisation folded into rounded
kernels here, dilations native, one fake quantisation per value with the trained range.
The converter's folding is not needed, and what would keep it from finding int8
kernels (SPACE_TO_BATCH_ND, a normalisation left beside its convolution, kernels of
depthwise convolutions with one scale) never arises. Kernels reach it as constants that
lie on their int8 grid already; its per-channel quantisation finds the same grid again.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.flatbuffer.writer import write_model
from mess_tf.quantising.fake_quantisation import FakeQuantised, round_kernel
from mess_tf.quantising.int8_graph import Int8Graph, Int8Operator, build_int8_graph
from mess_tf.quantising.network_graph import Node
from mess_tf.terminal.output_capture import capture_output

Ranges = Mapping[str, tuple[float, float]]
Emitter = Callable[[Int8Operator, Sequence[tf.Tensor], Ranges], tf.Tensor]
"""(operator, its inputs, ranges) -> its value before rounding."""

# A bias is stored in steps of (input scale x kernel scale), as int32.
_MOST_BIAS_STEPS = 2.0**30


def convert_quantised(
    trained: FakeQuantised,
    size: tuple[int, int],
    outputs: Mapping[str, str],
) -> bytes:
    """Converts a fine-tuned network to int8.

    Args:
        trained: after fine-tuning.
        size: (height, width) of the image.
        outputs: name of a tensor in the file -> layer whose output it is.

    Returns:
        A flatbuffer with the input ``image`` and the outputs in the given order, int8.

    Raises:
        MessError: the converter refuses.
    """
    graph = build_int8_graph(trained.mirror.trained())
    ranges = trained.ranges_now()
    channels = graph.network.image_shape[2]
    wanted = [graph.network.value_of[layer] for layer in outputs.values()]

    def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
        values = run_graph(graph, ranges, image)
        return {
            name: tf.identity(values[operator])
            for operator, name in zip(wanted, outputs, strict=True)
        }

    with capture_output():
        warnings.simplefilter("ignore")  # put back by capture_output()
        traced = tf.function(
            function,
            input_signature=[
                tf.TensorSpec((1, *size, channels), tf.float32, name=IMAGE_TENSOR)
            ],
            autograph=False,
        )
        content = _convert(traced)
    return _named(content, list(outputs))


def _convert(traced: tf.types.experimental.PolymorphicFunction) -> bytes:
    """Converts by way of a SavedModel, whose signature says which output is which."""
    module = tf.Module()
    module.serve = traced
    with tempfile.TemporaryDirectory() as folder, capture_output() as captured:
        warnings.simplefilter("ignore")  # put back by capture_output()
        tf.saved_model.save(module, folder, signatures=traced)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        try:
            return bytes(converter.convert())
        # The converter raises bare Exceptions of several kinds for one and the same
        # condition, so the whole family is turned into one line here.
        except Exception as error:
            lines = f"{error}\n{captured()}".strip().splitlines()
            raise MessError(
                f"The fine-tuned network cannot be converted: {lines[0][:300]}"
            ) from error


def _named(content: bytes, outputs: Sequence[str]) -> bytes:
    """The flatbuffer with its borders called and ordered as asked."""
    model = read_model(content, "the converter's result")
    graph = Graph(model)
    (signature,) = model.signatureDefs
    index_of = {m.name.decode(): m.tensorIndex for m in signature.outputs}
    if len(set(index_of.values())) != len(outputs):
        raise MessError(
            f"Two of the outputs {list(outputs)} are one and the same tensor; leave one"
            " of them out."
        )
    names = {graph.inputs[0]: IMAGE_TENSOR}
    names |= {index_of[name]: name for name in outputs}
    for index, tensor in enumerate(graph.tensors):
        name = graph.name(index)
        if index in names:
            tensor.name = names[index].encode()
        elif name in names.values():
            tensor.name = f"inner_{name}".encode()
    graph.subgraph.outputs = np.array([index_of[name] for name in outputs], np.int32)
    return write_model(model)


def run_graph(
    graph: Int8Graph, ranges: Ranges, image: tf.Tensor
) -> dict[str, tf.Tensor]:
    """All values of the int8 graph, as float32 tensors on their grids.

    Args:
        graph: of the network with its trained weights.
        ranges: (low, high) per operator.
        image: float32 tensor (1, H, W, C).
    """
    values: dict[str, tf.Tensor] = {}
    for operator in graph.operators:
        given = [values[name] for name in operator.inputs] or [image]
        values[operator.name] = run_operator(operator, ranges, given)
    return values


def run_operator(
    operator: Int8Operator, ranges: Ranges, given: Sequence[tf.Tensor]
) -> tf.Tensor:
    """One value of the int8 graph from the values that its operator reads."""
    value = _EMITTERS[operator.node.kind](operator, given, ranges)
    if operator.relu is not None:
        value = _relu(operator.relu, value)
    low, high = ranges[operator.name]
    return tf.quantization.fake_quant_with_min_max_vars(
        value, tf.constant(low), tf.constant(high)
    )


def folded(operator: Int8Operator, ranges: Ranges) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's rounded kernel and bias with its batch normalisation inside.

    Returns:
        float32 kernel in the layout of the node's kind, float32 bias (channels,).
    """
    node = operator.node
    if node.kind == "norm":
        factor, bias = _affine(node)
        return factor.reshape(1, 1, -1, 1).astype(np.float32), bias.astype(np.float32)
    with tf.init_scope():  # a number, also while a graph is traced
        kernel = round_kernel(tf.constant(node.weights[0]), node.kind).numpy()
    kernel = kernel.astype(np.float64)
    channels = _channels(node.kind, kernel)
    bias = np.zeros(channels)
    if len(node.weights) > 1:
        bias = node.weights[1].astype(np.float64)
    if operator.norm is not None:
        factor, shift = _affine(operator.norm)
        kernel = kernel * _along_channels(node.kind, factor, kernel)
        bias = bias * factor + shift
    low, high = ranges[operator.inputs[0]]
    dead = _dead_channels(node.kind, kernel, bias, (high - low) / 255)
    kernel = kernel * ~_along_channels(node.kind, dead, kernel)
    return kernel.astype(np.float32), bias.astype(np.float32)


def _affine(norm: Node) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation as (factor, shift) per channel, float64."""
    gamma, beta, mean, variance = (w.astype(np.float64) for w in norm.weights)
    factor = gamma / np.sqrt(variance + norm.settings["epsilon"])
    return factor, beta - mean * factor


def _channels(kind: str, kernel: np.ndarray) -> int:
    if kind == "depthwise":
        return kernel.shape[2] * kernel.shape[3]
    return kernel.shape[2] if kind == "transposed" else kernel.shape[3]


def _along_channels(kind: str, values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Per-channel values in a shape that multiplies a kernel."""
    if kind == "depthwise":
        return values.reshape(kernel.shape[2:])
    return values[:, None] if kind == "transposed" else values


def _dead_channels(
    kind: str, kernel: np.ndarray, bias: np.ndarray, input_scale: float
) -> np.ndarray:
    """Channels whose kernel is so small beside the bias that an int32 cannot hold it.

    Such a channel is dead: its kernel adds less than a millionth of its bias.
    """
    if kind == "depthwise":
        largest = np.abs(kernel).max(axis=(0, 1)).reshape(-1)
    else:
        largest = np.abs(kernel).max(axis=(0, 1, 3 if kind == "transposed" else 2))
    steps_of_one = largest / 127 * input_scale
    return np.abs(bias) > _MOST_BIAS_STEPS * steps_of_one


# --- One emitter per kind of node: (operator, inputs, ranges) ------------------


def _convolve(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    kernel, bias = folded(operator, ranges)
    settings = operator.node.settings
    y = tf.nn.conv2d(
        given[0],
        kernel,
        settings["strides"],
        settings["padding"].upper(),
        dilations=settings["dilations"],
    )
    return y + bias


def _depthwise(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    kernel, bias = folded(operator, ranges)
    plain: dict[str, Any] = {
        "strides": (1, 1),
        "padding": "same",
        "dilations": (1, 1),
    }
    settings = plain if operator.node.kind == "norm" else operator.node.settings
    strides = [1, *settings["strides"], 1]
    padding = settings["padding"].upper()
    if tf.executing_eagerly():
        # TensorFlow's CPU kernel, in use wherever oneDNN is not, takes no dilation:
        # numbers come from the space-to-batch form of the same sums.
        y = tf.nn.depthwise_conv2d(
            given[0], kernel, strides, padding, dilations=settings["dilations"]
        )
    else:
        # A graph is only traced: dilation reaches the flatbuffer as one operator.
        y = tf.raw_ops.DepthwiseConv2dNative(
            input=given[0],
            filter=kernel,
            strides=strides,
            padding=padding,
            dilations=[1, *settings["dilations"], 1],
        )
    return y + bias


def _transposed(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    kernel, bias = folded(operator, ranges)
    settings = operator.node.settings
    valid = settings["padding"] == "valid"
    sides = [
        side * stride + (max(width - stride, 0) if valid else 0)
        for side, stride, width in zip(
            given[0].shape[1:3], settings["strides"], kernel.shape[:2], strict=True
        )
    ]
    y = tf.nn.conv2d_transpose(
        given[0],
        kernel,
        (1, *sides, kernel.shape[2]),
        settings["strides"],
        settings["padding"].upper(),
    )
    return y + bias


def _relu(node: Node, values: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(values) if node.settings["top"] is None else tf.nn.relu6(values)


def _upsample(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    settings = operator.node.settings
    sides = [n * f for n, f in zip(given[0].shape[1:3], settings["size"], strict=True)]
    return tf.image.resize(given[0], sides, settings["interpolation"])


def _pool(
    function: Callable[..., tf.Tensor],
) -> Emitter:
    def emit(
        operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
    ) -> tf.Tensor:
        settings = operator.node.settings
        padding = settings["padding"].upper()
        return function(given[0], settings["size"], settings["strides"], padding)

    return emit


def _pad(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    return tf.pad(given[0], [(0, 0), *operator.node.settings["sides"], (0, 0)])


def _crop(
    operator: Int8Operator, given: Sequence[tf.Tensor], ranges: Ranges
) -> tf.Tensor:
    (top, bottom), (left, right) = operator.node.settings["sides"]
    _, height, width, _ = given[0].shape
    return given[0][:, top : height - bottom, left : width - right, :]


_EMITTERS: dict[str, Emitter] = {
    "input": lambda operator, given, ranges: given[0],
    "conv": _convolve,
    "depthwise": _depthwise,
    "transposed": _transposed,
    "norm": _depthwise,
    "relu": lambda operator, given, ranges: _relu(operator.node, given[0]),
    "add": lambda operator, given, ranges: given[0] + given[1],
    "concat": lambda operator, given, ranges: tf.concat(given, axis=-1),
    "upsample": _upsample,
    "pool_max": _pool(tf.nn.max_pool2d),
    "pool_average": _pool(tf.nn.avg_pool2d),
    "pool_global": lambda operator, given, ranges: tf.reduce_mean(
        given[0], (1, 2), keepdims=True
    ),
    "pad": _pad,
    "crop": _crop,
}
