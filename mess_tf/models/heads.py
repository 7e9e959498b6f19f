"""Heads: from an exit point's features (and skips) to logits on the head's own grid.

Order of the paper: channel reduction -> extra blocks (rapid dilation) -> FCN or
DeepLabV3 (ASPP). Our addition, as in DeepLabV3+: a decoder that merges the features of
one or two earlier exit points, which are already computed, at their finer stride.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mess_tf.core.piece_names import head_name
from mess_tf.core.supernet_spec import OWN, HeadSpec
from mess_tf.models import blocks
from mess_tf.models.backbones import Backbone

ASPP_RATES_AT_16 = (6, 12, 18)  # DeepLabV3's, for output stride 16


def build_head(
    features: Any,
    skips: Sequence[tuple[Any, int]],
    spec: HeadSpec,
    exit_index: int,
    *,
    stride: int,
    dilation: int,
    classes: int,
    backbone: Backbone,
    options: Mapping[str, Any],
) -> Any:
    """Adds one head to a functional model.

    Args:
        features: the exit point's tensor (B, h, w, channels).
        skips: (tensor, stride) per entry of ``spec.skips``.
        spec: the head.
        exit_index: of the exit point, for names.
        stride: image pixels per cell of ``features``.
        dilation: rate in force at the exit point.
        classes: number of classes C.
        backbone: whose block kind and activation the head follows.
        options: ``head_width`` (ASPP), ``fcn_width``, ``decoder_width``,
            ``skip_width``, ``aspp_rates``.

    Returns:
        Logits tensor (B, h', w', C) on the grid of the finest input.
    """
    prefix = head_name(exit_index, spec.id)
    if spec.kind == OWN and backbone.end is not None:
        return backbone.end(features, f"{prefix}_logits")
    relu6 = backbone.relu6
    x = features
    if spec.reduction > 1:
        # Never narrower than the divisor 4 of a bottleneck block can split evenly.
        width = max(8, x.shape[-1] // spec.reduction // 4 * 4)
        x = _conv(x, width, 1, f"{prefix}_crm", relu6)
    rate = dilation
    for number in range(1, spec.blocks + 1):
        rate = rate * 2 if spec.rapid_dilation else dilation
        x = backbone.extra_block(x, f"{prefix}_block{number}", rate)
    if spec.kind == "fcn":
        # A quarter of the input (the paper's 320 -> 80) would leave narrow exits with a
        # handful of channels.
        width = max(x.shape[-1] // 4, options["fcn_width"])
        x = _conv(x, width, 3, f"{prefix}_conv", relu6)
    else:
        x = aspp(x, stride, prefix, relu6, options)
        if not spec.skips:
            x = _conv(x, options["head_width"], 3, f"{prefix}_conv", relu6)
    for index, (skip, skip_stride) in zip(spec.skips, skips, strict=True):
        x = _merge(
            x, stride // skip_stride, skip, f"{prefix}_skip{index}", relu6, options
        )
        stride = skip_stride
    # Losses and confidences are computed from float32, whatever the rest computes in.
    return keras.layers.Conv2D(classes, 1, dtype="float32", name=f"{prefix}_logits")(x)


def _conv(
    x: Any, width: int, kernel: int, name: str, relu6: bool, dilation: int = 1
) -> Any:
    return blocks.conv_bn(
        x,
        width,
        kernel,
        name,
        f"{name}_bn",
        f"{name}_relu",
        dilation=dilation,
        relu6=relu6,
    )


def aspp_rates(stride: int, options: Mapping[str, Any]) -> tuple[int, ...]:
    """Dilation rates of the ASPP at a feature stride; given ones are for stride 16."""
    rates = options.get("aspp_rates") or ASPP_RATES_AT_16
    return tuple(max(1, round(rate * 16 / stride)) for rate in rates)


def aspp(
    x: Any, stride: int, prefix: str, relu6: bool, options: Mapping[str, Any]
) -> Any:
    """Atrous spatial pyramid pooling of DeepLabV3.

    The image-pooling branch is projected on its own and added by broadcasting. That is
    the same function as concatenating its upsampled copy before the 1x1 projection, and
    spares a resize and a fifth of the projection.
    """
    width = options["head_width"]
    branches = [_conv(x, width, 1, f"{prefix}_aspp0", relu6)]
    for number, rate in enumerate(aspp_rates(stride, options), start=1):
        branches.append(
            _conv(x, width, 3, f"{prefix}_aspp{number}", relu6, dilation=rate)
        )
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}_pool")(
        x
    )
    # No batch normalisation here: over 1x1 maps its statistics are those of a batch.
    pooled = keras.layers.Conv2D(width, 1, name=f"{prefix}_pool_conv")(pooled)
    pooled = keras.layers.ReLU(
        max_value=6.0 if relu6 else None, name=f"{prefix}_pool_relu"
    )(pooled)
    pooled = keras.layers.Conv2D(
        width, 1, use_bias=False, name=f"{prefix}_pool_project"
    )(pooled)
    y = keras.layers.Concatenate(name=f"{prefix}_aspp_concat")(branches)
    # Normalised before the sum, so that the converter folds it into the convolution.
    y = blocks.conv_bn(y, width, 1, f"{prefix}_project", f"{prefix}_project_bn")
    y = keras.layers.Add(name=f"{prefix}_project_add")([y, pooled])
    return keras.layers.ReLU(
        max_value=6.0 if relu6 else None, name=f"{prefix}_project_relu"
    )(y)


def _merge(
    x: Any,
    factor: int,
    skip: Any,
    prefix: str,
    relu6: bool,
    options: Mapping[str, Any],
) -> Any:
    """One decoder step: upsample by ``factor``, join the projected skip, refine."""
    if factor > 1:
        x = keras.layers.UpSampling2D(
            factor, interpolation="bilinear", name=f"{prefix}_up"
        )(x)
    low = _conv(skip, options["skip_width"], 1, f"{prefix}_project", relu6)
    x = keras.layers.Concatenate(name=f"{prefix}_concat")([x, low])
    x = blocks.depthwise_bn(
        x,
        f"{prefix}_depthwise",
        f"{prefix}_depthwise_bn",
        f"{prefix}_depthwise_relu",
        relu6=relu6,
    )
    return _conv(x, options["decoder_width"], 1, f"{prefix}_pointwise", relu6)
