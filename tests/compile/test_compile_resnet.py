"""ResNet-50 (DRN) the same way: a step of training, pieces, one linked file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.exporting.inventory import inventory
from mess_tf.exporting.linking import link_configuration
from mess_tf.models.supernet import build_supernet, design_supernet
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import StageOne

SIZE = (64, 64)
CLASSES = ("a", "b", "c")


@pytest.mark.slow
def test_a_resnet_trains_compiles_and_links(tmp_path: Path) -> None:
    spec = design_supernet(
        "resnet50",
        CLASSES,
        image_size=SIZE,
        final_heads=[HeadSpec()],
        early_heads=[HeadSpec()],
        output_stride=8,
        exit_layers=["conv3_block4_out"],
        logits_stride=8,
    )
    supernet = build_supernet(spec)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *SIZE, 3)).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), (4, 8, 8))
    before = supernet.model.get_layer("conv5_block3_2_conv").get_weights()
    stage = StageOne(
        supernet, Optimisation(10, learning_rate=0.01), np.ones(3, np.float32)
    )
    losses = [stage.step(images, labels, step) for step in range(3)]
    after = supernet.model.get_layer("conv5_block3_2_conv").get_weights()
    assert np.isfinite(losses).all()
    assert not np.array_equal(before[0], after[0])

    pieces = compile_supernet(supernet, tmp_path / "pieces", "float32", None, ["mean"])
    stops = ExitChoice(1, HeadSpec().id, "mean", 0.0)
    final = ExitChoice(2, HeadSpec().id)
    goes_on = ExitChoice(1, HeadSpec().id, "mean", 2.0)
    expected = supernet.at_size().model.predict_on_batch(images[:1])
    for choices, index in (((stops, final), 0), ((goes_on, final), 1)):
        path = tmp_path / f"leave_{index}.tflite"
        link_configuration(pieces, spec, Configuration(choices), path)
        answer = LinkedModel(path).run(images[0])
        assert answer.exit == index + 1
        largest = np.abs(expected[index]).max()
        assert answer.logits is not None
        np.testing.assert_allclose(
            answer.logits, expected[index][0], atol=1e-4 * largest
        )
    assert "SPACE_TO_BATCH_ND" not in inventory(path)["operators"]
