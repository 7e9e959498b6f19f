"""Networks that quantisation-aware training has to follow, small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mess_tf.core.supernet_spec import HeadSpec, Preprocessing, SupernetSpec
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.quantising.fake_quantisation import FakeQuantised, fake_quantise
from mess_tf.quantising.network_graph import read_network

SIZE = (64, 96)
CLASSES = ("a", "b", "c", "d")
MOBILE_EARLY = {
    1: ["fcn_r1_b0"],
    2: ["fcn_r2_b1_rdi", "fcn_r1_b0_s1"],
    3: ["dlb_r4_b1"],
}


def mobile_spec(output_stride: int) -> SupernetSpec:
    """ASPP with its pooling branch, skips, extra blocks; dilated at stride 8."""
    return design_supernet(
        "mobilenet_v2",
        CLASSES,
        image_size=SIZE,
        final_heads=[HeadSpec.parse("dlb_r1_b0_s2_s1")],
        early_heads={
            exit_index: [HeadSpec.parse(head) for head in heads]
            for exit_index, heads in MOBILE_EARLY.items()
        },
        backbone_options={"alpha": 0.35},
        output_stride=output_stride,
        exit_layers=["block_2_add", "block_5_add", "block_12_add"],
        head_options={"head_width": 16, "aspp_rates": (2, 3, 4)},
    )


def resnet_spec() -> SupernetSpec:
    """ResNet-50 as DRN: padding, max pooling, bottlenecks, dilated 3x3 convolutions."""
    return design_supernet(
        "resnet50",
        CLASSES,
        image_size=(32, 32),
        final_heads=[HeadSpec.parse("dlb_r8_b0_s1")],
        early_heads=[HeadSpec.parse("fcn_r8_b1")],
        output_stride=8,
        exit_layers=["conv3_block4_out"],
        head_options={
            "head_width": 16,
            "fcn_width": 16,
            "decoder_width": 16,
            "skip_width": 8,
            "aspp_rates": (1, 2, 3),
        },
        logits_stride=8,
    )


def adopted() -> keras.Model:
    """A U-Net as people write them, with layers that our own networks do not have."""
    layers = keras.layers
    image = keras.Input((*SIZE, 3), name="picture")
    a = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    b = layers.MaxPooling2D(2, name="down_1")(a)
    b = layers.SeparableConv2D(12, 3, padding="same", use_bias=False, name="sep")(b)
    b = layers.BatchNormalization(name="sep_bn")(b)
    b = layers.Activation("relu", name="sep_act")(b)
    b = layers.Dropout(0.3, name="drop")(b)
    c = layers.AveragePooling2D(2, name="down_2")(b)
    c = layers.BatchNormalization(scale=False, name="pre_bn")(c)
    c = layers.ReLU(name="pre_relu")(c)
    c = layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2, dilation_rate=2, name="wide"
    )(c)
    c = layers.Conv2D(12, 1, name="mix")(c)
    c = layers.Conv2DTranspose(12, 3, strides=2, padding="same", name="up_1")(c)
    c = layers.BatchNormalization(center=False, name="up_1_bn")(c)
    c = layers.Activation("relu", name="up_1_act")(c)
    c = layers.Concatenate(name="join_1")([c, b])
    c = layers.Conv2D(8, 3, padding="same", activation="relu6", name="refine")(c)
    middle = layers.Conv2D(len(CLASSES), 1, name="early_logits")(c)
    d = layers.UpSampling2D(2, interpolation="nearest", name="up_2")(c)
    d = layers.Concatenate(name="join_2")([d, a])
    d = layers.ZeroPadding2D(((2, 1), (2, 1)), name="pad")(d)
    d = layers.Conv2D(8, 3, padding="valid", name="last")(d)
    d = layers.Cropping2D(((1, 0), (0, 1)), name="crop")(d)
    d = layers.Activation("linear", name="nothing")(d)
    final = layers.Conv2D(len(CLASSES), 1, name="final_logits")(d)
    return keras.Model(image, [middle, final], name="adopted")


def images(count: int, seed: int, size: Sequence[int] = SIZE) -> np.ndarray:
    """Normalised pixels of very different contrast, (count, H, W, 3)."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.normal(size=(count, height // 8, width // 8, 3))
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)
    contrast = rng.uniform(0.1, 1.2, (count, 1, 1, 1))
    noise = rng.normal(size=smooth.shape) * rng.uniform(0, 0.3, (count, 1, 1, 1))
    pixels = np.clip(np.round(127.5 + 127.5 * (smooth * contrast + noise)), 0, 255)
    return ((pixels - 127.5) / 127.5).astype(np.float32)


def wake_up(model: keras.Model, seed: int, size: Sequence[int] = SIZE) -> None:
    """Weights as after training: every channel's values have mean and spread.

    Some channels get a negative factor, one per layer next to none at all.
    """
    rng = np.random.default_rng(seed)
    norms = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.scale:
                factor = rng.uniform(0.6, 1.3, layer.gamma.shape)
                factor *= np.where(rng.random(factor.shape) < 0.1, -1, 1)
                factor[0] = 1e-12
                layer.gamma.assign(factor)
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
            layer.momentum = 0.0  # one pass sets the statistics to the batch's own
            norms.append(layer)
        elif getattr(layer, "use_bias", False):
            weights = layer.get_weights()
            weights[-1] = rng.normal(0, 0.2, weights[-1].shape)
            layer.set_weights(weights)
    model(images(8, seed, size), training=True)
    for layer in norms:
        layer.momentum = 0.98


def awake(spec: SupernetSpec) -> Supernet:
    """A supernet with such weights."""
    keras.utils.set_random_seed(5)
    supernet = build_supernet(spec)
    wake_up(supernet.model, 5, (spec.image_height, spec.image_width))
    return supernet


def network(name: str) -> tuple[keras.Model, tuple[int, int]]:
    """A Keras 3 model of ``NETWORKS`` and its image size."""
    if name == "adopted":
        keras.utils.set_random_seed(5)
        model = adopted()
        wake_up(model, 5)
        return model, SIZE
    spec = resnet_spec() if name == "resnet" else mobile_spec(int(name[-2:]))
    return awake(spec).model, (spec.image_height, spec.image_width)


NETWORKS = ("mobile_08", "resnet", "adopted")


def quantised(model: keras.Model, size: Sequence[int] = SIZE) -> FakeQuantised:
    """A model under fake quantisation, its ranges from 16 images."""
    batches = [images(8, seed, size) for seed in (1, 2)]
    return fake_quantise(read_network(model), batches, Preprocessing())


def as_list(values: Any) -> list[np.ndarray]:
    """A model's outputs as numpy arrays."""
    values = values if isinstance(values, (list, tuple)) else [values]
    return [keras.ops.convert_to_numpy(value) for value in values]
