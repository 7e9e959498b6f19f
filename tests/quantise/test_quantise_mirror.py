"""The mirror computes what the Keras 3 network computes, layer names and all."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mess_tf.quantising.keras2_mirror import build_mirror
from mess_tf.quantising.network_graph import read_network
from tests.support.quantised_networks import NETWORKS, as_list, images, network
from tests.support.tiers import sampled


@pytest.mark.parametrize("name", sampled(reversed(NETWORKS), 1))
def test_the_mirror_gives_the_outputs_of_the_network(name: str) -> None:
    model, size = network(name)
    batch = images(2, 9, size)
    mirror = build_mirror(read_network(model))
    expected = as_list(model(batch, training=False))
    got = as_list(mirror.model(batch, training=False))
    assert len(got) == len(expected)
    for own, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(own, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(["mobile_08", "resnet"], 1))
def test_layers_keep_their_names(name: str) -> None:
    model, _ = network(name)
    mirror = build_mirror(read_network(model))
    assert {x.name for x in mirror.model.layers} == {x.name for x in model.layers}


def test_trained_weights_come_back_by_layer() -> None:
    model, _ = network("adopted")
    mirror = build_mirror(read_network(model))
    for own in mirror.variables.values():
        for variable in own:
            variable.assign(variable + 1.0)
    before, after = read_network(model), mirror.trained()
    for old, new in zip(before.nodes, after.nodes, strict=True):
        moved = [b - a for a, b in zip(old.weights, new.weights, strict=True)]
        fixed = []
        if old.kind == "norm":  # gamma, beta, mean, variance
            fixed += [] if old.settings["center"] else [moved.pop(1)]
            fixed += [] if old.settings["scale"] else [moved.pop(0)]
        for difference in moved:
            np.testing.assert_allclose(difference, 1.0, atol=1e-6)
        for difference in fixed:
            np.testing.assert_array_equal(difference, 0.0)


@pytest.mark.slow
def test_the_mirror_takes_images_of_any_size_where_the_network_does() -> None:
    model, _ = network("mobile_08")
    mirror = build_mirror(read_network(model))
    for size in ((32, 32), (64, 32)):
        shapes = [tuple(v.shape) for v in mirror.model(images(1, 0, size))]
        assert shapes == [tuple(v.shape) for v in model(images(1, 0, size))]


@pytest.mark.slow
def test_keras_3_stays_what_keras_is() -> None:
    """tensorflow-model-optimization asks the whole process for Keras 2."""
    code = (
        "import mess_tf.quantising.keras2, os, tensorflow as tf, keras\n"
        "print(tf.keras.__version__, keras.__version__,"
        " os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    ours, keras_3, variable = done.stdout.split()
    assert ours == keras_3 == tf.keras.__version__
    assert variable == "None"
