"""Auto-DeepLab's found network (Liu et al., CVPR 2019): cells along a path of strides.

Every cell reads the two outputs before it, first brought to its width. Five blocks sum
two operations each; the cell puts out all five side by side. Cell and path are those of
the authors' TensorFlow code (deeplab/core of tensorflow/models); the numbers of
parameters agree with the published ones to the last digit.

Ours: bilinear resizes take half-pixel centres, and halving is the mean of 2x2 cells,
which is the same function. Drop path, a training aid, is left out.
"""

from __future__ import annotations

from typing import Any

import keras

from mess_tf.models import blocks

FILTERS = {"auto_deeplab_s": 20, "auto_deeplab_m": 32, "auto_deeplab_l": 48}
COARSEST = 32
PATH = (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)
"""Per cell, its stride: 4 * 2**entry."""

# Per block, two (operation, kernel, input): inputs 0 and 1 are this cell's and the one
# before, 2 the first block's output, and so on.
_BLOCKS = (
    (("atrous", 5, 1), ("separable", 3, 0)),
    (("separable", 3, 1), ("atrous", 3, 0)),
    (("separable", 3, 3), ("separable", 3, 1)),
    (("separable", 5, 4), ("separable", 5, 2)),
    (("separable", 5, 3), ("atrous", 5, 5)),
)


def auto_deeplab_cells(image: Any, filters: int) -> list[tuple[Any, int]]:
    """The stem and all cells.

    Args:
        image: tensor (B, H, W, 3) whose sides are multiples of 32.
        filters: F of the paper; a block at stride s is F s / 4 wide, a cell five times
            that.

    Returns:
        per cell its output (B, H / s, W / s, 5 F s / 4), not rectified, and s.
    """
    x = blocks.normalised(_conv(image, 64, 3, "stem_0_conv", strides=2), "stem_0_bn")
    x = keras.layers.ReLU(name="stem_0_relu")(x)
    before = blocks.normalised(_conv(x, 64, 3, "stem_1_conv"), "stem_1_bn")
    x = blocks.normalised(
        _conv(_rectified(before, "stem_2"), 128, 3, "stem_2_conv", strides=2),
        "stem_2_bn",
    )
    level, level_before = 0, -1
    ends = []
    for number, own in enumerate(PATH, start=1):
        prefix = f"cell_{number}"
        current = _resized(x, level - min(own, level), f"{prefix}_input")
        # To the grid that this cell reads; it is the cell that makes it coarser.
        other = _resized(before, level_before - min(own, level), f"{prefix}_before")
        before, level_before = x, level
        x = _cell(current, other, filters * 2**own, prefix, halve=own > level)
        level = own
        ends.append((x, 4 * 2**own))
    return ends


def _cell(x: Any, before: Any, width: int, prefix: str, *, halve: bool) -> Any:
    inputs = [_entry(x, width, f"{prefix}_input")]
    fits = before.shape[-1] == width
    inputs.append(before if fits else _entry(before, width, f"{prefix}_before"))
    for number, operations in enumerate(_BLOCKS, start=1):
        summed = [
            _operation(
                inputs[source],
                operation,
                kernel,
                f"{prefix}_block{number}_{side}",
                # What an earlier block of the cell made is on the coarser grid already.
                halve=halve and source < 2,
            )
            for side, (operation, kernel, source) in zip("ab", operations, strict=True)
        ]
        inputs.append(keras.layers.Add(name=f"{prefix}_block{number}_add")(summed))
    return keras.layers.Concatenate(name=f"{prefix}_concat")(inputs[2:])


def _operation(x: Any, operation: str, kernel: int, prefix: str, *, halve: bool) -> Any:
    if operation == "separable":
        x = separable(x, kernel, f"{prefix}_1", strides=2 if halve else 1)
        return separable(x, kernel, f"{prefix}_2")
    x = _rectified(x, prefix)
    if halve:
        x = keras.layers.AveragePooling2D(2, name=f"{prefix}_half")(x)
    width, dilation = x.shape[-1], 1 if halve else 2
    x = _conv(x, width, kernel, f"{prefix}_conv", dilation=dilation)
    return blocks.normalised(x, f"{prefix}_bn")


def separable(
    x: Any, kernel: int, prefix: str, *, strides: int = 1, dilation: int = 1
) -> Any:
    """ReLU, depthwise and 1x1 convolution, batch normalisation."""
    x = _rectified(x, prefix)
    width = x.shape[-1]
    x = keras.layers.DepthwiseConv2D(
        kernel,
        strides=strides,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{prefix}_depthwise",
    )(x)
    return blocks.normalised(_conv(x, width, 1, f"{prefix}_pointwise"), f"{prefix}_bn")


def _entry(x: Any, width: int, prefix: str) -> Any:
    x = _conv(_rectified(x, prefix), width, 1, f"{prefix}_conv")
    return blocks.normalised(x, f"{prefix}_bn")


def _resized(x: Any, levels: int, prefix: str) -> Any:
    """Twice as fine per level above 0, twice as coarse per level below."""
    if levels > 0:
        return keras.layers.UpSampling2D(
            2**levels, interpolation="bilinear", name=f"{prefix}_up"
        )(x)
    if levels < 0:
        return keras.layers.AveragePooling2D(2**-levels, name=f"{prefix}_down")(x)
    return x


def _rectified(x: Any, prefix: str) -> Any:
    return keras.layers.ReLU(name=f"{prefix}_relu")(x)


def _conv(
    x: Any, filters: int, kernel: int, name: str, *, strides: int = 1, dilation: int = 1
) -> Any:
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
