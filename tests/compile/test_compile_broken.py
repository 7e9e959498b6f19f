"""Files that cannot be used are told in one line, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mess_tf.converting.convert import InputSpec, convert_function
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.exporting.embedded_card import read_card
from mess_tf.exporting.inventory import inventory
from mess_tf.exporting.linking import link_configuration
from mess_tf.flatbuffer.reader import read_file
from mess_tf.flatbuffer.writer import write_model
from mess_tf.runtime.linked_model import LinkedModel

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]


@pytest.fixture(scope="module")
def content(compile_at: CompileAt, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiled = compile_at("int8")
    path = tmp_path_factory.mktemp("broken") / "model.tflite"
    configuration = compiled.configuration()
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    return path.read_bytes()


def _told(path: Path, *openers: Callable[[Path], object]) -> None:
    for opener in openers:
        with pytest.raises(MessError) as caught:
            opener(path)
        message = str(caught.value)
        assert str(path) in message and "\n" not in message, message


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=12, deadline=None)
def test_a_truncated_file_is_told(
    content: bytes, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "model.tflite"
    path.write_bytes(content[: int(share * len(content))])
    _told(path, LinkedModel, read_card, inventory)


@pytest.mark.parametrize(
    "foreign", [b"", b"PK\x03\x04 a zip", b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_a_foreign_file_is_told(foreign: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(foreign)
    _told(path, LinkedModel, read_card, inventory)
    _told(tmp_path / "none.tflite", LinkedModel, read_card, inventory)


def test_another_networks_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    spec = InputSpec("x", (1, 4, 4, 2))
    path.write_bytes(convert_function(lambda x: [x * 2.0], [spec], ["y"], "float32"))
    _told(path, LinkedModel, read_card)


def test_an_operator_that_the_runtime_lacks_is_told(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    model = read_file(path)
    for code in model.operatorCodes:
        if code.builtinCode == 3:  # CONV_2D
            code.builtinCode, code.deprecatedBuiltinCode = 32, 32  # CUSTOM
            code.customCode = b"FlexErf"
    path.write_bytes(write_model(model))
    with pytest.raises(MessError, match="LiteRT cannot load") as caught:
        LinkedModel(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_the_signature_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    model = read_file(path)
    model.signatureDefs[0].signatureKey = b"other"
    path.write_bytes(write_model(model))
    with pytest.raises(MessError, match=r"lacks the signature 'serve'.*\['other'\]"):
        LinkedModel(path)


def test_an_image_of_another_size_or_kind_is_told(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    model = LinkedModel(path)
    with pytest.raises(MessError, match=r"shape \(5, 5, 3\)"):
        model.run(np.zeros((5, 5, 3), np.float32))
    with pytest.raises(MessError, match="normalised.*got uint8"):
        model.run(np.zeros((64, 96, 3), np.uint8))
