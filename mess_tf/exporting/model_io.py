"""Input and output operators of an exported file: normalisation, types, class ids.

Camera pixels become network input in one of two ways. Where the int8 image tensor's
steps are one per pixel value (``folds_pixels``), a pixel p is the int8 value p - 128:
one QUANTIZE between tensors of one scale, without rounding. Otherwise the pixel's value
goes through one 1x1 depthwise convolution that holds the normalisation, in int8 where
the pieces are. Everything added at the ends is named ``input_...`` or ``output_...``.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.exporting.options import IoType
from mess_tf.flatbuffer.graph_builder import GraphBuilder
from mess_tf.flatbuffer.schema import per_tensor_quantization
from mess_tf.runtime.signature_names import CLASSES

_HALF_A_STEP = 0.5 + 1e-4


def folds_pixels(image: TensorInfo, preprocessing: Preprocessing) -> bool:
    """Whether p - 128 is a nearest int8 value of pixel p's normalised value, for all p.

    Half a step off counts as nearest: MobileNet's (p - 127.5) / 127.5 lies midway
    between two steps, whichever way it is rounded.
    """
    if image.dtype != "int8":
        return False
    pixels = np.arange(256)[:, None]
    exact = (pixels - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    stands_for = (pixels - 128 - image.zero_point) * image.scale
    return bool((np.abs(stands_for - exact) <= _HALF_A_STEP * image.scale).all())


def add_image(
    graph: GraphBuilder,
    image_info: TensorInfo,
    wanted: IoType | None,
    preprocessing: Preprocessing,
) -> int:
    """Adds the image input of a type, and the operators that quantise or normalise it.

    Args:
        graph: whose only input it becomes.
        image_info: the image as the first segment takes it.
        wanted: see ``ExportForm.input``.
        preprocessing: that pixels go through.

    Returns:
        The tensor that the first segment reads.
    """
    if wanted in (None, image_info.dtype):
        image = graph.add_tensor_from_info(image_info)
        graph.inputs = [image]
        return image
    inside = graph.add_tensor_from_info(image_info, "input_normalised")
    if wanted == "float32":
        image = graph.add_tensor(IMAGE_TENSOR, image_info.shape, "float32")
        values = image
        if folds_pixels(image_info, preprocessing):
            values = _add_raise(graph, image, image_info.scale / 4)
        graph.add_quantize(values, inside)
    elif folds_pixels(image_info, preprocessing):
        same = per_tensor_quantization(image_info.scale, image_info.zero_point + 128)
        image = graph.add_tensor(IMAGE_TENSOR, image_info.shape, "uint8", same)
        graph.add_quantize(image, inside)
    else:
        image = _add_normalisation(graph, inside, image_info, preprocessing)
    graph.inputs = [image]
    return inside


def _add_raise(graph: GraphBuilder, image: int, by: float) -> int:
    """Appends ADD of less than half a quantisation step.

    Pixels may lie midway between two steps; runtimes round such values by their last
    bit, each in its way. Raised a little, all round to the value that p - 128 is.
    """
    shape = graph.tensors[image].shape
    raised = graph.add_tensor("input_raised", shape, "float32")
    amount = np.array([by], np.float32)
    graph.add_operator(
        fb.BuiltinOperator.ADD,
        1,
        [image, graph.add_tensor("input_raise", (1,), "float32", value=amount)],
        [raised],
        fb.BuiltinOptions.AddOptions,
        fb.AddOptionsT(),
    )
    return raised


def _add_normalisation(
    graph: GraphBuilder,
    inside: int,
    image_info: TensorInfo,
    preprocessing: Preprocessing,
) -> int:
    """Adds a uint8 image and one depthwise convolution that normalises its pixels."""
    value = per_tensor_quantization(1.0, 0)
    image = graph.add_tensor(IMAGE_TENSOR, image_info.shape, "uint8", value)
    factor = 1 / np.array(preprocessing.std)
    shift = -np.array(preprocessing.mean) * factor
    kernel_shape = (1, 1, 1, len(factor))
    if image_info.dtype == "int8":
        pixels = graph.add_tensor(
            "input_pixels", image_info.shape, "int8", per_tensor_quantization(1.0, -128)
        )
        graph.add_quantize(image, pixels)
        scales = (factor / 127).astype(np.float32)
        kernel = graph.add_tensor(
            "input_factor",
            kernel_shape,
            "int8",
            _per_channel(scales, 3),
            np.full(kernel_shape, 127, np.int8),
        )
        bias = graph.add_tensor(
            "input_shift",
            (len(factor),),
            "int32",
            _per_channel(scales, 0),
            np.round(shift / scales).astype(np.int32),
        )
    else:
        pixels = graph.add_tensor("input_pixels", image_info.shape, "float32")
        graph.add_dequantize(image, pixels)
        kernel = graph.add_tensor(
            "input_factor",
            kernel_shape,
            "float32",
            value=factor.astype(np.float32).reshape(kernel_shape),
        )
        bias = graph.add_tensor(
            "input_shift", (len(factor),), "float32", value=shift.astype(np.float32)
        )
    graph.add_operator(
        fb.BuiltinOperator.DEPTHWISE_CONV_2D,
        3,
        [pixels, kernel, bias],
        [inside],
        fb.BuiltinOptions.DepthwiseConv2DOptions,
        fb.DepthwiseConv2DOptionsT(
            padding=fb.Padding.VALID,
            strideW=1,
            strideH=1,
            depthMultiplier=1,
            dilationWFactor=1,
            dilationHFactor=1,
        ),
    )
    return image


def _per_channel(scales: np.ndarray, dimension: int) -> fb.QuantizationParametersT:
    return fb.QuantizationParametersT(
        scale=scales,
        zeroPoint=np.zeros(len(scales), np.int64),
        quantizedDimension=dimension,
    )


def add_classes(graph: GraphBuilder, logits: int) -> int:
    """Appends the class of the largest logit, uint8 (1, h, w); the first one wins."""
    shape = graph.tensors[logits].shape[:3]
    axis = graph.add_tensor("class_axis", (), "int32", value=np.array(3, np.int32))
    index = graph.add_tensor("class_index", shape, "int32")
    graph.add_operator(
        fb.BuiltinOperator.ARG_MAX,
        2,
        [logits, axis],
        [index],
        fb.BuiltinOptions.ArgMaxOptions,
        fb.ArgMaxOptionsT(outputType=fb.TensorType.INT32),
    )
    classes = graph.add_tensor(CLASSES, shape, "uint8")
    graph.add_operator(
        fb.BuiltinOperator.CAST,
        1,
        [index],
        [classes],
        fb.BuiltinOptions.CastOptions,
        fb.CastOptionsT(
            inDataType=fb.TensorType.INT32, outDataType=fb.TensorType.UINT8
        ),
    )
    return classes


def add_logits_as(graph: GraphBuilder, logits: int, wanted: IoType | None) -> int:
    """Appends DEQUANTIZE or a requantisation to uint8; real values stay the same."""
    tensor = graph.tensors[logits]
    stored = "int8" if tensor.type == fb.TensorType.INT8 else "float32"
    if wanted in (None, stored):
        return logits
    if wanted == "float32":
        given = graph.add_tensor("output_logits", tensor.shape, "float32")
        graph.add_dequantize(logits, given)
        return given
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    same = per_tensor_quantization(float(scale), int(zero_point) + 128)
    given = graph.add_tensor("output_logits", tensor.shape, "uint8", same)
    graph.add_quantize(logits, given)
    return given
