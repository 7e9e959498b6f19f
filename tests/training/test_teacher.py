"""Another run's final exit as teacher: what it sees and says, and whom it moves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from mess_tf.commands.train import train
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import head_name
from mess_tf.core.supernet_spec import HeadSpec, Preprocessing, SupernetSpec
from mess_tf.models.supernet import Supernet, design_supernet
from mess_tf.training.log import ScalarLog
from mess_tf.training.loop import Batch, EpochData, run_stage
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import ExitLossConfig, MultiExitModel, StageOne
from mess_tf.training.teacher import Teacher, check_teacher
from tests.support.interruption import Killed

CLASSES = ("a", "b", "c")
EQUAL = np.ones(3, np.float32)
SLOW = Optimisation(100, learning_rate=0.1, momentum=0.0, weight_decay=0.0)


@pytest.fixture(scope="module")
def spec() -> SupernetSpec:
    """One exit point with one head."""
    return design_supernet(
        "mobilenet_v2",
        CLASSES,
        image_size=(64, 96),
        final_heads=[HeadSpec()],
        early_heads=[],
        backbone_options={"alpha": 0.35},
        exits=1,
    )


def small(spec: SupernetSpec, seed: int = 0, side: int | None = None) -> Supernet:
    """A network of two layers in the place of the one that ``spec`` describes.

    Its normalisation and its dropout answer otherwise in training than in inference.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(8, 4, strides=4)(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    logits = keras.layers.Conv2D(
        len(spec.classes), 1, name=f"{head_name(1, HeadSpec().id)}_logits"
    )(x)
    rng = np.random.default_rng(seed)
    model = keras.Model(image, logits)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return Supernet(spec, model)


def student_spec(spec: SupernetSpec) -> SupernetSpec:
    """Half as large, and with other ideas of what a pixel is."""
    return dataclasses.replace(
        spec,
        image_height=32,
        image_width=48,
        preprocessing=Preprocessing((120.0, 110.0, 100.0), (50.0, 60.0, 70.0)),
    )


def crops(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 32, 32, 3)).astype(np.float32)


def larger(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.stack([cv2.resize(x, (width, height)) for x in image])


def test_it_sees_the_same_picture_its_own_way(spec: SupernetSpec) -> None:
    supernet, student = small(spec), student_spec(spec)
    pixels = crops() * student.preprocessing.std + student.preprocessing.mean
    seen = (pixels - spec.preprocessing.mean) / spec.preprocessing.std
    seen = larger(seen.astype(np.float32), 64, 64)
    logits = np.asarray(supernet.model(seen, training=False))
    expected = larger(logits, 8, 8)
    got = Teacher(supernet, student).answer(crops(), (8, 8))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_one_size_sees_every_crop_at_it(spec: SupernetSpec) -> None:
    teacher = Teacher(small(spec, side=80), student_spec(spec))
    assert teacher.input_size((32, 32)) == (80, 80)
    assert teacher.answer(crops(), (8, 4)).shape == (2, 8, 4, 3)


def test_crops_grow_with_the_input_to_whole_cells(spec: SupernetSpec) -> None:
    teacher = Teacher(small(spec), student_spec(spec))
    assert teacher.input_size((32, 48)) == (64, 96)
    assert teacher.input_size((30, 44)) == (64, 96)
    same = Teacher(small(spec), spec)
    assert same.input_size((48, 64)) == (48, 64)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picked = np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)
    return -picked[..., 0]


