"""Heads on a finished network, which stays as it is; training ends as they settle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import mess_tf
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.segmentation_metrics import Areas
from mess_tf.models.supernet import Supernet
from mess_tf.recipe.files import load_recipe, write_recipe
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from mess_tf.training.log import ScalarLog
from mess_tf.training.loop import Batch, EpochData, run_stage
from mess_tf.training.train import train_supernet
from tests.support.interruption import Display
from tests.support.little_network import little_model

SIZE = 32


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation network with statistics and weights as training leaves them."""
    body = little_model(SIZE)
    logits = keras.layers.Conv2D(6, 1, name="own_logits")(body.output)
    model = keras.Model(body.input, logits)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in layer.get_weights()])
    path = tmp_path_factory.mktemp("finished") / "finished.keras"
    model.save(path)
    return path


def table(network: Path, **training: Any) -> dict[str, Any]:
    return {
        "data": {"kind": "drawn", "size": SIZE, "count_train": 8, "count_val": 4},
        "network": {
            "backbone": str(network),
            "weights": "own",
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
            "height": SIZE,
            "width": SIZE,
            "exit_layers": ["two_relu"],
        },
        "heads": {"final": "own", "early": ["fcn_r1_b0"]},
        "training": {
            "scheme": "heads-only",
            "batch": 4,
            "stage2_epochs": 2,
            "crop": 1.0,
            "loss_stride": 8,
            **training,
        },
    }


def test_the_final_exit_stays_the_network_bit_for_bit(
    network: Path, tmp_path: Path
) -> None:
    recipe = Recipe.from_table(table(network))
    work = tmp_path / "training"
    train_supernet(recipe, tmp_path, work, Display())
    supernet = Supernet.load(tmp_path)
    original = keras.saving.load_model(network)
    for layer in original.layers:
        if layer.weights and layer.name != "own_logits":
            ours = supernet.model.get_layer(layer.name).get_weights()
            for a, b in zip(layer.get_weights(), ours, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=layer.name)
    image = np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    final = keras.Model(supernet.model.input, supernet.final_logits())
    np.testing.assert_array_equal(
        original.predict_on_batch(image), final.predict_on_batch(image)
    )
    assert sorted(path.name for path in work.glob("*.jsonl")) == ["stage2.jsonl"]
    first, last = (
        json.loads(line) for line in (work / "stage2.jsonl").read_text().splitlines()
    )
    assert first["miou"]["final"] == last["miou"]["final"]
    assert first["loss"] != last["loss"]  # while the head learns


class Scripted:
    """A stage whose heads reach, epoch by epoch, what is written down."""

    name = "stage2"

    def __init__(self, miou: list[tuple[float, float]]) -> None:
        self.miou, self.epochs = miou, 0

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        self.epochs += 1
        return 0.0

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        values = dict(zip(("a", "b"), self.miou[self.epochs - 1], strict=True))
        return {name: areas(value) for name, value in {**values, "final": 0.9}.items()}

    def variables(self) -> list[Any]:
        return []


def areas(iou: float) -> Areas:
    """Of a single class: intersection over union is ``iou``."""
    part = round(iou * 1000)
    return Areas(*(np.array([value]) for value in (1000, part, part)))


@pytest.mark.parametrize(
    ("miou", "epochs"),
    [
        # b gains 0.2 points, then nobody does.
        ([(0.5, 0.5), (0.5, 0.502), (0.501, 0.503), (0.6, 0.6)], 3),
        # A loss that is made good is no gain over the best.
        ([(0.5, 0.5), (0.4, 0.6), (0.5, 0.6), (0.9, 0.9)], 3),
        ([(0.5, 0.5), (0.6, 0.5), (0.6, 0.6), (0.7, 0.6)], 4),
    ],
)
def test_training_ends_when_no_head_gains(
    miou: list[tuple[float, float]], epochs: int, tmp_path: Path
) -> None:
    batch = (np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2)))

    def one(epoch: int = 0) -> Iterator[Batch]:
        yield batch

    with ScalarLog(tmp_path / "log") as log:

        def run(stage: Scripted) -> int:
            steps: list[int] = []
            data = EpochData(one, one, steps=1, epochs=4, min_gain=0.002)
            run_stage(stage, data, tmp_path, "", log, lambda n, _: steps.append(n))
            assert sum(steps) == 4  # the display ends full
            return stage.epochs

        assert run(Scripted(miou)) == epochs
        assert run(Scripted(miou)) == 0  # typed again: nothing is trained anew


def test_heads_only_wants_a_finished_network(network: Path) -> None:
    good = table(network)
    for section, key, value, named in (
        ("heads", "final", "fcn_r1_b0", "heads.final = 'own'"),
        ("network", "weights", "random", "network.weights = 'random'"),
    ):
        with pytest.raises(MessError, match=named):
            Recipe.from_table({**good, section: {**good[section], key: value}})
    with pytest.raises(MessError, match="finished network"):
        Recipe.from_table(
            {"data": {"kind": "drawn"}, "training": {"scheme": "heads-only"}}
        )


def test_settings_of_a_stage_that_is_not_trained_are_refused() -> None:
    with pytest.raises(UsageError, match="stage1_epochs is without effect"):
        load_recipe(
            "quickstart",
            changes=["training.scheme=heads-only", "training.stage1_epochs=2"],
        )
    with pytest.raises(UsageError, match="stage2_min_gain_pp is without effect"):
        load_recipe(
            "quickstart",
            changes=["training.scheme=e2e", "training.stage2_min_gain_pp=1"],
        )


@pytest.mark.slow
def test_fine_tuning_begins_with_a_runs_weights_and_says_how_the_final_exit_changed(
    network: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    recipe = tmp_path / "recipe.toml"
    write_recipe(recipe, Recipe.from_table(table(network)))
    mess_tf.train(first, recipe=recipe)
    # Nothing moves at a rate of 0 but what batch normalisation sees.
    found = mess_tf.train(
        second,
        fine_tune=first,
        changes=["training.learning_rate=1e-12", "training.stage1_epochs=1"],
    )
    before, after = (Supernet.load(run).model for run in (first, second))
    for layer in before.layers:
        kernels = layer.get_weights()[:2]
        for a, b in zip(
            kernels, after.get_layer(layer.name).get_weights()[:2], strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-6, err_msg=layer.name)
    stage2 = (first / "training" / "stage2.jsonl").read_text().splitlines()
    assert found["final_miou_before"] == json.loads(stage2[-1])["miou"]["final"]
    assert 0 <= found["final_miou"] <= 1
    with pytest.raises(UsageError, match="leave --recipe and --weights out"):
        mess_tf.train(tmp_path / "third", fine_tune=first, recipe=recipe)


def test_a_run_that_is_not_trained_is_no_start(network: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_table(table(network))
    Run.create(tmp_path / "empty", recipe)
    write_recipe(
        tmp_path / "recipe.toml",
        Recipe.from_table(table(network, start=str(tmp_path / "empty"))),
    )
    with pytest.raises(MessError, match="there is no trained network in it"):
        mess_tf.train(tmp_path / "run", recipe=tmp_path / "recipe.toml")
