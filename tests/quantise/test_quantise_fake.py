"""Fake quantisation: grids of kernels and values, what moves when, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mess_tf.core.pieces import TensorInfo
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.exporting.model_io import folds_pixels
from mess_tf.quantising.fake_quantisation import (
    FakeQuantised,
    ValueQuantizer,
    image_range,
    round_kernel,
)
from mess_tf.quantising.int8_graph import build_int8_graph
from mess_tf.quantising.network_graph import read_network
from mess_tf.runtime.interpreter import quantise
from tests.support.quantised_networks import as_list, images, network, quantised


@pytest.mark.parametrize(
    ("kind", "shape", "axis"),
    [
        ("conv", (3, 3, 5, 7), (0, 1, 2)),
        ("depthwise", (3, 3, 5, 2), (0, 1)),
        ("transposed", (3, 3, 7, 5), (0, 1, 3)),
    ],
)
def test_every_output_channel_of_a_kernel_has_its_own_grid(
    kind: str, shape: tuple[int, ...], axis: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=shape).astype(np.float32)
    if kind == "transposed":
        kernel *= np.geomspace(1e-4, 10, 7, dtype=np.float32)[:, None]
    else:  # channels of very different size; depthwise: every (input, multiplier)
        kernel *= np.geomspace(1e-4, 10, shape[3], dtype=np.float32)
    step = np.abs(kernel).max(axis=axis, keepdims=True) / 127
    expected = np.round(kernel / step) * step
    got = round_kernel(tf.constant(kernel), kind).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6 * step.max(), rtol=1e-5)


def test_a_channel_of_zeros_stays_zero() -> None:
    kernel = np.zeros((1, 1, 2, 2), np.float32)
    kernel[..., 1] = 1.0
    np.testing.assert_array_equal(round_kernel(tf.constant(kernel), "conv"), kernel)


def test_an_image_goes_through_training_as_through_the_phone() -> None:
    """Every pixel value has an int8 step of its own, in training as in deployment."""
    low, high = image_range(Preprocessing())
    scale = (high - low) / 255
    info = TensorInfo("image", (1, 16, 16, 3), "int8", scale, -1)
    assert folds_pixels(info, Preprocessing())
    graph = build_int8_graph(read_network(network("mobile_08")[0]))
    image_input = graph.operators[0]
    assert image_input.node.kind == "input"
    ranges = {name: tf.constant([low, high]) for name in image_input.ranges}
    pixels = np.repeat(np.arange(256), 3).reshape(1, 16, 16, 3)
    # A tie for every pixel: with a float's rounding error either way, the same steps.
    for error in (0.999999, 1.0, 1.000001):
        image = ((pixels - 127.5) / 127.5 * error).astype(np.float32)
        np.testing.assert_array_equal(quantise(image, info).astype(int), pixels - 128)
        fake = ValueQuantizer(image_input, ranges)(tf.constant(image), False, None)
        np.testing.assert_allclose(fake, (pixels - 127) * scale, atol=1e-3 * scale)


@pytest.fixture(scope="module")
def mobile() -> FakeQuantised:
    return quantised(network("mobile_08")[0])


def state(model: FakeQuantised) -> dict[str, np.ndarray]:
    rows = {name: variable.numpy() for name, variable in model.ranges.items()}
    for name, variables in model.mirror.variables.items():
        if model.graph.network[name].kind == "norm":
            rows[f"{name} statistics"] = np.stack([v.numpy() for v in variables[-2:]])
    return rows


@pytest.mark.slow
def test_the_network_as_deployed_changes_nothing_when_it_runs(
    mobile: FakeQuantised,
) -> None:
    before = state(mobile)
    mobile.model(images(2, 4) * 3, training=False)
    for name, values in state(mobile).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_in_training_ranges_and_statistics_follow_but_the_images_range() -> None:
    model = quantised(network("adopted")[0])
    before = state(model)
    image = model.graph.network.nodes[0].name
    for _ in range(3):
        model.model(images(2, 4) * 3, training=True)
    still = {n for n, v in state(model).items() if np.array_equal(v, before[n])}
    assert still == {image}


@pytest.mark.slow
def test_gradients_reach_every_weight_of_the_network_as_deployed(
    mobile: FakeQuantised,
) -> None:
    weights = mobile.trainable()
    with tf.GradientTape() as tape:
        outputs = mobile.model(images(4, 4), training=False)
        loss = tf.add_n([tf.reduce_mean(logits**2) for logits in outputs])
    gradients = tape.gradient(loss, weights)
    kernels = [v for v in weights if "kernel" in v.name]
    convolutions = [n for n in mobile.graph.network.nodes if "conv" in n.kind]
    assert len(kernels) >= len(convolutions) > 30
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, weight.name
        if "kernel" in weight.name:
            assert np.abs(gradient).max() > 0, weight.name


@pytest.mark.slow
def test_rounding_is_there_and_is_fine(mobile: FakeQuantised) -> None:
    model, _ = network("mobile_08")
    batch = images(4, 6)
    rounded = as_list(mobile.model(batch, training=False))
    ranges = mobile.ranges_now()
    for name, own, exact in zip(
        read_network(model).outputs, rounded, as_list(model(batch)), strict=True
    ):
        low, high = ranges[name]
        step = (high - low) / 255
        assert np.allclose(own / step, np.round(own / step), atol=1e-3)
        correlation = np.corrcoef(own.ravel(), exact.ravel())[0, 1]
        # Int8 after training is as far off: random layers enlarge what rounding adds.
        assert correlation > (0.99 if name.startswith("head_1") else 0.75), name
