"""Who learns in which stage, and that a killed training ends as an unbroken one."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from little_network import little_model, little_network

from mess_tf.adoption import design_adopted
from mess_tf.errors import MessError
from mess_tf.models.blocks import normalised
from mess_tf.models.flat import flatten
from mess_tf.recipe import Recipe
from mess_tf.records import HeadSpec, Preprocessing
from mess_tf.supernet import Supernet, build_supernet, design_supernet
from mess_tf.training.checkpoint import load_checkpoint, save_checkpoint
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import Joint, StageOne, _JointModel, stage_one_spec
from mess_tf.training.stage_two import StageTwo, supernet_after_stage_one
from mess_tf.training.step_model import compile_model, predicted
from mess_tf.training.teacher import Teacher
from mess_tf.training.train import _sharing, train_supernet

PLAIN = Optimisation(100, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
EQUAL = np.ones(3, np.float32)
SIZE = (32, 32)


def supernet_spec(
    early: tuple[str, ...] = ("fcn_r1_b0", "fcn_r1_b0_s1"), exits: int = 3
) -> Any:
    layers = ["block_2_add", "block_5_add", "block_9_add"]
    return design_supernet(
        "mobilenet_v2",
        ("a", "b", "c"),
        image_size=SIZE,
        final_heads=[
            HeadSpec.parse("fcn_r1_b0_s1" if exits > 1 else "fcn_r1_b0"),
            HeadSpec.parse("fcn_r2_b0"),
        ],
        early_heads=[HeadSpec.parse(head) for head in early],
        backbone_options={"alpha": 0.35},
        exits=exits,
        exit_layers=layers[: exits - 1],
        head_options={"decoder_width": 8, "skip_width": 8},
    )


@functools.cache
def little_spec(early: tuple[str, ...] = ("fcn_r1_b0",), exits: int = 3) -> Any:
    """The same with a network that is soon built, where any will do."""
    return design_adopted(
        flatten(little_model(SIZE[0]), SIZE),
        Preprocessing(),
        ("a", "b", "c"),
        final_heads=[
            HeadSpec.parse("fcn_r1_b0_s1" if exits > 1 else "fcn_r1_b0"),
            HeadSpec.parse("fcn_r2_b0"),
        ],
        early_heads=[HeadSpec.parse(head) for head in early],
        exits=exits,
        exit_layers=["two_relu", "three_relu", "four_relu"][: exits - 1],
        logits_stride=4,
        head_options={"decoder_width": 8, "skip_width": 8},
    )


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(4, *SIZE, 3)).astype(np.float32)
    return images, rng.integers(0, 3, (4, 8, 8))


def weights(supernet: Supernet) -> dict[str, list[np.ndarray]]:
    return {x.name: x.get_weights() for x in supernet.model.layers if x.weights}


def changed(
    before: dict[str, Any], after: dict[str, Any], *, kernels: bool
) -> set[str]:
    """Layers whose weights changed; with ``kernels`` those that gradients move only."""
    names = set()
    for name, values in before.items():
        pairs = list(zip(values, after[name], strict=True))
        if kernels:  # of a batch normalisation, not its moving statistics
            pairs = pairs[:2]
        if any(not np.array_equal(a, b) for a, b in pairs):
            names.add(name)
    return names


def test_in_stage_one_the_early_exits_take_turns() -> None:
    one = build_supernet(stage_one_spec(supernet_spec()))
    stage = StageOne(one, PLAIN, EQUAL)
    for step, turn in ((0, 1), (1, 2), (2, 1)):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        heads = {name.split("_")[1] for name in moved if name.startswith("head_")}
        assert heads == {str(turn), "3"}
        assert "Conv1" in moved


@pytest.mark.parametrize(
    ("exits", "per_step", "turns"),
    [
        (4, 2, [{"1", "2"}, {"3", "1"}, {"2", "3"}]),
        (3, 7, [{"1", "2"}, {"1", "2"}]),
        (1, 1, [set(), set()]),
    ],
)
def test_several_early_exits_take_their_turns_together(
    exits: int, per_step: int, turns: list[set[str]]
) -> None:
    one = build_supernet(stage_one_spec(little_spec(exits=exits)))
    stage = StageOne(one, PLAIN, EQUAL, Joint(per_step))
    for step, turn in enumerate(turns):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        heads = {name.split("_")[1] for name in moved if name.startswith("head_")}
        assert heads == turn | {str(exits)}


def test_a_plain_head_beside_the_final_one_takes_a_turn_too() -> None:
    full = little_spec()
    assert [len(heads) for heads in stage_one_spec(full).heads] == [1, 1, 1]
    both = (full.final_head, HeadSpec())
    spec = dataclasses.replace(full, heads=(*full.heads[:-1], both))
    one = build_supernet(stage_one_spec(spec))
    stage = StageOne(one, PLAIN, EQUAL, Joint(2))
    for step, turn in enumerate([{"1", "2"}, {"3", "1"}, {"2", "3"}]):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        plain = {n for n in moved if n.endswith("_fcn_r1_b0_logits")}
        assert plain == {f"head_{index}_fcn_r1_b0_logits" for index in turn}
        assert f"head_3_{spec.final_head.id}_logits" in moved


def moved_in_one_step(spec: Any, joint: Joint) -> set[str]:
    supernet = build_supernet(spec)
    before = weights(supernet)
    StageOne(supernet, PLAIN, EQUAL, joint).step(*batch(), 0)
    return changed(before, weights(supernet), kernels=True)


def test_end_to_end_all_heads_move_together() -> None:
    spec = supernet_spec()
    moved = moved_in_one_step(spec, Joint(99, "kd"))
    logits = {f"head_{index}_{head}_logits" for index, head in spec.head_names()}
    assert logits | {"Conv1"} <= moved


def test_frozen_trains_the_final_exit_alone() -> None:
    spec = stage_one_spec(little_spec(), early=False)
    assert [len(heads) for heads in spec.heads] == [0, 0, 1]
    moved = moved_in_one_step(spec, Joint())
    assert {name.split("_")[1] for name in moved if name.startswith("head_")} == {"3"}
    assert "one" in moved


def test_no_gradient_flows_into_the_teacher() -> None:
    """An early exit's wish to be like the final one must not move the final one."""
    spec = little_spec()
    results = []
    for alpha in (0.0, 1.0):
        supernet = build_supernet(spec)
        for layer in supernet.model.layers:
            rng = np.random.default_rng(len(layer.name))
            layer.set_weights([rng.uniform(0, 1, w.shape) for w in layer.get_weights()])
        StageOne(supernet, PLAIN, EQUAL, Joint(99, "kd", alpha)).step(*batch(), 0)
        results.append(weights(supernet))
    for name, values in results[0].items():
        if name.startswith(f"head_3_{spec.final_head.id}_"):
            for a, b in zip(values, results[1][name], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)
    assert not np.allclose(
        results[0]["head_1_fcn_r1_b0_logits"][0],
        results[1]["head_1_fcn_r1_b0_logits"][0],
    )


