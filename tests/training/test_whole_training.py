"""Whole trainings: broken off, of every scheme, on JAX, on several devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.models.blocks import normalised
from mess_tf.models.supernet import Supernet
from mess_tf.recipe.recipe import Recipe
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import ExitLossConfig, MultiExitModel
from mess_tf.training.step_model import compile_model, predicted
from mess_tf.training.train import _data_parallel, train_supernet
from tests.support.interruption import Display, Killed
from tests.support.little_network import little_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_mixed_precision_trains_alike_and_leaves_a_float32_network(
    tmp_path: Path,
) -> None:
    # Steps so small that both stay at the same weights: larger ones drive any two
    # roundings apart, those of two processors' float32 kernels as well (by 4 % here).
    tiny_steps: dict[str, Any] = {
        "learning_rate": 1e-5,
        "stage1_epochs": 1,
        "stage2_epochs": 1,
    }
    trained(tmp_path / "full", Display(), **tiny_steps)
    mixed = trained(tmp_path / "mixed", Display(), mixed_precision=True, **tiny_steps)
    assert all(values.dtype == np.float32 for values in mixed)
    assert all(np.isfinite(values).all() for values in mixed)
    full, rounded = losses(tmp_path / "full"), losses(tmp_path / "mixed")
    # bfloat16 has three digits: it must show, and must not matter.
    assert rounded != full
    np.testing.assert_allclose(rounded, full, rtol=0.02)
    stored = keras.saving.load_model(tmp_path / "mixed" / "supernet.keras")
    assert {layer.compute_dtype for layer in stored.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
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
import json, pathlib
from tests.training import test_whole_training as module
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
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


@pytest.mark.slow
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
    with _data_parallel(devices):
        keras.utils.set_random_seed(0)
        image = keras.Input((32, 32, 3))
        logits = keras.layers.Conv2D(3, 4, strides=4)(normalised(image, "bn"))
        model = MultiExitModel(image, [logits])
        model.class_weights = np.ones(3, np.float32)
        model.loss_config, model.final = ExitLossConfig(), 0
        plain = Optimisation(100, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
        compile_model(model, plain)
        rng = np.random.default_rng(0)
        images = rng.normal(size=(4, 32, 32, 3)).astype(np.float32)
        labels = rng.integers(0, 3, (4, 8, 8)).astype(np.int32)
        y = {"labels": labels, "turn": np.ones((4, 1), np.float32)}
        return {
            "losses": [float(model.train_on_batch(images, y)) for _ in range(2)],
            "predicted": predicted(model, images[:3])[0].tolist(),
            "devices": len(model.trainable_variables[0].value.devices()),
        }


def test_several_devices_need_jax_and_an_even_share() -> None:
    with pytest.raises(MessError, match="KERAS_BACKEND=jax"):
        _data_parallel(2)
    table = {**RECIPE, "training": {**RECIPE["training"], "devices": 3}}
    with pytest.raises(MessError, match="batch = 8 cannot be shared by 3 devices"):
        Recipe.from_table(table)
