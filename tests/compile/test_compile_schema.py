from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from hypothesis import given, settings
from hypothesis import strategies as st

from mess_tf.core.errors import MessError
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.flatbuffer.writer import BUFFER_ALIGNMENT, write_model


def _model(twice: bool = False) -> bytes:
    """image + weights, with the weights in one or two subgraphs."""
    weights = np.arange(1000, dtype=np.float32).reshape(1, 1000)
    builder = ModelBuilder()
    for name in ["main", "other"][: 1 + twice]:
        graph = builder.add_graph(name)
        image = graph.add_tensor("image", (1, 1000), "float32")
        constant = graph.add_tensor("weights", (1, 1000), "float32", value=weights)
        out = graph.add_tensor("out", (1, 1000), "float32")
        graph.add_operator(
            fb.BuiltinOperator.ADD,
            1,
            [image, constant],
            [out],
            fb.BuiltinOptions.AddOptions,
            fb.AddOptionsT(),
        )
        graph.inputs, graph.outputs = [image], [out]
    return builder.finish()


CONTENT = _model()


def test_reading_and_writing_keep_the_model() -> None:
    model = read_model(CONTENT, "test")
    again = Graph(read_model(write_model(model), "test"))
    np.testing.assert_array_equal(
        again.constant(again.tensor("weights"))[0], np.arange(1000)
    )
    assert again.operator_name(0) == "ADD"
    assert again.info(again.inputs[0]).shape == (1, 1000)


def test_equal_weights_are_stored_once() -> None:
    assert len(_model(twice=True)) < len(CONTENT) + 1000


def test_weights_are_aligned_as_the_schema_demands() -> None:
    root = fb.Model.GetRootAs(CONTENT, 0)
    for number in range(root.BuffersLength()):
        data = root.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            whole = np.frombuffer(CONTENT, np.uint8)
            assert (data.ctypes.data - whole.ctypes.data) % BUFFER_ALIGNMENT == 0
            break
    else:
        pytest.fail("no weights found")


@given(length=st.integers(0, len(CONTENT) - 1))
@settings(max_examples=150, deadline=None)
def test_a_truncated_file_is_refused_in_one_line(length: int) -> None:
    with pytest.raises(MessError) as caught:
        read_model(CONTENT[:length], "cut.tflite")
    assert "cut.tflite" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip file", b"\x89PNG\r\n\x1a\n" + bytes(100)]
)
def test_a_foreign_file_is_refused(content: bytes) -> None:
    with pytest.raises(MessError, match=r"x\.tflite is not a \.tflite file"):
        read_model(content, "x.tflite")


def test_noise_behind_the_mark_is_refused() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        noise = bytearray(rng.bytes(400))
        noise[4:8] = b"TFL3"
        with pytest.raises(MessError, match="damaged"):
            read_model(bytes(noise), "noise")