def test_stage_two_leaves_backbone_and_final_head_alone_and_trains_the_rest() -> None:
    spec = supernet_spec()
    one = build_supernet(stage_one_spec(spec))
    StageOne(one, PLAIN, EQUAL).step(*batch(), 0)
    full = supernet_after_stage_one(spec, one)
    before = weights(full)
    for name, values in weights(one).items():  # the plain heads too go on from there
        for a, b in zip(values, before[name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    stage = StageTwo(full, PLAIN, EQUAL)
    stage.step(*batch(), 0)
    moved = changed(before, weights(full), kernels=False)
    final = f"head_3_{spec.final_head.id}"
    assert not {n for n in moved if not n.startswith("head_") or n.startswith(final)}
    trained = {
        f"head_{index}_{head}_logits"
        for index, head in spec.head_names()
        if (index, head) != (3, spec.final_head.id)
    }
    assert trained <= moved


def test_in_stage_two_the_final_exit_teaches_unless_another_network_does() -> None:
    spec = supernet_spec()
    full = build_supernet(spec)
    images, labels = batch()
    own = full.at_size().model.predict_on_batch(images)[-2]
    own = np.asarray(keras.ops.image.resize(own, labels.shape[1:]))
    outside = np.full_like(own, 7)
    asked: list[Any] = []

    class Outside(Teacher):
        def __init__(self) -> None:
            pass

        def answer(self, images: np.ndarray, grid: Sequence[int]) -> np.ndarray:
            asked.append((images, tuple(grid)))
            return outside

    for teacher, expected in ((None, own), (Outside(), outside)):
        stage = StageTwo(full, PLAIN, EQUAL, teacher=teacher)
        seen: list[np.ndarray] = []

        def note(x: Any, y: Any, seen: list[np.ndarray] = seen) -> float:
            seen.append(y["teacher"])
            return 0.0

        for _, _, model in stage.groups:
            model.train_on_batch = note
        stage.step(images, labels, 0)
        assert len(seen) == len(stage.groups) == 3
        for answers in seen:
            np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    assert [(x is images, grid) for x, grid in asked] == [(True, (8, 8))]


def test_heads_trained_together_are_heads_trained_alone() -> None:
    together = supernet_spec(("fcn_r1_b0", "fcn_r1_b1"))
    alone = supernet_spec(("fcn_r1_b0",))
    results = []
    for spec in (together, alone):
        supernet = build_supernet(spec)
        rng = np.random.default_rng(0)
        for layer in supernet.model.layers:
            if layer.weights and "_b1_" not in layer.name:
                layer.set_weights(
                    [np.abs(rng.normal(0.5, 0.2, w.shape)) for w in layer.get_weights()]
                )
        stage = StageTwo(supernet, PLAIN, EQUAL)
        for step in range(2):
            stage.step(*batch(step), step)
        results.append(supernet.model.get_layer("head_1_fcn_r1_b0_conv").get_weights())
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-6)


def test_evaluation_counts_every_valid_cell_of_every_head() -> None:
    spec = supernet_spec()
    stage = StageTwo(build_supernet(spec), PLAIN, EQUAL)
    images, labels = batch()
    labels[0] = 255
    areas = stage.evaluate(images, labels)
    assert len(areas) == len(spec.head_names())
    for name, counted in areas.items():
        assert counted.true.sum() == counted.predicted.sum() == 3 * 64, name


def test_a_checkpoint_of_other_settings_or_a_broken_one_is_refused(
    tmp_path: Path,
) -> None:
    stage = StageOne(build_supernet(stage_one_spec(little_spec())), PLAIN, EQUAL)
    path = tmp_path / "stage1.npz"
    assert load_checkpoint(path, stage.variables(), "a") == 0
    save_checkpoint(path, stage.variables(), 3, "a")
    assert load_checkpoint(path, stage.variables(), "a") == 3
    with pytest.raises(MessError, match="other settings"):
        load_checkpoint(path, stage.variables(), "b")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MessError, match="cannot be read"):
        load_checkpoint(path, stage.variables(), "a")


