"""Fine-tuning: what it improves, what settles when, and that it can be broken off."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.models.supernet import build_supernet
from mess_tf.quantising.fake_quantisation import FakeQuantised, unrounded
from mess_tf.quantising.finetune import chosen_model, exits_of, fine_tune
from mess_tf.quantising.int8_conversion import convert_quantised
from mess_tf.quantising.network_graph import read_network
from mess_tf.quantising.qat_training import Distillation, FineTuning, NetworkOutput
from mess_tf.recipe.recipe import Recipe
from mess_tf.runtime.interpreter import LiteRTFile, dequantise
from mess_tf.runtime.interpreter import quantise as to_int8
from mess_tf.training.schedule import Optimisation
from mess_tf.training.train import design_from_recipe
from tests.support.interruption import Display, Killed
from tests.support.little_network import little_network
from tests.support.quantised_networks import (
    CLASSES,
    SIZE,
    as_list,
    awake,
    images,
    mobile_spec,
    network,
    quantised,
)

EQUAL = np.ones(len(CLASSES), np.float32)


def stage_of(
    model: keras.Model,
    settled_after: int,
    alpha: float = 1.0,
    start: FakeQuantised | None = None,
) -> FineTuning:
    return FineTuning(
        start or quantised(model),
        keras.Model(model.input, model.outputs[-1]),
        [NetworkOutput("exit_1", False), NetworkOutput("final", True)],
        Optimisation(80, "adamw", 3e-3, weight_decay=0.0),
        EQUAL,
        Distillation("kd", alpha),
        settled_after,
    )


def shades(pictures: np.ndarray) -> np.ndarray:
    """A task: how bright a cell is, in four shades."""
    return np.digitize(pictures.mean(axis=-1), (-0.4, 0.0, 0.4)).astype(np.int32)


@pytest.mark.slow
def test_what_is_learnt_under_rounding_is_in_the_int8_file() -> None:
    model, _ = network("adopted")
    stage = stage_of(model, settled_after=40, alpha=0.0)
    unseen = images(16, 99)
    labels = shades(unseen)

    def right(logits: np.ndarray) -> float:
        return float((logits.argmax(-1) == labels).mean())

    before = right(as_list(model(unseen))[-1])
    control = stage_of(model, 40, 0.0, unrounded(read_network(model)))
    for step in range(80):
        pictures = images(8, 100 + step)
        for one in (stage, control):
            one.step(pictures, shades(pictures), step)
    exact = right(as_list(control.quantised.model(unseen, training=False))[-1])
    trained = right(as_list(stage.quantised.model(unseen, training=False))[-1])
    content = convert_quantised(stage.quantised, SIZE, {"logits": "final_logits"})
    file = LiteRTFile(content)
    (_, image), (_, logits) = file.inputs["image"], file.outputs["logits"]
    answers = [
        dequantise(file.run({"image": to_int8(p[None], image)})["logits"], logits)[0]
        for p in unseen
    ]
    deployed = right(np.stack(answers))
    assert before < 0.5 < exact
    assert trained > exact - 0.03, (before, exact, trained)
    assert abs(deployed - trained) < 0.01
    counted = stage.evaluate(unseen, labels)["final"].intersection.sum()
    assert counted / labels.size == pytest.approx(trained, abs=1e-3)


@pytest.mark.slow
def test_statistics_and_ranges_settle_and_weights_go_on() -> None:
    stage = stage_of(network("adopted")[0], settled_after=1)
    model = stage.quantised

    def still() -> list[np.ndarray]:
        norms = [n.name for n in model.graph.network.nodes if n.kind == "norm"]
        moving = [v for name in norms for v in model.mirror.variables[name][-2:]]
        return [v.numpy() for v in (*moving, *model.ranges.values())]

    labels = np.zeros((4, *SIZE), np.int32)
    seen = [still()]
    kernels = [model.trainable()[0].numpy()]
    for step in range(3):
        stage.step(images(4, step), labels, step)
        seen.append(still())
        kernels.append(model.trainable()[0].numpy())

    def moved(a: list[np.ndarray], b: list[np.ndarray]) -> int:
        pairs = zip(a, b, strict=True)
        return sum(not np.array_equal(x, y) for x, y in pairs)

    assert moved(seen[0], seen[1]) == len(seen[0]) - 1  # all but the image's range
    assert moved(seen[1], seen[2]) == moved(seen[2], seen[3]) == 0
    for one, next_one in zip(kernels, kernels[1:], strict=False):
        assert not np.array_equal(one, next_one)


def test_early_exits_count_together_as_much_as_the_final_one() -> None:
    stage = stage_of(network("adopted")[0], settled_after=0)
    stage.exits = [
        NetworkOutput("a", False),
        NetworkOutput("b", False),
        NetworkOutput("final", True),
    ]
    shape = (1, 8, 8, len(CLASSES))
    outputs = [np.zeros(shape, np.float32)] * 3
    teacher = np.zeros(shape, np.float32)
    teacher[..., 1] = 3.0
    log = teacher - np.log(np.exp(teacher).sum(-1, keepdims=True))
    divergence = float((np.exp(log) * (log + np.log(len(CLASSES)))).sum(-1).mean())
    loss = float(stage.loss(outputs, np.zeros((1, 8, 8), np.int32), teacher))
    assert loss == pytest.approx(2 * divergence, rel=1e-5)


# --- Whole fine-tunings, small --------------------------------------------------------

RECIPE: dict[str, Any] = {
    "data": {"kind": "drawn", "size": 64, "count_train": 24, "count_val": 8, "seed": 1},
    "heads": {"final": "fcn_r1_b0_s1", "early": ["fcn_r1_b0", "fcn_r2_b1"]},
    "training": {
        "batch": 8,
        "learning_rate": 0.01,
        "momentum": 0.5,
        "loss_stride": 4,
        "crop": 0.5,  # training and evaluation see different sizes
    },
    "quantise": {"epochs": 3, "settled": 0.5},
}
STEPS = 3  # an epoch


@dataclasses.dataclass(frozen=True)
class Start:
    """A folder with a supernet that is not trained, and the chosen structure."""

    recipe: Recipe
    folder: Path
    spec: SupernetSpec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Start:
    folder = tmp_path_factory.mktemp("run")
    network = little_network(folder, ["two_relu", "three_relu"])
    recipe = Recipe.from_table({**RECIPE, "network": network})
    spec = design_from_recipe(recipe, ("sky", "ground", "sun"))
    from mess_tf.data.dataset import open_dataset

    spec = dataclasses.replace(spec, classes=open_dataset(recipe.data).train.classes)
    keras.utils.set_random_seed(0)
    build_supernet(spec).save(folder)
    chosen = spec.with_heads([(1, "fcn_r1_b0"), (3, "fcn_r1_b0_s1")])
    return Start(recipe, folder, chosen)


def tuned(
    run: Start, work: Path, display: Display, **settings: Any
) -> list[np.ndarray]:
    quantise = dataclasses.replace(run.recipe.quantise, **settings)
    recipe = dataclasses.replace(run.recipe, quantise=quantise)
    pictures = list(images(4, 0, (64, 64)))
    trained = fine_tune(recipe, run.folder, work, run.spec, pictures, display)
    return [variable.numpy() for variable in trained.variables()]


@pytest.fixture(scope="module")
def unbroken(
    run: Start, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[np.ndarray]]:
    """Where a fine-tuning went through in one go, and what came out."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, tuned(run, folder, Display())


