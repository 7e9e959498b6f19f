"""Every form says what the default form says, in other types and by other means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.exporting.linking import link_configuration, link_static
from mess_tf.exporting.model_io import folds_pixels
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.staged_export import (
    link_progressive,
    link_stages,
    stage_files,
)
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.models.supernet import build_supernet, design_supernet
from mess_tf.runtime.interpreter import quantise
from mess_tf.runtime.linked_model import LinkedModel, Prediction
from mess_tf.runtime.stage_plan import StagedModel, StagePlan
from tests.support.tiers import sampled

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]


def _pixels(compiled: Compiled, count: int) -> list[np.ndarray]:
    images = compiled.images(count, seed=7)
    return [np.clip(i * 127.5 + 127.5, 0, 255).round().astype(np.uint8) for i in images]


def _normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(np.float32) - 127.5) / np.float32(127.5)


def _linked(
    compiled: Compiled, path: Path, form: ExportForm, configuration: Configuration
) -> LinkedModel:
    link_configuration(compiled.pieces, compiled.spec, configuration, path, form)
    thresholds = [float(c.threshold or 0) for c in configuration.exits[:-1]]
    return LinkedModel(path, thresholds=thresholds)


def _answers(
    model: LinkedModel | StagedModel, pixels: list[np.ndarray]
) -> list[Prediction]:
    takes_pixels = model.image.dtype == "uint8"
    return [model.run(p if takes_pixels else _normalised(p)) for p in pixels]


@pytest.fixture
def configuration(compiled: Compiled) -> Configuration:
    return compiled.configuration()


@pytest.fixture
def default(
    compiled: Compiled, configuration: Configuration, tmp_path: Path
) -> list[Prediction]:
    """What the default form says of 24 images; all exits are taken."""
    model = _linked(compiled, tmp_path / "default", ExportForm(), configuration)
    answers = _answers(model, _pixels(compiled, 24))
    assert len(Counter(answer.exit for answer in answers)) >= 3
    return answers


def test_logits_have_the_same_values_in_every_type(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    types = ["float32"] + (["int8", "uint8"] if compiled.precision == "int8" else [])
    for name in types:
        form = ExportForm(input="float32", output=name)  # type: ignore[arg-type]
        model = _linked(compiled, tmp_path / name, form, configuration)
        assert (model.image.dtype, model.logits.dtype) == ("float32", name)
        for answer, expected in zip(
            _answers(model, _pixels(compiled, 24)), default, strict=True
        ):
            assert answer.exit == expected.exit
            np.testing.assert_array_equal(answer.logits, expected.logits)


def test_camera_pixels_give_the_same_answers(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    form = ExportForm(input="uint8")
    model = _linked(compiled, tmp_path / "pixels", form, configuration)
    assert model.image.dtype == "uint8"
    answers = _answers(model, _pixels(compiled, 24))
    same = [a.exit == b.exit for a, b in zip(answers, default, strict=True)]
    if compiled.precision == "dynamic":
        # Rounding at run time makes steps of the last bit of a pixel's value.
        assert sum(same) >= 22
        return
    assert all(same)
    # Folded into the int8 image nothing changes; the float way has float noise.
    own = compiled.pieces["segment_1"].inputs[0]
    exact = folds_pixels(own, compiled.spec.preprocessing)
    assert exact == (compiled.precision == "int8")
    for answer, expected in zip(answers, default, strict=True):
        assert answer.logits is not None and expected.logits is not None
        np.testing.assert_allclose(
            answer.logits, expected.logits, atol=0 if exact else 1e-3
        )


def test_class_ids_are_those_of_the_largest_logits(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    both = _linked(
        compiled, tmp_path / "both", ExportForm(answer="both"), configuration
    )
    alone = _linked(
        compiled, tmp_path / "alone", ExportForm(answer="classes"), configuration
    )
    assert alone.logits is None
    pixels = _pixels(compiled, 24)
    for with_logits, classes, expected in zip(
        _answers(both, pixels), _answers(alone, pixels), default, strict=True
    ):
        assert with_logits.exit == classes.exit == expected.exit
        np.testing.assert_array_equal(with_logits.logits, expected.logits)
        assert classes.logits is None and classes.classes.dtype == np.uint8
        np.testing.assert_array_equal(classes.classes, with_logits.classes)
        chosen = np.take_along_axis(
            expected.logits, classes.classes[..., None].astype(int), -1
        )[..., 0]
        # int8 logits are equal more often than the finer ones the ids are taken from.
        np.testing.assert_array_equal(chosen, expected.logits.max(-1))


def test_answers_at_image_resolution_are_the_upsampled_ones(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    form = ExportForm(answer="both", resolution="image")
    model = _linked(compiled, tmp_path / "image", form, configuration)
    size = (compiled.spec.image_width, compiled.spec.image_height)
    step = 0.0 if model.logits is None else model.logits.scale
    for answer, expected in zip(
        _answers(model, _pixels(compiled, 24)), default, strict=True
    ):
        assert answer.exit == expected.exit
        assert answer.logits.shape[:2] == answer.classes.shape == size[::-1]
        upsampled = cv2.resize(expected.logits, size, interpolation=cv2.INTER_LINEAR)
        # Heads of a coarser grid go up in one step here and in two there.
        inner = np.abs(answer.logits - upsampled)[8:-8, 8:-8]
        assert np.median(inner) <= 0.5 * step + 0.05 * np.abs(upsampled).max()
        chosen = np.take_along_axis(
            answer.logits, answer.classes[..., None].astype(int), -1
        )[..., 0]
        np.testing.assert_array_equal(chosen, answer.logits.max(-1))


def test_thresholds_are_a_knob_at_run_time(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    form = ExportForm(threshold_input=True)
    model = _linked(compiled, tmp_path / "knob", form, configuration)
    pixels = _pixels(compiled, 24)
    for answer, expected in zip(_answers(model, pixels), default, strict=True):
        assert answer.exit == expected.exit
        np.testing.assert_array_equal(answer.logits, expected.logits)
    image = _normalised(pixels[0])
    order = [choice.exit for choice in configuration.exits]
    for at, exit_index in enumerate(order):
        limits = [2.0] * at + [-1.0] * (len(order) - 1 - at)
        assert model.run(image, limits).exit == exit_index
    with pytest.raises(MessError, match="takes 3 thresholds"):
        model.run(image, [0.5])


def test_further_signatures_run_up_to_an_exit(
    compiled: Compiled, configuration: Configuration, tmp_path: Path
) -> None:
    path = tmp_path / "exits"
    form = ExportForm(exit_signatures=True, answer="both")
    model = _linked(compiled, path, form, configuration)
    interpreter = Interpreter(str(path))
    order = [choice.exit for choice in configuration.exits]
    names = ["serve", *(f"exit_{exit_index}" for exit_index in order)]
    assert sorted(interpreter.get_signature_list()) == sorted(names)
    image = _normalised(_pixels(compiled, 1)[0])
    given = quantise(image[None], model.image)
    for exit_index, choice in zip(order, configuration.exits, strict=True):
        result = interpreter.get_signature_runner(f"exit_{exit_index}")(image=given)
        assert result["exit"].tolist() == [exit_index]
        # The same exit alone, where the dynamic file is made to leave there.
        forced = Configuration(
            tuple(
                replace(c, threshold=-1.0 if c is choice else 2.0)
                if c.policy is not None
                else c
                for c in configuration.exits
            )
        )
        alone = _linked(compiled, tmp_path / "forced", ExportForm(), forced)
        expected = alone.run(image)
        assert expected.exit == exit_index
        scale = alone.logits.scale or 1.0
        logits = (result["logits"][0] - float(alone.logits.zero_point)) * scale
        assert expected.logits is not None
        np.testing.assert_allclose(logits, expected.logits, atol=2e-5)
        assert result["classes"].shape[1:] == logits.shape[:2]


def test_stages_and_their_plan_say_the_same(
    compiled: Compiled,
    configuration: Configuration,
    default: list[Prediction],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "stages"
    plan = link_stages(compiled.pieces, compiled.spec, configuration, folder)
    assert StagePlan.load(folder) == plan
    assert {p.name for p in folder.iterdir()} == {"plan.json", *stage_files(plan)}
    for name in stage_files(plan):
        model = read_file(folder / name)
        assert len(model.subgraphs) == 1
    for answer, expected in zip(
        _answers(StagedModel(folder), _pixels(compiled, 24)), default, strict=True
    ):
        assert answer.exit == expected.exit
        assert answer.logits is not None and expected.logits is not None
        np.testing.assert_allclose(answer.logits, expected.logits, atol=1e-5)


def test_stages_take_pixels_and_give_class_ids(
    compiled: Compiled, configuration: Configuration, tmp_path: Path
) -> None:
    form = ExportForm(input="uint8", answer="classes", resolution="image")
    linked = _linked(compiled, tmp_path / "linked", form, configuration)
    folder = tmp_path / "stages"
    link_stages(
        compiled.pieces,
        compiled.spec,
        configuration,
        folder,
        replace(form, form="stages"),
    )
    staged, pixels = StagedModel(folder), _pixels(compiled, 12)
    assert staged.logits is None
    for answer, expected in zip(
        _answers(staged, pixels), _answers(linked, pixels), strict=True
    ):
        assert answer.exit == expected.exit
        np.testing.assert_array_equal(answer.classes, expected.classes)
    deepest = staged.run(pixels[0], [2.0] * 3)
    assert deepest.exit == configuration.exits[-1].exit


def test_int8_stages_are_int8_and_hand_over_what_they_make(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    plan = link_stages(
        compiled.pieces, compiled.spec, compiled.configuration(), tmp_path
    )
    made: dict[Any, Any] = {}
    for stage in plan.stages:
        graph = Graph(read_file(tmp_path / stage.file))
        dtypes = {graph.info(t).dtype for t in range(len(graph.tensors))}
        assert dtypes == {"int8", "int32"}
        for info in stage.inputs:
            assert info.name == "image" or made[info.name] == info
        made.update({info.name: info for info in stage.outputs})
    # Only what later stages read is handed over.
    read = {info.name for stage in plan.stages for info in stage.inputs}
    logits = {stage.logits for stage in plan.stages}
    assert set(made) == (read - {"image"}) | logits


def test_every_stage_of_a_progressive_plan_answers_as_if_all_left_there(
    compiled: Compiled, configuration: Configuration, tmp_path: Path
) -> None:
    heads = [(choice.exit, choice.head) for choice in configuration.exits]
    plan = link_progressive(compiled.pieces, compiled.spec, heads, tmp_path / "all")
    assert StagePlan.load(tmp_path / "all") == plan and plan.progressive
    assert all(stage.decision is None for stage in plan.stages)
    deciding = link_stages(
        compiled.pieces, compiled.spec, configuration, tmp_path / "decides"
    )
    assert not deciding.progressive
    progressive, forced = (StagedModel(tmp_path / name) for name in ("all", "decides"))
    image = _normalised(_pixels(compiled, 1)[0])
    answers = list(progressive.answers(image))
    assert [answer.exit for answer in answers] == [exit_ for exit_, _ in heads]
    early = len(heads) - 1
    for place, answer in enumerate(answers):
        leave_here = [2.0] * place + [-1.0] * (early - place)
        expected = forced.run(image, leave_here)
        assert expected.exit == answer.exit
        assert answer.logits is not None and expected.logits is not None
        np.testing.assert_allclose(answer.logits, expected.logits, atol=1e-5)
    np.testing.assert_array_equal(progressive.run(image).logits, answers[-1].logits)


def test_no_stage_is_run_before_its_answer_is_asked_for(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    exits = compiled.configuration().exits
    heads = [(choice.exit, choice.head) for choice in exits]
    plan = link_progressive(compiled.pieces, compiled.spec, heads, tmp_path)
    staged = StagedModel(tmp_path)
    (tmp_path / plan.stages[1].file).unlink()
    answers = staged.answers(_normalised(_pixels(compiled, 1)[0]))
    assert next(answers).exit == heads[0][0]
    with pytest.raises(MessError, match=plan.stages[1].file):
        next(answers)


def test_a_broken_plan_is_told_in_one_line(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("float32")
    folder = tmp_path / "stages"
    plan = link_stages(compiled.pieces, compiled.spec, compiled.configuration(), folder)
    with pytest.raises(MessError, match=r"takes float32 images"):
        StagedModel(folder).run(np.zeros((64, 96, 3), np.uint8))
    (folder / plan.stages[1].file).write_bytes(b"no model")
    with pytest.raises(MessError, match=plan.stages[1].file):
        StagedModel(folder).run(compiled.images(1, seed=0)[0], [2.0, 2.0, 2.0])
    (folder / "plan.json").write_text('{"schema": 1, "stages": [{"exit": 1}]}')
    with pytest.raises(MessError, match="cannot be read"):
        StagePlan.load(folder)
    with pytest.raises(MessError, match="--form stages"):
        StagePlan.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", sampled(["int8", "float32"], 1))
def test_decisions_and_signatures_hardly_take_room(
    precision: Precision, tmp_path: Path
) -> None:
    """At MobileNetV2's full width; the sizes of files do not depend on training."""
    spec = design_supernet(
        "mobilenet_v2",
        ["a", "b", "c"],
        image_size=(32, 32),
        final_heads=[HeadSpec("dlb")],
        early_heads=[HeadSpec()],
        exit_layers=["block_5_add", "block_9_add", "block_12_add"],
    )
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1, 1, (32, 32, 3)).astype(np.float32) for _ in range(2)]
    pieces = compile_supernet(
        build_supernet(spec), tmp_path / "pieces", precision, images, ["eq7+9"]
    )
    early = [ExitChoice(k, "fcn_r1_b0", "eq7+9@0.9", 0.9) for k in (1, 2, 3)]
    configuration = Configuration((*early, ExitChoice(4, "dlb_r1_b0")))
    link_static(pieces, spec, configuration, tmp_path / "static")
    static = (tmp_path / "static").stat().st_size
    for form in (
        ExportForm(),
        ExportForm(exit_signatures=True, threshold_input=True, answer="both"),
    ):
        path = tmp_path / "linked"
        link_configuration(pieces, spec, configuration, path, form)
        assert static < path.stat().st_size <= 1.02 * static