# --- Whole trainings, small -----------------------------------------------------------

RECIPE: dict[str, Any] = {
    "data": {"kind": "drawn", "size": 64, "count_train": 24, "count_val": 8, "seed": 1},
    "network": {
        "alpha": 0.35,
        "height": 64,
        "width": 64,
        "weights": "random",
        "exit_layers": ["block_2_add"],
        "decoder_width": 8,
        "skip_width": 8,
    },
    "heads": {"final": "fcn_r1_b0_s1", "early": ["fcn_r1_b0", "fcn_r2_b1"]},
    "training": {
        "batch": 8,
        "stage1_epochs": 2,
        "stage2_epochs": 2,
        "learning_rate": 0.01,
        "loss_stride": 4,
        "crop": 0.5,  # training and evaluation see different sizes
        "jitter": 0.1,
        "class_balance": 0.5,
    },
}


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


def trained(
    folder: Path,
    display: Display,
    network: dict[str, Any] | None = None,
    **training: Any,
) -> list[np.ndarray]:
    table = {**RECIPE, "training": {**RECIPE["training"], **training}}
    recipe = Recipe.from_table(table | {"network": network or RECIPE["network"]})
    net = train_supernet(recipe, folder, folder / "training", display)
    return net.model.get_weights()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """Where a training went through in one go, and what came out."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, trained(folder, Display())


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return little_network(tmp_path_factory.mktemp("little"), ["two_relu"])


@pytest.fixture(scope="module")
def unbroken(
    little: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[np.ndarray]]:
    """The same with the little network."""
    folder = tmp_path_factory.mktemp("little_unbroken")
    return folder, trained(folder, Display(), little)


def test_a_training_that_was_broken_off_ends_as_an_unbroken_one(
    tmp_path: Path, little: dict[str, Any], unbroken: tuple[Path, list[np.ndarray]]
) -> None:
    # 3 steps an epoch, 2 + 2 epochs; finished epochs are not done again. Broken off in
    # the first epoch, in the second, and in the last one of stage 2.
    done = 0
    for kill_at in (2, 5, 11):
        display = Display(kill_at - done)
        with pytest.raises(Killed):
            trained(tmp_path, display, little)
        done = (kill_at - 1) // 3 * 3
    again = Display()
    resumed = trained(tmp_path, again, little)
    assert again.steps == 12 - done
    for a, b in zip(unbroken[1], resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    lines = (tmp_path / "training" / "stage1.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert set(json.loads(lines[-1])["miou"]) == {"exit_1/fcn_r1_b0", "final"}
    assert list((tmp_path / "training" / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("scheme", "loss", "stages"),
    [("e2e", "kd", ["stage1"]), ("frozen", "ce", ["stage1", "stage2"])],
)
def test_other_schemes_train_to_the_end(
    tmp_path: Path, little: dict[str, Any], scheme: str, loss: str, stages: list[str]
) -> None:
    trained(tmp_path, Display(), little, scheme=scheme, loss=loss)
    files = sorted((tmp_path / "training").glob("*.jsonl"))
    assert [file.stem for file in files] == stages
    last = json.loads(files[-1].read_text().splitlines()[-1])
    assert set(last["miou"]) == {"exit_1/fcn_r1_b0", "exit_1/fcn_r2_b1", "final"}
    first = json.loads(files[0].read_text().splitlines()[-1])
    assert len(first["miou"]) == (3 if scheme == "e2e" else 1)


def losses(folder: Path) -> list[float]:
    files = [folder / "training" / f"stage{number}.jsonl" for number in (1, 2)]
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [json.loads(line)["loss"] for line in lines]


def test_mixed_precision_trains_alike_and_leaves_a_float32_network(
    tmp_path: Path, whole: tuple[Path, list[np.ndarray]]
) -> None:
    folder, full = whole
    mixed = trained(tmp_path, Display(), mixed_precision=True)
    assert all(values.dtype == np.float32 for values in mixed)
    assert all(np.isfinite(values).all() for values in mixed)
    # bfloat16 has three digits: it must show, and must not matter.
    assert losses(tmp_path) != losses(folder)
    np.testing.assert_allclose(losses(tmp_path), losses(folder), rtol=0.05)
    stored = keras.saving.load_model(tmp_path / "supernet.keras")
    assert {layer.compute_dtype for layer in stored.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_another_second_stage_goes_on_from_the_first_ones_checkpoint(
    tmp_path: Path, little: dict[str, Any], unbroken: tuple[Path, list[np.ndarray]]
) -> None:
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    with pytest.raises(MessError, match=r"stage2.npz was made with other settings"):
        trained(tmp_path, Display(), little, loss="kd")
    (tmp_path / "training" / "stage2.npz").unlink()
    display = Display()
    taught = {"loss": "kd", "teacher": str(unbroken[0]), "taught": ["early"]}
    trained(tmp_path, display, little, **taught)
    assert display.steps == 2 * 3  # epochs and steps of stage 2 alone
    with pytest.raises(MessError, match=r"stage1.npz was made with other settings"):
        trained(tmp_path, Display(), little, loss="kd", teacher=str(unbroken[0]))
    with pytest.raises(MessError, match=r"stage1.npz was made with other settings"):
        trained(tmp_path, Display(), little, learning_rate=0.02)


def test_training_again_changes_nothing(
    little: dict[str, Any], unbroken: tuple[Path, list[np.ndarray]]
) -> None:
    folder, first = unbroken
    display = Display()
    second = trained(folder, display, little)
    assert display.steps == 0
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def on_jax(code: str, **variables: str) -> str:
    """Runs code with this file as ``module`` where Keras works on JAX; its output."""
    pytest.importorskip("jax", reason="JAX is not installed (pip install mess-tf[jax])")
    script = f"""
