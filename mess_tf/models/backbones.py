"""Backbones with an output stride of 8, 16 or 32: strides past it become dilation.

As in DeepLab, the unit whose stride is removed still uses the dilation rate so far; the
rate then grows for the units after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.models import auto_deeplab, blocks
from mess_tf.models.imported_network import ADOPTED, build_body, build_end

OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class BlockEnd:
    """The output of one backbone block: a candidate exit point.

    Attributes:
        tensor: Keras tensor; the layer it comes from is named after the block.
        stride: image pixels per cell.
        dilation: rate in force there; extra blocks of a head start from it.
    """

    tensor: Any
    stride: int
    dilation: int

    @property
    def layer(self) -> str:
        return self.tensor._keras_history.operation.name


@dataclass(frozen=True)
class Backbone:
    """A registered backbone, or an adopted one.

    Attributes:
        build: (image tensor, output stride, options) -> block ends in order of depth.
        extra_block: adds one block of the backbone's own kind at the width of its
            input: (tensor, prefix, dilation) -> tensor.
        relu6: whether its activations are ReLU6 (its heads follow).
        head_options: widths that fit it; see ``mess_tf.models.heads``.
        preprocessing: of its ImageNet weights; of an adopted network as given.
        options: accepted options and their defaults.
        end: adds an adopted network's own end: (features, name of the logits) ->
            logits; None where there is none.
        only_size: (height, width) in pixels if it works at no other.
        output_strides: that it can be built with.
    """

    build: Callable[[Any, int, Mapping[str, Any]], list[BlockEnd]]
    extra_block: Callable[[Any, str, int], Any]
    relu6: bool
    head_options: Mapping[str, Any]
    preprocessing: Preprocessing
    options: Mapping[str, Any] = field(default_factory=dict)
    end: Callable[[Any, str], Any] | None = None
    only_size: tuple[int, int] | None = None
    output_strides: tuple[int, ...] = OUTPUT_STRIDES


class _Strides:
    """Turns strides into dilation once the output stride is reached."""

    def __init__(self, output_stride: int) -> None:
        self.output_stride = output_stride
        self.stride = 1
        self.dilation = 1

    def enter(self, strides: int) -> tuple[int, int]:
        """(strides, dilation) of the next unit; what follows sees the new rate."""
        if strides == 1:
            return 1, self.dilation
        if self.stride < self.output_stride:
            self.stride *= strides
            return strides, self.dilation
        dilation = self.dilation
        self.dilation *= strides
        return 1, dilation


def make_divisible(value: float, divisor: int = 8) -> int:
    """MobileNetV2's rounding of channel counts (never below 90 % of ``value``)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


# (expansion, channels, repeats, stride) of MobileNetV2's stages
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    image: Any, output_stride: int, options: Mapping[str, Any]
) -> list[BlockEnd]:
    """MobileNetV2 without its 1280-channel layer (segMBNetV2 of the paper)."""
    alpha = float(options["alpha"])
    strides = _Strides(output_stride)
    stride, _ = strides.enter(2)
    x = blocks.conv_bn(
        image,
        make_divisible(32 * alpha),
        3,
        "Conv1",
        "bn_Conv1",
        "Conv1_relu",
        strides=stride,
    )
    ends = []
    number = 0
    for expansion, channels, repeats, first_stride in _MOBILENET_V2:
        for repeat in range(repeats):
            stride, dilation = strides.enter(first_stride if repeat == 0 else 1)
            x = blocks.inverted_residual(
                x,
                make_divisible(channels * alpha),
                f"block_{number}" if number else "expanded_conv",
                expansion=expansion,
                strides=stride,
                dilation=dilation,
            )
            ends.append(BlockEnd(x, strides.stride, strides.dilation))
            number += 1
    return ends


_RESNET_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def _resnet(depth: str) -> Callable[[Any, int, Mapping[str, Any]], list[BlockEnd]]:
    def build(
        image: Any, output_stride: int, options: Mapping[str, Any]
    ) -> list[BlockEnd]:
        strides = _Strides(output_stride)
        strides.enter(2)
        x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(image)
        x = blocks.conv_bn(
            x,
            64,
            7,
            "conv1_conv",
            "conv1_bn",
            "conv1_relu",
            strides=2,
            padding="valid",
            relu6=False,
            epsilon=1.001e-5,
        )
        strides.enter(2)
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
        ends = []
        for stage, repeats in enumerate(_RESNET_BLOCKS[depth]):
            for repeat in range(repeats):
                stride, dilation = strides.enter(2 if stage and not repeat else 1)
                x = blocks.bottleneck(
                    x,
                    64 * 2**stage,
                    f"conv{stage + 2}_block{repeat + 1}",
                    strides=stride,
                    dilation=dilation,
                )
                ends.append(BlockEnd(x, strides.stride, strides.dilation))
        return ends

    return build


