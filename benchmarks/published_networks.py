"""Auto-DeepLab as published, a single-exit baseline of the paper, and its MACs.

Its decoder is no head of our space: two dense 3x3 convolutions at stride 4, half of all
its MACs. The other baselines are what ``design_supernet`` builds.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.models import blocks
from mess_tf.models.auto_deeplab import FILTERS, auto_deeplab_cells
from mess_tf.models.backbones import BACKBONES
from mess_tf.models.heads import aspp
from mess_tf.models.macs import layer_macs

_LOW_LEVEL = 2  # the last cell at stride 4 before the path leaves it


def auto_deeplab_network(name: str, image_size: tuple[int, int], classes: int) -> Any:
    """Auto-DeepLab whole: cells, ASPP, DeepLabV3+'s decoder with dense convolutions.

    Args:
        name: ``auto_deeplab_s``, ``_m`` or ``_l``.
        image_size: (height, width) in pixels, multiples of 32.
        classes: number of classes C.

    Returns:
        Keras model: image (B, H, W, 3) to logits (B, H / 4, W / 4, C).
    """
    image = keras.Input((*image_size, 3), name=IMAGE_TENSOR)
    cells = auto_deeplab_cells(image, FILTERS[name])
    features, stride = cells[-1]
    x = keras.layers.ReLU(name="features_relu")(features)
    x = aspp(x, stride, "end", False, BACKBONES[name].head_options)
    x = keras.layers.UpSampling2D(
        stride // 4, interpolation="bilinear", name="decoder_up"
    )(x)
    low, _ = cells[_LOW_LEVEL]
    x = keras.layers.Concatenate(name="decoder_concat")(
        [x, _conv(low, 48, 1, "decoder_low")]
    )
    for number in (1, 2):
        x = _conv(x, 256, 3, f"decoder_{number}")
    logits = keras.layers.Conv2D(classes, 1, name="logits")(x)
    return keras.Model(image, logits, name=name)


def authors_macs(model: Any) -> int:
    """MACs the way the authors' framework ran the network, for their published figures.

    TensorFlow 1 computes a dilated convolution on a grid padded to multiples of its
    rate, and DeepLab takes images of one pixel more than a multiple of the stride, so
    that every grid has one row and one column more than at the size given here.

    Args:
        model: at a size of multiples of 32, e.g. 1024x2048 for 1025x2049.
    """
    features = model.get_layer("end_aspp0").output.shape[1:3]
    total = 0.0
    for layer in model.layers:
        if not (macs := layer_macs(layer)):
            continue
        grid = layer.output.shape[1:3]
        # The pooled branch is projected enlarged there, and as one cell here.
        wanted = features if layer.name == "end_pool_project" else grid
        more = [side + 1 if side > 1 else side for side in wanted]
        rates = getattr(layer, "dilation_rate", (1, 1))
        padded = [
            math.ceil(side / rate) * rate
            for side, rate in zip(more, rates, strict=True)
        ]
        total += macs * math.prod(padded) / math.prod(grid)
    return round(total)


def _conv(x: Any, width: int, kernel: int, name: str) -> Any:
    bn, relu = f"{name}_bn", f"{name}_relu"
    return blocks.conv_bn(x, width, kernel, name, bn, relu, relu6=False)
