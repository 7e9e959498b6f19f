from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.compiling.verify import compare_linked
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import Precision
from mess_tf.exporting.linking import link_configuration, link_static
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.runtime.interpreter import LiteRTFile, quantise
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.runtime.piece_runner import PieceRunner

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]
EARLY = [(1, "fcn_r1_b0"), (2, "fcn_r1_b0_s1"), (3, "dlb_r4_b1")]  # conftest.py's
FINAL = (4, "dlb_r1_b0_s2_s1")


@pytest.mark.parametrize(
    ("early", "policy"),
    [
        (EARLY, "mean"),
        (EARLY[:1], "cbt@0.5"),
        (EARLY[1:2], "eq7+9@0.6"),
        (EARLY[::2], "gate"),
    ],
    ids=["all", "first", "second", "first-third"],
)
def test_a_linked_file_leaves_where_the_policy_says(
    compiled: Compiled, early: list[tuple[int, str]], policy: str, tmp_path: Path
) -> None:
    configuration = compiled.configuration(early, policy)
    path = tmp_path / "linked.tflite"
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    check = compare_linked(
        path,
        compiled.pieces,
        compiled.spec,
        configuration,
        compiled.images(60, seed=7),
    )
    # A confidence this near to its threshold may round to either side.
    clear = [i for i, margin in enumerate(check.margin) if margin > 1e-5]
    assert len(clear) >= 55
    assert not set(check.misrouted) & set(clear)
    taken = Counter(check.taken)
    assert taken[FINAL[0]] >= 3 and sum(taken[e] for e, _ in early) >= 3, taken
    for exit_index, largest in check.largest.items():
        # Half a step of rounding, and XNNPACK's multiplier with eight fraction bits.
        assert largest <= 0.75 * check.step + 2e-5, exit_index


def test_outputs_and_names_are_the_same_whatever_the_exits(
    compiled: Compiled, tmp_path: Path
) -> None:
    spec = compiled.spec
    height, width = spec.output_size
    for early in (EARLY, []):
        path = tmp_path / f"linked_{len(early)}.tflite"
        configuration = compiled.configuration(early, "mean")
        link_configuration(compiled.pieces, spec, configuration, path)
        graph = Graph(read_file(path))
        (signature,) = graph.model.signatureDefs
        assert signature.signatureKey == b"serve"
        assert [m.name for m in signature.outputs] == [b"logits", b"exit"]
        logits, exit_number = (graph.info(t) for t in graph.outputs)
        assert logits.shape == (1, height, width, len(spec.classes))
        assert logits.dtype == ("int8" if compiled.precision == "int8" else "float32")
        assert (exit_number.shape, exit_number.dtype) == ((1,), "int32")


def test_a_single_exit_gives_the_static_network(
    compiled: Compiled, tmp_path: Path
) -> None:
    configuration = Configuration((ExitChoice(*FINAL),))
    path = tmp_path / "single.tflite"
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    graph = Graph(read_file(path))
    assert len(graph.model.subgraphs) == 1
    images = compiled.images(3, seed=9)
    check = compare_linked(path, compiled.pieces, compiled.spec, configuration, images)
    assert check.taken == (4, 4, 4)
    assert check.largest[4] <= 2e-5


def test_static_files_run_all_kept_heads_and_end_where_asked(
    compiled: Compiled, tmp_path: Path
) -> None:
    configuration = compiled.configuration(EARLY[:2], "mean")
    runner, image = PieceRunner(compiled.pieces), compiled.images(1, seed=4)[0]
    tensors = runner.features(image)
    for upto, kept in ((None, [1, 2, 4]), (2, [1, 2]), (1, [1])):
        path = tmp_path / "static.tflite"
        link_static(compiled.pieces, compiled.spec, configuration, path, upto)
        file = LiteRTFile(path)
        assert set(file.outputs) == {"logits", *(f"logits_{k}" for k in kept[:-1])}
        info = file.inputs["image"][1]
        result = file.run({"image": quantise(image[None], info)})
        for choice in configuration.exits[: len(kept) - 1]:
            expected = runner.raw_logits(tensors, choice.exit, choice.head)
            np.testing.assert_allclose(
                result[f"logits_{choice.exit}"], expected, atol=2e-5
            )
    with pytest.raises(MessError, match=r"Exit 3 is not in the configuration"):
        link_static(compiled.pieces, compiled.spec, configuration, path, 3)


