from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.exporting.embedded_card import ENTRY, read_card, with_card
from mess_tf.exporting.inventory import DECISION_REASON, float_operators, inventory
from mess_tf.exporting.linking import link_configuration
from mess_tf.exporting.options import ExportForm
from mess_tf.flatbuffer.reader import read_model
from mess_tf.runtime.linked_model import LinkedModel

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]
CARD = {"schema": 1, "classes": ["Straße", "sky"], "nested": {"x": [1, 2.5, None]}}


@pytest.fixture
def model(compile_at: CompileAt, tmp_path: Path) -> Path:
    compiled = compile_at("float32")
    path = tmp_path / "model.tflite"
    configuration = compiled.configuration()
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    return path


def _linked(compiled: Compiled, path: Path, form: ExportForm) -> Path:
    configuration = compiled.configuration()
    link_configuration(compiled.pieces, compiled.spec, configuration, path, form)
    return path


def test_a_card_travels_inside_the_file_and_changes_no_answer(
    model: Path, tmp_path: Path, compile_at: CompileAt
) -> None:
    carded = tmp_path / "carded.tflite"
    carded.write_bytes(with_card(model.read_bytes(), CARD))
    assert read_card(carded) == CARD
    room = len(json.dumps(CARD)) + 256
    assert carded.stat().st_size <= model.stat().st_size + room
    plain, other = LinkedModel(model), LinkedModel(carded)
    for image in compile_at("float32").images(4, seed=7):
        expected, answer = plain.run(image), other.run(image)
        assert answer.exit == expected.exit
        np.testing.assert_array_equal(answer.logits, expected.logits)


def test_a_second_card_replaces_the_first(model: Path) -> None:
    once = with_card(model.read_bytes(), CARD)
    twice = with_card(once, {"schema": 1, "classes": []})
    entries = read_model(twice, "test").metadata
    assert [entry.name for entry in entries].count(ENTRY) == 1
    model.write_bytes(twice)
    assert read_card(model) == {"schema": 1, "classes": []}


def test_a_file_without_a_card_or_with_a_broken_one_is_told(model: Path) -> None:
    content = model.read_bytes()
    with pytest.raises(MessError, match="has no card inside"):
        read_card(model)
    model.write_bytes(with_card(content, {"schema": 7}))
    with pytest.raises(MessError, match="schema 7"):
        read_card(model)
    broken = with_card(content, CARD).replace(b'{"schema"', b'{"schema!')
    model.write_bytes(broken)
    with pytest.raises(MessError, match="cannot be read") as caught:
        read_card(model)
    assert "\n" not in str(caught.value)
    with pytest.raises(MessError, match="none.tflite"):
        read_card(model.with_name("none.tflite"))


def test_int8_files_are_float_in_decisions_alone_and_say_why(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    path = _linked(compile_at("int8"), tmp_path / "model", ExportForm())
    rows = float_operators(path, "int8")
    assert {row["reason"] for row in rows} == {DECISION_REASON}
    counts = {row["operator"]: row["count"] for row in rows}
    assert counts["DEQUANTIZE"] == 3
    assert counts == inventory(path)["float_operators"]
    types = inventory(path)["types"]
    for operator in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        assert set(types[operator]) == {"int8 x int8, int32 -> int8"}


def test_float_ends_that_were_asked_for_are_told_apart(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    form = ExportForm(input="float32", output="float32", threshold_input=True)
    path = _linked(compile_at("int8"), tmp_path / "model", form)
    reasons = {row["reason"] for row in float_operators(path, "int8")}
    others = reasons - {DECISION_REASON}
    words = sorted(reason.split()[1] for reason in others)
    assert words == ["image", "logits", "the"]  # comes in, leave, hands the thresholds
    assert not [reason for reason in reasons if reason.startswith("no reason")]


@pytest.mark.parametrize(
    "form",
    [
        ExportForm(input="uint8", output="uint8", answer="both", resolution="image"),
        ExportForm(exit_signatures=True, answer="classes"),
    ],
    ids=["pixels", "signatures"],
)
def test_no_form_leaves_an_operator_in_float_without_a_reason(
    compiled: Compiled, form: ExportForm, tmp_path: Path
) -> None:
    if compiled.precision != "int8" and form.output is not None:
        form = ExportForm(input="uint8", answer="both", resolution="image")
    path = _linked(compiled, tmp_path / "model", form)
    reasons = {row["reason"] for row in float_operators(path, compiled.precision)}
    assert not [reason for reason in reasons if reason.startswith("no reason")]
    if compiled.precision == "int8":
        assert reasons == {DECISION_REASON}
    if compiled.precision == "dynamic":
        assert any("1,024 weights" in reason for reason in reasons)


@pytest.mark.slow
def test_float16_weights_are_counted_as_they_are_stored(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    path = _linked(compile_at("float16"), tmp_path / "model", ExportForm())
    parts = inventory(path)
    assert parts["weights"]["float16"] > 20 * parts["weights"].get("float32", 0)
    assert "DEQUANTIZE" not in parts["operators"]  # unpacking is no operator of its own
    assert set(parts["types"]["CONV_2D"]) == {"float32 x float16, float16 -> float32"}
