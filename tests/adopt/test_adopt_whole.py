"""A U-Net of the user's own from its file to linked files that route as promised."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from mess_tf.commands.compile import compile
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.train import train
from mess_tf.compiling.verify import compare_linked
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import open_dataset
from mess_tf.exporting.linking import link_configuration
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from mess_tf.training.train import design_from_recipe
from tests.support.imported_networks import deeplab, unet

pytestmark = pytest.mark.slow

RECIPE = """
[data]
kind = "drawn"
size = 32
count_train = 8
count_val = 8
[network]
backbone = "unet.keras"
weights = "own"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
height = 32
width = 32
exit_layers = ["low_relu", "mid_relu"]
logits_stride = 1
[heads]
final = "own"
early = ["fcn_r1_b0", "fcn_r1_b1_s1"]
[training]
batch = 4
stage1_epochs = 2
stage2_epochs = 1
optimizer = "adamw"
learning_rate = 1e-2
stage2_learning_rate = 1e-2
[statistics]
policies = ["mean"]
[compile]
calibration_images = 4
"""


def test_a_size_inside_allows_no_crops(tmp_path: Path) -> None:
    deeplab().save(tmp_path / "deeplab.keras")
    table = tomllib.loads(RECIPE)
    table["network"] |= {
        "backbone": str(tmp_path / "deeplab.keras"),
        "exit_layers": [],
        "exits": 3,
        "logits_stride": 4,
    }
    table["heads"]["early"] = ["fcn_r1_b0"]
    with pytest.raises(MessError, match="works only at 32x32.*training.crop to 1"):
        design_from_recipe(Recipe.from_table(table), ("a", "b", "c"))
    table["training"]["crop"] = 1
    spec = design_from_recipe(Recipe.from_table(table), ("a", "b", "c"))
    assert spec.exit_points[-1].layer == "decoder_relu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("adopt")
    unet(classes=6).save(base / "unet.keras")
    (base / "own.toml").write_text(RECIPE)
    train(base / "run", recipe=base / "own.toml")
    # From here on the run folder is enough.
    (base / "unet.keras").unlink()
    result = compile(base / "run")
    assert result["float32"]["largest_relative_difference"] < 1e-4
    evaluate(base / "run")
    return base / "run"


def test_training_moves_the_whole_network_and_its_own_end(folder: Path) -> None:
    from mess_tf.models.supernet import Supernet

    trained = Supernet.load(folder)
    start = unet(classes=6)
    for name in ("top_bn", "back2_bn"):
        moved = trained.model.get_layer(name).get_weights()[2]
        assert np.abs(moved - start.get_layer(name).get_weights()[2]).max() > 1e-5
    assert trained.spec.head_names() == (
        (1, "fcn_r1_b0"),
        (2, "fcn_r1_b0"),
        (2, "fcn_r1_b1_s1"),
        (3, "own"),
    )


def test_segments_hand_on_what_passes_by(folder: Path) -> None:
    pieces = Pieces.load(folder / "pieces" / "int8")
    borders = {
        piece.name: (len(piece.inputs), [t.shape[1:] for t in piece.outputs])
        for piece in pieces.pieces
        if piece.kind == "segment"
    }
    assert borders == {
        # At the first exit the U-Net's upper skip passes by; the exit is a skip itself.
        "segment_1": (1, [(16, 16, 8), (32, 32, 4)]),
        "segment_2": (1, [(8, 8, 16)]),
        "segment_3": (3, [(32, 32, 4)]),
    }
    assert pieces["head_3_own"].outputs[0].shape == (1, 32, 32, 6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_images_leave_where_the_statistics_say(
    folder: Path, precision: Precision, tmp_path: Path
) -> None:
    run, spec = Run.open(folder), SupernetSpec.load(folder / "supernet.json")
    pieces = Pieces.load(run.pieces(precision))
    statistics = Statistics.load(run.statistics(precision))
    confidence = statistics.confidence["mean"]
    first = statistics.heads.index((1, "fcn_r1_b0"))
    second = statistics.heads.index((2, "fcn_r1_b1_s1"))
    at = [
        float(np.sort(confidence[:, h])[len(confidence) // 2]) for h in (first, second)
    ]
    at = [np.nextafter(np.float32(value), np.float32(0)) for value in at]
    configuration = Configuration(
        (
            ExitChoice(1, "fcn_r1_b0", "mean", float(at[0])),
            ExitChoice(2, "fcn_r1_b1_s1", "mean", float(at[1])),
            ExitChoice(3, "own"),
        )
    )
    path = tmp_path / "linked.tflite"
    link_configuration(pieces, spec, configuration, path)
    source = open_dataset(run.recipe.data).evaluation
    images = [
        evaluation_image(source.load(i).image, 32, 32, spec.preprocessing)
        for i in range(len(source))
    ]
    check = compare_linked(path, pieces, spec, configuration, images)
    expected = np.where(
        confidence[:, first] >= at[0], 1, np.where(confidence[:, second] >= at[1], 2, 3)
    )
    assert list(check.taken) == expected.tolist()
    assert len(set(check.taken)) >= 2
    assert max(check.largest.values()) <= 0.75 * check.step + 2e-4
