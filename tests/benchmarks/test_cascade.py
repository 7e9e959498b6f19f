"""Pixel-wise propagation: who answers which pixel, on what features, at which cost."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from cascade import (
    Cascade,
    answer,
    build_cascade,
    compose,
    region_macs,
    total_areas,
)

from mess_tf.core.errors import MessError
from mess_tf.core.segmentation_metrics import count_areas
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.models.macs import model_macs
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet

pytestmark = pytest.mark.slow

HEADS = ((1, "fcn_r1_b0"), (2, "fcn_r1_b0"))
ALL_HEADS = (*HEADS, (3, "fcn_r1_b0"))
NEVER = 2.0  # no probability reaches it
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 32, 32, 3)).astype(np.float32)
LABELS = list(RNG.integers(0, 3, (3, 48, 48)).astype(np.uint8))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    """One inverted residual block lies between its two exits."""
    spec = design_supernet(
        "mobilenet_v2",
        ("a", "b", "c"),
        image_size=(32, 32),
        final_heads=[HeadSpec()],
        early_heads=[HeadSpec()],
        backbone_options={"alpha": 0.35},
        exit_layers=["block_1_project_BN", "block_2_add"],
    )
    made = build_supernet(spec)
    rng = np.random.default_rng(0)
    for layer in made.model.layers:
        if "BN" in layer.name or layer.name.endswith("_bn"):
            gamma, beta, mean, variance = layer.get_weights()
            draw = rng.normal(size=(2, len(beta)))
            layer.set_weights([gamma, draw[0], mean + draw[1] / 4, variance])
    return made


@pytest.fixture(scope="module")
def cascades(supernet: Supernet) -> dict[str, Cascade]:
    return {
        "zero": build_cascade(supernet, HEADS),
        "mean": build_cascade(supernet, ALL_HEADS, "mean"),
    }


@pytest.fixture(scope="module")
def dense(supernet: Supernet) -> dict[str, np.ndarray]:
    """What the supernet computes without a cascade: features, and logits per exit."""
    names = ["block_1_project_BN", *(f"head_{k}_{i}_logits" for k, i in ALL_HEADS)]
    outputs = [supernet.model.get_layer(name).output for name in names]
    values = keras.Model(supernet.model.input, outputs).predict_on_batch(IMAGES)
    return dict(zip(names, map(np.asarray, values), strict=True))


def test_a_pixel_has_the_class_of_the_first_head_that_was_sure_of_it() -> None:
    first, second, third = (np.full((4, 4), number) for number in range(3))
    # Only the left upper quarter goes on; of that the second head leaves one pixel
    # open on its finer grid.
    behind_first = np.array([[1, 0], [0, 0]], bool)
    behind_second = np.zeros((4, 4), bool)
    behind_second[0, 1] = True
    classes, share = compose([first, second, third], [behind_first, behind_second])
    expected = np.zeros((4, 4), int)
    expected[:2, :2] = 1
    expected[0, 1] = 2
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_allclose(share, [12 / 16, 3 / 16, 1 / 16])


def test_region_macs_by_hand() -> None:
    # Two of four coarse cells hold the three open ones of sixteen.
    region = np.zeros((4, 4), bool)
    region[0, 0] = region[1, 1] = region[3, 3] = True
    macs = [{(8, 8): 1000}, {(4, 4): 160, (2, 2): 40, (1, 1): 7}]
    assert region_macs(macs, [region]) == 1000 + 160 * 3 / 16 + 40 * 2 / 4 + 7
    assert region_macs(macs, [np.zeros((4, 4), bool)]) == 1000


def test_whoever_is_always_sure_answers_alone(
    cascades: dict[str, Cascade], dense: dict[str, np.ndarray]
) -> None:
    cascade = cascades["zero"]
    answers = answer(cascade, IMAGES, LABELS, threshold=0.0)
    logits = dense["head_1_fcn_r1_b0_logits"]
    for own, native, true in zip(answers, logits, LABELS, strict=True):
        alone = count_areas(true, upsampled_classes(native, 48, 48), 3)
        np.testing.assert_array_equal(own.areas.predicted, alone.predicted)
        np.testing.assert_array_equal(own.areas.intersection, alone.intersection)
        assert own.macs == sum(cascade.macs[0].values())
        np.testing.assert_array_equal(own.answered, [1, 0])


def test_where_nobody_is_sure_the_last_answers_as_it_would_alone(
    supernet: Supernet, cascades: dict[str, Cascade], dense: dict[str, np.ndarray]
) -> None:
    cascade = cascades["mean"]
    answers = answer(cascade, IMAGES, LABELS, threshold=NEVER)
    logits = dense["head_3_fcn_r1_b0_logits"]
    alone = [
        count_areas(true, upsampled_classes(_to(native, 8), 48, 48), 3)
        for native, true in zip(logits, LABELS, strict=True)
    ]
    total = total_areas(answers)
    np.testing.assert_array_equal(
        total.intersection, sum(areas.intersection for areas in alone)
    )
    assert cascade.dense_macs == model_macs(supernet.at_size().model.layers)
    assert all(own.macs == cascade.dense_macs for own in answers)


def _to(native: np.ndarray, side: int) -> np.ndarray:
    import cv2

    return cv2.resize(native, (side, side), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_region_convolution_is_as_written_by_hand(
    supernet: Supernet,
    cascades: dict[str, Cascade],
    dense: dict[str, np.ndarray],
    fill: str,
) -> None:
    features, first = dense["block_1_project_BN"], dense["head_1_fcn_r1_b0_logits"]
    sure = (np.exp(first) / np.exp(first).sum(axis=-1, keepdims=True)).max(axis=-1)
    # In the widest gap near the middle, where rounding moves no cell across.
    ordered = np.sort(sure.ravel())
    middle = len(ordered) // 3 + np.diff(ordered[len(ordered) // 3 : -50]).argmax()
    threshold = float(ordered[middle : middle + 2].mean())
    region = (sure < threshold)[..., None].astype(np.float32)

    def unit(x: np.ndarray, conv: str, norm: str, *, relu: bool = True) -> np.ndarray:
        layer, (gamma, beta, mean, variance) = (
            supernet.model.get_layer(conv),
            supernet.model.get_layer(norm).get_weights(),
        )
        y = _convolved(x, layer.get_weights()[0], depthwise="depthwise" in conv)
        y = (y - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        y = y * region + (1 - region) * (0 if fill == "zero" else _around(y, region))
        return np.clip(y, 0, 6) if relu else y

    y = unit(features, "block_2_expand", "block_2_expand_BN")
    y = unit(y, "block_2_depthwise", "block_2_depthwise_BN")
    y = features + unit(y, "block_2_project", "block_2_project_BN", relu=False)
    y = unit(y, "head_2_fcn_r1_b0_conv", "head_2_fcn_r1_b0_conv_bn")
    kernel, bias = supernet.model.get_layer("head_2_fcn_r1_b0_logits").get_weights()
    by_hand = _convolved(y, kernel) + bias

    cascade = cascades[fill]
    outputs = cascade.model.predict_on_batch(
        [IMAGES, np.full((3, 1), threshold, np.float32)]
    )
    logits, open_behind = outputs[1], outputs[len(cascade.heads)]
    np.testing.assert_array_equal(open_behind, region)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)


def _convolved(
    x: np.ndarray, kernel: np.ndarray, depthwise: bool = False
) -> np.ndarray:
    side = kernel.shape[0]
    height, width = x.shape[1:3]
    edge = side // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    total: Any = 0
    for row in range(side):
        for column in range(side):
            moved = padded[:, row : row + height, column : column + width]
            own = kernel[row, column]
            total = total + (moved * own[:, 0] if depthwise else moved @ own)
    return np.asarray(total)


def _around(y: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Mean of the region's cells among the 7x7 around each cell; 0 without any."""
    ones = np.ones((7, 7, 1, 1))
    total = np.concatenate(
        [_convolved(y[..., c : c + 1] * region, ones) for c in range(y.shape[-1])], -1
    )
    return total / np.maximum(_convolved(region, ones), 1e-6)


def test_heads_must_be_in_the_supernet_and_grow(supernet: Supernet) -> None:
    for heads in ([], [HEADS[1], HEADS[0]], [(1, "dlb_r1_b0")]):
        with pytest.raises(MessError, match="growing exits"):
            build_cascade(supernet, heads)
