"""Auto-DeepLab: cells read the two before them, so segments hand on more than the exit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mess_tf.compile.inventory import inventory
from mess_tf.compile.link import link_configuration
from mess_tf.compile.pieces import compile_supernet
from mess_tf.compile.runner import LinkedModel
from mess_tf.records import Configuration, ExitChoice, HeadSpec
from mess_tf.supernet import build_supernet, design_supernet

SIZE = (64, 64)
PLAIN, OWN_BLOCK = HeadSpec(), HeadSpec.parse("fcn_r4_b1")


@pytest.mark.slow
def test_an_auto_deeplab_compiles_and_links(tmp_path: Path) -> None:
    spec = design_supernet(
        "auto_deeplab_s",
        ("a", "b", "c"),
        image_size=SIZE,
        final_heads=[PLAIN],
        early_heads=[OWN_BLOCK],
        output_stride=32,
        exit_layers=["cell_4_concat"],
        logits_stride=8,
    )
    # The path goes down to stride 32 and comes back to 8.
    assert [point.stride for point in spec.exit_points] == [8, 8]
    assert [point.channels for point in spec.exit_points] == [200, 200]
    supernet = build_supernet(spec)
    image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
    expected = supernet.at_size().model.predict_on_batch(image)

    pieces = compile_supernet(supernet, tmp_path / "pieces", "float32", None, ["mean"])
    assert len(pieces["segment_2"].inputs) == 2
    path = tmp_path / "linked.tflite"
    goes_on = ExitChoice(1, OWN_BLOCK.id, "mean", 2.0)
    configuration = Configuration((goes_on, ExitChoice(2, PLAIN.id)))
    link_configuration(pieces, spec, configuration, path)
    answer = LinkedModel(path).run(image[0])
    largest = np.abs(expected[1]).max()
    np.testing.assert_allclose(answer.logits, expected[1][0], atol=1e-4 * largest)
    assert "SPACE_TO_BATCH_ND" not in inventory(path)["operators"]
