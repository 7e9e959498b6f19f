"""Fine-tuning: what it improves, what settles when, and that it can be broken off."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from quantise_cases import CLASSES, as_list, awake, images, mobile_spec, quantised

from mess_tf.quantise.finetune import chosen_model, exits_of, fine_tune
from mess_tf.quantise.stage import Distillation, FineTuning
from mess_tf.recipe import Recipe
from mess_tf.records import SupernetSpec
from mess_tf.supernet import Supernet, build_supernet
from mess_tf.training.schedule import Optimisation
from mess_tf.training.train import design_from_recipe

EQUAL = np.ones(len(CLASSES), np.float32)


def stage_of(supernet: Supernet, rate: float, settled_after: int) -> FineTuning:
    final = supernet.model.outputs[-1]
    return FineTuning(
        quantised(supernet.model),
        keras.Model(supernet.model.input, final),
        exits_of(supernet.spec),
        Optimisation(60, "adamw", rate, weight_decay=0.0),
        EQUAL,
        Distillation("kd", 1.0),
        settled_after,
    )


def agreement(stage: FineTuning, supernet: Supernet, batch: np.ndarray) -> float:
    """Share of cells in which the rounded final exit answers as the float one."""
    rounded = as_list(stage.quantised.model(batch, training=False))[-1]
    exact = as_list(supernet.model(batch, training=False))[-1]
    return float((rounded.argmax(-1) == exact.argmax(-1)).mean())


@pytest.mark.slow
def test_training_brings_the_rounded_network_back_to_its_float_teacher() -> None:
    supernet = awake(mobile_spec(16))
    stage = stage_of(supernet, rate=5e-4, settled_after=0)
    unseen = images(16, 99)
    before = agreement(stage, supernet, unseen)
    rng = np.random.default_rng(0)
    for step in range(40):
        labels = rng.integers(0, len(CLASSES), (8, 16, 24))
        stage.step(images(8, 100 + step), labels, step)
    after = agreement(stage, supernet, unseen)
    assert after > before + 0.03, (before, after)


def test_statistics_and_ranges_settle_and_weights_go_on() -> None:
    supernet = awake(mobile_spec(16))
    stage = stage_of(supernet, rate=1e-4, settled_after=1)
    model = stage.quantised

    def still() -> list[np.ndarray]:
        norms = [n.name for n in model.plan.network.nodes if n.kind == "norm"]
        moving = [v for name in norms for v in model.mirror.variables[name][-2:]]
        return [v.numpy() for v in (*moving, *model.ranges.values())]

    labels = np.zeros((4, 16, 24), np.int32)
    seen = [still()]
    kernels = [model.trainable()[0].numpy()]
    for step in range(3):
        stage.step(images(4, step), labels, step)
        seen.append(still())
        kernels.append(model.trainable()[0].numpy())

    def moved(a: list[np.ndarray], b: list[np.ndarray]) -> float:
        pairs = zip(a, b, strict=True)
        return float(np.mean([not np.array_equal(x, y) for x, y in pairs]))

    assert moved(seen[0], seen[1]) > 0.95  # all but the image's range
    assert moved(seen[1], seen[2]) == moved(seen[2], seen[3]) == 0.0
    for one, next_one in zip(kernels, kernels[1:], strict=False):
        assert not np.array_equal(one, next_one)


def test_early_exits_count_together_as_much_as_the_final_one() -> None:
    supernet = awake(mobile_spec(16))
    stage = stage_of(supernet, rate=1e-4, settled_after=0)
    labels = np.zeros((1, 16, 24), np.int32)
    outputs = [np.zeros((1, 16, 24, len(CLASSES)), np.float32)] * len(stage.exits)
    teacher = np.zeros((1, 16, 24, len(CLASSES)), np.float32)
    teacher[..., 1] = 3.0
    one = teacher - teacher.max()
    log = one - np.log(np.exp(one).sum(-1, keepdims=True))
    divergence = float((np.exp(log) * (log + np.log(len(CLASSES)))).sum(-1).mean())
    loss = float(stage.loss(outputs, labels, teacher))
    assert loss == pytest.approx(2 * divergence, rel=1e-5)


# --- Whole fine-tunings, small --------------------------------------------------------

RECIPE: dict[str, Any] = {
    "data": {"kind": "drawn", "size": 64, "count_train": 24, "count_val": 8, "seed": 1},
    "network": {
        "alpha": 0.35,
        "height": 64,
        "width": 64,
        "weights": "random",
        "exit_layers": ["block_2_add", "block_5_add"],
        "decoder_width": 8,
        "skip_width": 8,
    },
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


class Killed(Exception):
    pass


class Display:
    """Counts steps; can break training off at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.steps = 0

    @contextmanager
    def __call__(self, what: str, total: int) -> Iterator[Any]:
        yield self.step

    def step(self, count: int, note: str) -> None:
        if note:
            self.steps += count
            if self.steps == self.kill_at:
                raise Killed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SupernetSpec]:
    """A folder with a supernet that is not trained, and the chosen structure."""
    folder = tmp_path_factory.mktemp("run")
    recipe = Recipe.from_table(RECIPE)
    spec = design_from_recipe(recipe, ("sky", "ground", "sun"))
    from mess_tf.data.open import open_data

    spec = dataclasses.replace(spec, classes=open_data(recipe.data).train.classes)
    keras.utils.set_random_seed(0)
    build_supernet(spec).save(folder)
    return folder, spec.with_heads([(1, "fcn_r1_b0"), (3, "fcn_r1_b0_s1")])


def tuned(
    run: tuple[Path, SupernetSpec], work: Path, display: Display, **settings: Any
) -> list[np.ndarray]:
    recipe = Recipe.from_table(RECIPE)
    quantise = dataclasses.replace(recipe.quantise, **settings)
    recipe = dataclasses.replace(recipe, quantise=quantise)
    pictures = list(images(4, 0, (64, 64)))
    trained = fine_tune(recipe, run[0], work, run[1], pictures, display)
    return [variable.numpy() for variable in trained.variables()]


@pytest.fixture(scope="module")
def unbroken(
    run: tuple[Path, SupernetSpec], tmp_path_factory: pytest.TempPathFactory
) -> list[np.ndarray]:
    return tuned(run, tmp_path_factory.mktemp("unbroken"), Display())


@pytest.mark.parametrize("kill_at", [2, 5])
def test_a_fine_tuning_that_was_broken_off_ends_as_an_unbroken_one(
    run: tuple[Path, SupernetSpec],
    tmp_path: Path,
    unbroken: list[np.ndarray],
    kill_at: int,
) -> None:
    with pytest.raises(Killed):
        tuned(run, tmp_path, Display(kill_at))
    again = Display()
    resumed = tuned(run, tmp_path, again)
    assert again.steps == 3 * STEPS - (kill_at - 1) // STEPS * STEPS
    for own, theirs in zip(resumed, unbroken, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)
    (log,) = tmp_path.glob("*/qat.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[-1]["miou"]) == {"exit_1/fcn_r1_b0", "final"}


def test_another_number_of_epochs_starts_anew_and_spoils_nothing(
    run: tuple[Path, SupernetSpec], tmp_path: Path
) -> None:
    tuned(run, tmp_path, Display(), epochs=1)
    other = Display()
    tuned(run, tmp_path, other, epochs=2)
    assert other.steps == 2 * STEPS
    finished = Display()
    tuned(run, tmp_path, finished, epochs=1)
    assert finished.steps == 0


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
