"""Auto-DeepLab has the published size, converts, and says what it takes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from published_networks import authors_macs, auto_deeplab_network

from mess_tf.converting.convert import convert_model
from mess_tf.core.errors import MessError
from mess_tf.models.auto_deeplab import auto_deeplab_cells
from mess_tf.models.backbones import get_backbone
from mess_tf.recipe.recipe import Recipe
from mess_tf.runtime.interpreter import LiteRTFile

pytestmark = pytest.mark.slow


def test_auto_deeplab_has_the_published_parameters_and_macs() -> None:
    # M is the paper's baseline; S and L, in docs/networks.md, differ in width alone.
    network = auto_deeplab_network("auto_deeplab_m", (1024, 2048), classes=19)
    parameters = sum(math.prod(w.shape) for w in network.trainable_weights)
    assert round(parameters / 1e6, 2) == 21.62
    assert authors_macs(network) / 1e9 == pytest.approx(460.93, rel=0.02)
    assert network.output.shape == (None, 256, 512, 19)


@pytest.mark.slow
def test_its_cells_convert() -> None:
    # Six cells hold every way to change the stride; each reads the two before it.
    image = keras.Input((64, 64, 3))
    cells = auto_deeplab_cells(image, filters=4)[:6]
    assert [stride for _, stride in cells] == [4, 4, 4, 8, 16, 8]
    model = keras.Model(image, cells[-1][0])
    drawn = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    expected = np.asarray(model.predict_on_batch(drawn))
    assert expected.shape == (1, 8, 8, 5 * 4 * 2)
    converted = LiteRTFile(convert_model(model, ["image"], ["cell"], "float32"))
    (found,) = converted.run({"image": drawn}).values()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_auto_deeplab_takes_its_own_stride_and_random_weights() -> None:
    with pytest.raises(MessError, match="set output_stride to 32"):
        get_backbone("auto_deeplab_s", 16)
    table = {"data": {"kind": "drawn"}, "network": {"backbone": "auto_deeplab_s"}}
    with pytest.raises(MessError, match="never trained on ImageNet"):
        Recipe.from_table(table)