def test_weights_are_stored_once(compiled: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "linked.tflite"
    configuration = compiled.configuration(EARLY, "mean")
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    used = [f"segment_{k}" for k in range(1, 5)]
    used += [f"head_{e}_{head}" for e, head in [*EARLY, FINAL]]
    parts = sum(compiled.pieces[name].size_bytes for name in used)
    small = 16384  # three decisions and the IFs; the smallest copy would be 30 times it
    assert path.stat().st_size <= parts + small


def test_int8_files_are_float_only_in_their_decisions(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    path = tmp_path / "linked.tflite"
    configuration = compiled.configuration(EARLY, "mean")
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    model = read_file(path)
    floats: Counter[str] = Counter()
    for number in range(len(model.subgraphs)):
        graph = Graph(model, number)
        for index in range(len(graph.operators)):
            tensors = [t for t in graph.writes(index) if t >= 0]
            if any(graph.info(t).dtype == "float32" for t in tensors):
                floats[graph.operator_name(index)] += 1
    assert set(floats) <= {
        "DEQUANTIZE",
        "RESHAPE",
        "TRANSPOSE",
        "REDUCE_MAX",
        "SUB",
        "EXP",
        "SUM",
        "DIV",
        "MEAN",
    }
    assert floats["DEQUANTIZE"] == len(EARLY)


def test_only_what_the_rest_reads_goes_through_an_if(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("float32")
    path = tmp_path / "linked.tflite"
    # After exit 3 the final head still reads the skips 2 and 1; after an FCN head at
    # exit 3 as the last exit, nothing but exit 2's own tensor is wanted.
    configuration = compiled.configuration(EARLY[:2], "mean")
    last = ExitChoice(3, "dlb_r4_b1")
    short = Configuration((*configuration.exits[:2], last))
    link_configuration(compiled.pieces, compiled.spec, short, path)
    model = read_file(path)
    inputs = []
    for number in range(len(model.subgraphs)):
        graph = Graph(model, number)
        inputs.append(sorted(graph.name(t) for t in graph.inputs))
    assert inputs[0] == ["image"]
    # exit_1 feeds segment 2 and the skip of exit 2's head; exit 3 reads exit_2 alone.
    assert sorted(map(tuple, inputs[1:])) == sorted(
        [("exit_1", "logits")] * 2 + [("exit_2", "logits")] * 2
    )


def test_the_compiled_model_api_runs_a_linked_file(
    compiled: Compiled, tmp_path: Path
) -> None:
    from ai_edge_litert.compiled_model import CompiledModel

    path = tmp_path / "linked.tflite"
    configuration = compiled.configuration(EARLY, "mean")
    link_configuration(compiled.pieces, compiled.spec, configuration, path)
    linked = LinkedModel(path)
    model = CompiledModel.from_file(str(path))
    feeds = model.create_input_buffers(0)
    results = model.create_output_buffers(0)
    seen = set()
    for image in compiled.images(20, seed=7):
        answer = linked.run(image)
        expected, exit_index = answer.logits, answer.exit
        feeds[0].write(quantise(image[None], linked.image))
        model.run_by_index(0, feeds, results)
        assert int(results[1].read(1, np.int32)[0]) == exit_index
        dtype = np.int8 if compiled.precision == "int8" else np.float32
        values = results[0].read(expected.size, dtype).astype(np.float32)
        if linked.logits.scale:
            values = (values - linked.logits.zero_point) * linked.logits.scale
        np.testing.assert_allclose(values, expected.ravel(), atol=2e-5)
        seen.add(exit_index)
    assert len(seen) >= 2


def test_pieces_of_different_conversions_are_not_mixed(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    for piece in compiled.pieces.pieces:
        path = compiled.pieces.path(piece.name)
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = read_file(tmp_path / "segment_2.tflite")
    graph = Graph(model)
    parameters = graph.tensors[graph.outputs[0]].quantization
    parameters.scale = parameters.scale * np.float32(1.5)
    from mess_tf.flatbuffer.writer import write_model

    (tmp_path / "segment_2.tflite").write_bytes(write_model(model))
    mixed = replace(compiled.pieces, folder=tmp_path)
    configuration = compiled.configuration(EARLY[:2], "mean")
    with pytest.raises(MessError, match="disagree on the scale of 'exit_2'"):
        link_configuration(mixed, compiled.spec, configuration, tmp_path / "x.tflite")
    assert not (tmp_path / "x.tflite").exists()


def test_a_piece_file_is_no_linked_model(compile_at: CompileAt) -> None:
    pieces = compile_at("float32").pieces
    with pytest.raises(MessError, match="is no linked model"):
        LinkedModel(pieces.path("segment_1"))