def _auto_deeplab(
    filters: int,
) -> Callable[[Any, int, Mapping[str, Any]], list[BlockEnd]]:
    def build(
        image: Any, output_stride: int, options: Mapping[str, Any]
    ) -> list[BlockEnd]:
        cells = auto_deeplab.auto_deeplab_cells(image, filters)
        return [BlockEnd(tensor, stride, 1) for tensor, stride in cells]

    return build


def _extra_separable(x: Any, prefix: str, dilation: int) -> Any:
    y = auto_deeplab.separable(x, 3, f"{prefix}_1", dilation=dilation)
    y = auto_deeplab.separable(y, 3, f"{prefix}_2", dilation=dilation)
    return keras.layers.Add(name=f"{prefix}_add")([x, y])


def _extra_inverted_residual(x: Any, prefix: str, dilation: int) -> Any:
    return blocks.inverted_residual(x, x.shape[-1], prefix, dilation=dilation)


def _extra_bottleneck(x: Any, prefix: str, dilation: int) -> Any:
    return blocks.bottleneck(x, x.shape[-1] // 4, prefix, dilation=dilation)


# keras.applications' ResNets expect BGR minus these means; our loader turns the first
# kernel around, so that all networks take RGB.
_CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))
_MOBILE_HEADS = {
    "head_width": 64,
    "fcn_width": 16,
    "decoder_width": 64,
    "skip_width": 24,
}
_RESNET_HEADS = {
    "head_width": 256,
    "fcn_width": 64,
    "decoder_width": 256,
    "skip_width": 48,
}

BACKBONES: dict[str, Backbone] = {
    "mobilenet_v2": Backbone(
        build=mobilenet_v2,
        extra_block=_extra_inverted_residual,
        relu6=True,
        head_options=_MOBILE_HEADS,
        preprocessing=Preprocessing(),
        options={"alpha": 1.0},
    ),
    **{
        name: Backbone(
            build=_resnet(name),
            extra_block=_extra_bottleneck,
            relu6=False,
            head_options=_RESNET_HEADS,
            preprocessing=_CAFFE,
        )
        for name in _RESNET_BLOCKS
    },
    **{
        name: Backbone(
            build=_auto_deeplab(filters),
            extra_block=_extra_separable,
            relu6=False,
            head_options=_RESNET_HEADS,
            preprocessing=Preprocessing(),
            output_strides=(auto_deeplab.COARSEST,),
        )
        for name, filters in auto_deeplab.FILTERS.items()
    },
}


def get_backbone(
    name: str, output_stride: int, options: Mapping[str, Any] | None = None
) -> Backbone:
    """Looks a backbone up; one clear line for a name or stride that is not there.

    Args:
        name: registered, or ``adopted``.
        output_stride: 8, 16 or 32 for a registered one.
        options: of an adopted one.
    """
    if name == ADOPTED and options:
        return _adopted(options)
    if name not in BACKBONES:
        raise MessError(
            f"Backbone {name!r} is unknown; accepted: {', '.join(sorted(BACKBONES))}."
        )
    backbone = BACKBONES[name]
    if output_stride not in backbone.output_strides:
        accepted = " or ".join(map(str, backbone.output_strides))
        raise MessError(
            f"Output stride {output_stride} is not accepted with {name}; set"
            f" output_stride to {accepted}."
        )
    return backbone


def _adopted(options: Mapping[str, Any]) -> Backbone:
    def build(image: Any, output_stride: int, own: Mapping[str, Any]) -> list[BlockEnd]:
        return [
            BlockEnd(tensor, stride, 1) for tensor, stride in build_body(image, own)
        ]

    def end(features: Any, name: str) -> Any:
        return build_end(features, options, name)

    mobile, size = options["mobile"], options["size"]
    return Backbone(
        build=build,
        extra_block=_extra_inverted_residual if mobile else _extra_bottleneck,
        relu6=mobile,
        head_options=_RESNET_HEADS if options["wide"] else _MOBILE_HEADS,
        preprocessing=Preprocessing(tuple(options["mean"]), tuple(options["std"])),
        options=options,
        end=end if options["end"] is not None else None,
        only_size=tuple(size) if size else None,
    )