def divergences(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    tutor = log_softmax(teacher)
    return np.asarray((np.exp(tutor) * (tutor - log_softmax(student))).sum(axis=-1))


@pytest.mark.parametrize("taught", [(), ("final",), ("early",), ("final", "early")])
def test_whose_loss_has_which_teacher(taught: Any) -> None:
    """Output 0 is an early exit that learns by kd, output 1 the final one."""
    rng = np.random.default_rng(1)
    early, final, outside = rng.normal(size=(3, 2, 4, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 4, 4))
    image = keras.Input((4, 4, 3))
    model = MultiExitModel(image, [image, image])
    model.class_weights, model.final = EQUAL, 1
    model.loss_config = ExitLossConfig(1, "kd", 0.3, taught)
    y = {"labels": keras.ops.array(labels), "turn": np.ones((2, 2), np.float32)}
    if taught:
        y["teacher"] = keras.ops.array(outside)
    got = model.compute_loss(y=y, y_pred=[keras.ops.array(x) for x in (early, final)])
    tutor = outside if "early" in taught else final
    expected = 0.7 * entropies(early, labels) + 0.3 * divergences(tutor, early)
    if "final" in taught:
        expected += 0.7 * entropies(final, labels) + 0.3 * divergences(outside, final)
    else:
        expected += entropies(final, labels)
    assert float(got) == pytest.approx(expected.mean(), rel=1e-5)


def batches(seed: int) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [(crops(seed + i), rng.integers(0, 3, (2, 8, 8))) for i in range(3)]


def taught_stage(spec: SupernetSpec) -> StageOne:
    teacher = Teacher(small(spec, seed=1), student_spec(spec))
    loss_config = ExitLossConfig(alpha=1.0, teacher_targets=("final",))
    return StageOne(
        small(student_spec(spec), seed=2), SLOW, EQUAL, loss_config, teacher
    )


def test_it_is_frozen_and_the_final_exit_comes_to_say_the_same(
    spec: SupernetSpec,
) -> None:
    stage = taught_stage(spec)
    assert stage.teacher is not None
    before = [np.array(w) for w in stage.teacher.model.get_weights()]
    said = stage.teacher.answer(crops(), (8, 8))
    images, labels = batches(0)[0]
    losses = [stage.step(images, labels, step) for step in range(12)]
    assert losses[-1] < losses[0]
    for a, b in zip(before, stage.teacher.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(stage.teacher.answer(crops(), (8, 8)), said)


def test_a_taught_stage_that_was_broken_off_ends_as_an_unbroken_one(
    spec: SupernetSpec, tmp_path: Path
) -> None:
    def run(folder: Path, kill_at: int | None = None) -> list[np.ndarray]:
        stage = taught_stage(spec)
        keras.utils.set_random_seed(0)
        steps = 0

        def progress(count: int, note: str) -> None:
            nonlocal steps
            steps += count
            if steps == kill_at:
                raise Killed

        data = EpochData(batches, lambda: iter(batches(9)), 3, 2)
        with ScalarLog(folder / "log") as log:
            run_stage(stage, data, folder, "same", log, progress)
        return [np.asarray(w) for w in stage.supernet.model.get_weights()]

    unbroken = run(tmp_path / "a")
    with pytest.raises(Killed):
        run(tmp_path / "b", kill_at=5)
    for a, b in zip(unbroken, run(tmp_path / "b"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_who_cannot_teach_is_named(spec: SupernetSpec, tmp_path: Path) -> None:
    with pytest.raises(MessError, match="no trained network in it. Run `mess train"):
        check_teacher(tmp_path / "none", CLASSES)
    small(spec).save(tmp_path)
    check_teacher(tmp_path, CLASSES)
    for classes, said in (
        (("a", "c", "b"), "class 1 is b, that of this data set c"),
        (("a", "b"), "class 2 is c, that of this data set missing"),
        ((*CLASSES, "d"), "class 3 is missing, that of this data set d"),
    ):
        with pytest.raises(MessError, match=said):
            check_teacher(tmp_path, classes)
    (tmp_path / "supernet.keras").unlink()
    with pytest.raises(MessError, match="no trained network"):
        check_teacher(tmp_path, CLASSES)


def test_the_command_looks_at_the_teacher_before_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mess_tf.commands.train._validate", lambda run: pytest.fail())
    changes = [f"training.teacher={tmp_path / 'none'}"]
    with pytest.raises(MessError, match="training.teacher = .* is not accepted"):
        train(tmp_path / "run", recipe="quickstart", changes=changes)