@pytest.mark.slow
def test_a_fine_tuning_that_was_broken_off_ends_as_an_unbroken_one(
    run: Start,
    tmp_path: Path,
    unbroken: tuple[Path, list[np.ndarray]],
) -> None:
    kill_at = STEPS + 2  # in the second epoch
    with pytest.raises(Killed):
        tuned(run, tmp_path, Display(kill_at))
    again = Display()
    resumed = tuned(run, tmp_path, again)
    assert again.steps == 3 * STEPS - (kill_at - 1) // STEPS * STEPS
    for own, theirs in zip(resumed, unbroken[1], strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)
    (log,) = tmp_path.glob("*/qat.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[-1]["miou"]) == {"exit_1/fcn_r1_b0", "final"}


@pytest.mark.slow
def test_another_number_of_epochs_starts_anew_and_spoils_nothing(
    run: Start, unbroken: tuple[Path, list[np.ndarray]]
) -> None:
    folder, trained = unbroken
    with pytest.raises(Killed):  # it has steps to do
        tuned(run, folder, Display(kill_at=1), epochs=1)
    finished = Display()
    again = tuned(run, folder, finished)
    assert finished.steps == 0
    for own, theirs in zip(again, trained, strict=True):
        np.testing.assert_array_equal(own, theirs)


@pytest.mark.slow
def test_only_chosen_heads_are_in_the_network() -> None:
    spec = mobile_spec(16)
    chosen = spec.with_heads([(2, "fcn_r1_b0_s1"), (4, "dlb_r1_b0_s2_s1")])
    model = chosen_model(awake(spec), chosen)
    heads = {x.name.split("_")[1] for x in model.layers if x.name.startswith("head_")}
    assert heads == {"2", "4"}
    assert [exit_.name for exit_ in exits_of(chosen)] == [
        "exit_2/fcn_r1_b0_s1",
        "final",
    ]
