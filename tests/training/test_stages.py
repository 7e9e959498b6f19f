"""Who learns in which stage, and what a checkpoint of a stage refuses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec, Preprocessing
from mess_tf.models.adoption import design_adopted
from mess_tf.models.flatten import flatten
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.training.checkpoint import load_checkpoint, save_checkpoint
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import ExitLossConfig, StageOne, stage_one_spec
from mess_tf.training.stage_two import StageTwo, supernet_after_stage_one
from mess_tf.training.teacher import Teacher
from tests.support.little_network import little_model

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
    one = build_supernet(stage_one_spec(little_spec()))
    stage = StageOne(one, PLAIN, EQUAL)
    for step, turn in ((0, 1), (1, 2), (2, 1)):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        heads = {name.split("_")[1] for name in moved if name.startswith("head_")}
        assert heads == {str(turn), "3"}
        assert "one" in moved


@pytest.mark.slow
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
    stage = StageOne(one, PLAIN, EQUAL, ExitLossConfig(per_step))
    for step, turn in enumerate(turns):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        heads = {name.split("_")[1] for name in moved if name.startswith("head_")}
        assert heads == turn | {str(exits)}


@pytest.mark.slow
def test_a_plain_head_beside_the_final_one_takes_a_turn_too() -> None:
    full = little_spec()
    assert [len(heads) for heads in stage_one_spec(full).heads] == [1, 1, 1]
    both = (full.final_head, HeadSpec())
    spec = dataclasses.replace(full, heads=(*full.heads[:-1], both))
    one = build_supernet(stage_one_spec(spec))
    stage = StageOne(one, PLAIN, EQUAL, ExitLossConfig(2))
    for step, turn in enumerate([{"1", "2"}, {"3", "1"}, {"2", "3"}]):
        before = weights(one)
        stage.step(*batch(step), step)
        moved = changed(before, weights(one), kernels=True)
        plain = {n for n in moved if n.endswith("_fcn_r1_b0_logits")}
        assert plain == {f"head_{index}_fcn_r1_b0_logits" for index in turn}
        assert f"head_3_{spec.final_head.id}_logits" in moved


def moved_in_one_step(spec: Any, loss_config: ExitLossConfig) -> set[str]:
    supernet = build_supernet(spec)
    before = weights(supernet)
    StageOne(supernet, PLAIN, EQUAL, loss_config).step(*batch(), 0)
    return changed(before, weights(supernet), kernels=True)


@pytest.mark.slow
def test_end_to_end_all_heads_move_together() -> None:
    spec = supernet_spec()
    moved = moved_in_one_step(spec, ExitLossConfig(99, "kd"))
    logits = {f"head_{index}_{head}_logits" for index, head in spec.head_names()}
    assert logits | {"Conv1"} <= moved


@pytest.mark.slow
def test_frozen_trains_the_final_exit_alone() -> None:
    spec = stage_one_spec(little_spec(), early=False)
    assert [len(heads) for heads in spec.heads] == [0, 0, 1]
    moved = moved_in_one_step(spec, ExitLossConfig())
    assert {name.split("_")[1] for name in moved if name.startswith("head_")} == {"3"}
    assert "one" in moved


@pytest.mark.slow
def test_no_gradient_flows_into_the_teacher() -> None:
    """An early exit's wish to be like the final one must not move the final one."""
    spec = little_spec()
    results = []
    for alpha in (0.0, 1.0):
        supernet = build_supernet(spec)
        for layer in supernet.model.layers:
            rng = np.random.default_rng(len(layer.name))
            layer.set_weights([rng.uniform(0, 1, w.shape) for w in layer.get_weights()])
        StageOne(supernet, PLAIN, EQUAL, ExitLossConfig(99, "kd", alpha)).step(
            *batch(), 0
        )
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
    spec = little_spec(("fcn_r1_b0", "fcn_r1_b0_s1"))
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


@pytest.mark.slow
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


@pytest.mark.slow
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
