"""The layers that backbones and heads are made of, every one with its own name."""

from __future__ import annotations

from typing import Any

import keras

from mess_tf.models.batch_norm import BatchNormalization

BATCH_NORM_MOMENTUM = 0.98  # Keras' MobileNetV2 has 0.999: too slow for short training
BATCH_NORM_EPSILON = 1e-3


def conv_bn(
    x: Any,
    filters: int,
    kernel: int,
    conv_name: str,
    bn_name: str,
    relu_name: str | None = None,
    *,
    strides: int = 1,
    dilation: int = 1,
    padding: str = "same",
    relu6: bool = True,
    epsilon: float = BATCH_NORM_EPSILON,
) -> Any:
    """Convolution without bias, batch normalisation, ReLU if ``relu_name`` is given."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        dilation_rate=dilation,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=conv_name,
    )(x)
    return _bn_relu(x, bn_name, relu_name, relu6, epsilon)


def depthwise_bn(
    x: Any,
    depthwise_name: str,
    bn_name: str,
    relu_name: str | None,
    *,
    strides: int = 1,
    dilation: int = 1,
    relu6: bool = True,
) -> Any:
    """3x3 depthwise convolution without bias, batch normalisation, and ReLU."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=depthwise_name,
    )(x)
    return _bn_relu(x, bn_name, relu_name, relu6, BATCH_NORM_EPSILON)


def normalised(x: Any, name: str, epsilon: float = BATCH_NORM_EPSILON) -> Any:
    """Batch normalisation, in float32 also where others compute in bfloat16: its sums
    run over a whole batch of maps."""
    return BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, dtype="float32", name=name
    )(x)


def _bn_relu(
    x: Any, bn_name: str, relu_name: str | None, relu6: bool, epsilon: float
) -> Any:
    x = normalised(x, bn_name, epsilon)
    if relu_name is None:
        return x
    return keras.layers.ReLU(max_value=6.0 if relu6 else None, name=relu_name)(x)


def inverted_residual(
    x: Any,
    filters: int,
    prefix: str,
    *,
    expansion: int = 6,
    strides: int = 1,
    dilation: int = 1,
) -> Any:
    """MobileNetV2's block; layer names are those of keras.applications."""
    channels = x.shape[-1]
    y = x
    if expansion != 1:
        y = conv_bn(
            y,
            expansion * channels,
            1,
            f"{prefix}_expand",
            f"{prefix}_expand_BN",
            f"{prefix}_expand_relu",
        )
    y = depthwise_bn(
        y,
        f"{prefix}_depthwise",
        f"{prefix}_depthwise_BN",
        f"{prefix}_depthwise_relu",
        strides=strides,
        dilation=dilation,
    )
    y = conv_bn(y, filters, 1, f"{prefix}_project", f"{prefix}_project_BN")
    if strides == 1 and channels == filters:
        y = keras.layers.Add(name=f"{prefix}_add")([x, y])
    return y


def bottleneck(
    x: Any,
    filters: int,
    prefix: str,
    *,
    strides: int = 1,
    dilation: int = 1,
) -> Any:
    """ResNet's bottleneck with the stride on the 3x3 convolution ("v1.5").

    ``filters`` is the width inside; the block puts out four times as many channels.
    Layer names are those of keras.applications. A strided 3x3 convolution is padded by
    one on all sides, so that it is centred where the shortcut samples.
    """
    shortcut = x
    if strides != 1 or x.shape[-1] != 4 * filters:
        shortcut = conv_bn(
            x,
            4 * filters,
            1,
            f"{prefix}_0_conv",
            f"{prefix}_0_bn",
            strides=strides,
            epsilon=1.001e-5,
        )

    def plain(name: str) -> dict[str, Any]:
        return {
            "conv_name": f"{prefix}_{name}_conv",
            "bn_name": f"{prefix}_{name}_bn",
            "relu6": False,
            "epsilon": 1.001e-5,
        }

    y = conv_bn(x, filters, 1, relu_name=f"{prefix}_1_relu", **plain("1"))
    if strides != 1:
        y = keras.layers.ZeroPadding2D(1, name=f"{prefix}_2_pad")(y)
    y = conv_bn(
        y,
        filters,
        3,
        relu_name=f"{prefix}_2_relu",
        strides=strides,
        dilation=dilation,
        padding="valid" if strides != 1 else "same",
        **plain("2"),
    )
    y = conv_bn(y, 4 * filters, 1, **plain("3"))
    y = keras.layers.Add(name=f"{prefix}_add")([shortcut, y])
    return keras.layers.ReLU(name=f"{prefix}_out")(y)