import sys
sys.modules["tensorflow"] = None  # any import of it fails
sys.path[:0] = {[p for p in sys.path if p]!r}
import importlib.util, json, pathlib
spec = importlib.util.spec_from_file_location("stages", {__file__!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **variables},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_training_runs_on_jax_without_tensorflow(
    tmp_path: Path, little: dict[str, Any], unbroken: tuple[Path, list[np.ndarray]]
) -> None:
    folder = f"pathlib.Path({str(tmp_path)!r})"
    on_jax(f"module.trained({folder}, module.Display(), {little!r})")
    first = json.loads((tmp_path / "training/stage1.jsonl").read_text().splitlines()[0])
    assert 0.3 < first["loss"] < 6
    assert (tmp_path / "supernet.keras").is_file()
    # Written by JAX, read by TensorFlow.
    again = Supernet.load(tmp_path)
    assert [w.shape for w in again.model.get_weights()] == [
        w.shape for w in unbroken[1]
    ]


def test_two_devices_train_as_one_does() -> None:
    said = on_jax(
        "print(json.dumps([module.steps_on(1), module.steps_on(2)]))",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    one, two = json.loads(said.splitlines()[-1])
    assert (one["devices"], two["devices"]) == (1, 2)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4)
    assert one["losses"][0] != one["losses"][1]
    np.testing.assert_allclose(two["predicted"], one["predicted"], rtol=1e-3, atol=1e-5)


def steps_on(devices: int) -> dict[str, Any]:
    """Two steps of stage 1's model on a small network, and three images predicted."""
    with _sharing(devices):
        keras.utils.set_random_seed(0)
        image = keras.Input((*SIZE, 3))
        logits = keras.layers.Conv2D(3, 4, strides=4)(normalised(image, "bn"))
        model = _JointModel(image, [logits])
        model.class_weights, model.joint, model.final = EQUAL, Joint(), 0
        compile_model(model, PLAIN)
        images, labels = batch()
        y = {"labels": labels, "turn": np.ones((4, 1), np.float32)}
        return {
            "losses": [float(model.train_on_batch(images, y)) for _ in range(2)],
            "predicted": predicted(model, images[:3])[0].tolist(),
            "devices": len(model.trainable_variables[0].value.devices()),
        }


def test_several_devices_need_jax_and_an_even_share() -> None:
    with pytest.raises(MessError, match="KERAS_BACKEND=jax"):
        _sharing(2)
    table = {**RECIPE, "training": {**RECIPE["training"], "devices": 3}}
    with pytest.raises(MessError, match="batch = 8 cannot be shared by 3 devices"):
        Recipe.from_table(table)
