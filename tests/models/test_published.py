"""Auto-DeepLab has the published size, and its recipe says what it takes."""

from __future__ import annotations

import math

import pytest

from mess_tf.errors import MessError
from mess_tf.models.backbones import get_backbone
from mess_tf.models.published import authors_macs, auto_deeplab_network
from mess_tf.recipe import Recipe


def test_auto_deeplab_has_the_published_parameters_and_macs() -> None:
    # M is the paper's baseline; S and L differ in the width alone, see docs/networks.md.
    network = auto_deeplab_network("auto_deeplab_m", (1024, 2048), classes=19)
    parameters = sum(math.prod(w.shape) for w in network.trainable_weights)
    assert round(parameters / 1e6, 2) == 21.62
    assert authors_macs(network) / 1e9 == pytest.approx(460.93, rel=0.02)
    assert network.output.shape == (None, 256, 512, 19)


def test_auto_deeplab_takes_its_own_stride_and_random_weights() -> None:
    with pytest.raises(MessError, match="set output_stride to 32"):
        get_backbone("auto_deeplab_s", 16)
    table = {"data": {"kind": "drawn"}, "network": {"backbone": "auto_deeplab_s"}}
    with pytest.raises(MessError, match="never trained on ImageNet"):
        Recipe.from_table(table)
