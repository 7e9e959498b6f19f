from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.compiling.verify import compare_pieces
from mess_tf.converting.calibrate import Calibration
from mess_tf.converting.convert import convert_model
from mess_tf.converting.decision_graphs import (
    add_decision,
    confidences_file,
    decision_graph,
    decision_piece,
    output_piece,
    parameters_input,
    placeholder_parameters,
)
from mess_tf.converting.graph_checks import check_operators, check_piece
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import (
    WHOLE_PROBE,
    branch_probe,
    decision_name,
    head_name,
    segment_name,
    single_probe,
)
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.macs import count_macs
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.models.supernet import Supernet
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.gate import gate_parameters
from mess_tf.policies.registry import Policy
from mess_tf.runtime.interpreter import LiteRTFile, dequantise, quantise
from mess_tf.runtime.piece_runner import PieceRunner
from tests.support.tiers import sampled

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]


def test_the_folder_holds_every_piece_and_what_it_promises(compiled: Compiled) -> None:
    pieces, spec = compiled.pieces, compiled.spec
    names = {piece.name for piece in pieces.pieces}
    heads = {head_name(*head) for head in spec.head_names()}
    segments = {segment_name(k) for k in range(1, len(spec.exit_points) + 1)}
    sizes = {
        spec.head_size(point.index, head)
        for point, own in zip(spec.exit_points, spec.heads, strict=True)
        for head in own
    }
    alone = set(compiled.policies) - {"region"}
    decisions = {decision_name(p, size) for p in alone for size in sizes}
    compared = {point.index: point.index - 1 for point in spec.exit_points[1:-1]}
    decisions |= {
        decision_name(f"region_{before}", spec.head_size(index, head))
        for index, before in compared.items()
        for head in spec.heads[index - 1]
    }
    outputs = {f"output_{h}x{w}" for h, w in sizes if (h, w) != spec.output_size}
    early = [point.index for point in spec.exit_points[:-1]]
    probes = {WHOLE_PROBE, *map(branch_probe, early), *map(single_probe, early)}
    assert names == heads | segments | decisions | outputs | probes
    assert Pieces.load(compiled.folder) == pieces
    assert {p.name for p in compiled.folder.iterdir()} == {
        "pieces.json",
        *(f"{name}.tflite" for name in names),
    }
    for piece in pieces.pieces:
        content = pieces.path(piece.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == piece.sha256
        assert len(content) == piece.size_bytes


def test_float_pieces_equal_the_keras_layers(compile_at: CompileAt) -> None:
    compiled = compile_at("float32")
    images = compiled.images(4, seed=1)
    differences = compare_pieces(compiled.pieces, compiled.supernet, images)
    assert len(differences) == len(compiled.spec.head_names())
    for difference in differences:
        assert difference.magnitude > 0.5, "flat logits would prove nothing"
        # Float noise over sixty layers in another order of summation.
        assert difference.relative <= 5e-5, difference


@pytest.mark.parametrize("precision", sampled(["int8", "float16", "dynamic"], 1))
@pytest.mark.slow
def test_pieces_lose_no_more_than_the_supernet_converted_as_one(
    compile_at: CompileAt, precision: Precision, tmp_path: Path
) -> None:
    exact, compiled = compile_at("float32"), compile_at(precision)
    spec = compiled.spec
    names = [head_name(*head) for head in spec.head_names()]
    content = convert_model(
        compiled.supernet.model,
        ["image"],
        names,
        precision,
        Calibration([[image[None]] for image in compiled.images(12, seed=0)]),
        [(spec.image_height, spec.image_width)],
    )
    path = tmp_path / "whole.tflite"
    path.write_bytes(content)
    whole = LiteRTFile(path)
    errors = {name: np.zeros(2) for name in names}
    reference, runner = PieceRunner(exact.pieces), PieceRunner(compiled.pieces)
    for image in compiled.images(4, seed=1):
        float_tensors, tensors = reference.features(image), runner.features(image)
        at_once = whole.run({"image": quantise(image[None], whole.inputs["image"][1])})
        for head, name in zip(spec.head_names(), names, strict=True):
            expected = reference.logits(float_tensors, *head)
            values = dequantise(at_once[name], whole.outputs[name][1])
            chained = runner.logits(tensors, *head)
            errors[name] += [np.var(chained - expected), np.var(values - expected)]
    for name, (ours, theirs) in errors.items():
        assert 0 < ours <= 1.5 * theirs, name


def test_an_exit_tensor_has_one_scale_in_all_int8_pieces(
    compile_at: CompileAt,
) -> None:
    pieces = compile_at("int8").pieces
    made = {info.name: info for piece in pieces.pieces for info in piece.outputs}
    read = [
        info
        for piece in pieces.pieces
        for info in piece.inputs
        if info.name.startswith("exit_")
    ]
    assert len(read) >= 8
    for info in read:
        assert info == made[info.name]


def test_int8_heads_need_no_requantisation(compile_at: CompileAt) -> None:
    compiled = compile_at("int8")
    for exit_index, head_id in compiled.spec.head_names():
        path = compiled.pieces.path(head_name(exit_index, head_id))
        graph = Graph(read_file(path))
        names = [graph.operator_name(i) for i in range(len(graph.operators))]
        assert "QUANTIZE" not in names and "DEQUANTIZE" not in names


def test_macs_of_a_known_head_are_counted(compile_at: CompileAt) -> None:
    # fcn_r1_b0 at exit 1 (stride 4, 16x24 cells, 8 channels): 3x3 to 16, 1x1 to 5.
    compiled = compile_at("float32")
    point = compiled.spec.exit_points[0]
    assert (point.stride, point.channels) == (4, 8)
    expected = 16 * 24 * (9 * 8 * 16 + 16 * 5)
    assert compiled.pieces["head_1_fcn_r1_b0"].macs == expected


def test_depthwise_macs_are_counted(compile_at: CompileAt) -> None:
    graph = Graph(read_file(compile_at("float32").pieces.path("segment_1")))
    first = next(
        i
        for i in range(len(graph.operators))
        if graph.operator_name(i) == "DEPTHWISE_CONV_2D"
    )
    others = [i for i in range(len(graph.operators)) if i != first]
    shape = graph.shape(graph.writes(first)[0])
    total = count_macs(graph)
    graph.operators = [graph.operators[i] for i in others]
    graph._reads = [graph._reads[i] for i in others]
    graph._writes = [graph._writes[i] for i in others]
    assert total - count_macs(graph) == int(np.prod(shape)) * 9


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("policy", ["mean", "eq7@0.5", "eq7+9@0.5", "cbt@0.2", "gate"])
def test_a_decision_piece_gives_the_policys_numbers(
    policy: str, precision: Precision, tmp_path: Path
) -> None:
    path = tmp_path / "decision.tflite"
    path.write_bytes(decision_piece(policy, (6, 9), 5, precision))
    check_piece(path, "decision", "decision", precision)
    piece = LiteRTFile(path)
    rng = np.random.default_rng(0)
    parsed, seen = Policy.parse(policy), []
    for _ in range(20):
        logits = (rng.normal(size=(1, 6, 9, 5)) * rng.uniform(0.2, 4)).astype(
            np.float32
        )
        given = logits
        if precision == "int8":
            given = np.clip(np.round(logits / 0.1), -128, 127).astype(np.int8)
            logits = given.astype(np.float32) * np.float32(0.1)
        confidence = piece.run({"logits": given})["confidence"]
        assert confidence.shape == (1,) and confidence.dtype == np.float32
        own = placeholder_parameters(policy, 5)
        expected = confidence_numpy(parsed, logits, own)
        np.testing.assert_allclose(confidence, expected, atol=2e-6)
        seen.append(float(confidence[0]))
    # The gate's stand-in numbers are all positive: it is sure of anything.
    assert np.ptp(seen) > (0.0005 if policy == "gate" else 0.3)


def test_statistics_and_decisions_compute_alike_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    own = {
        "cbt": rng.uniform(1, 9, 5).astype(np.float32),
        "gate": rng.normal(0, 1, gate_parameters(5)).astype(np.float32),
    }
    policies = ["eq7+9@0.5", "cbt@0.5", "gate"]
    together = LiteRTFile(confidences_file(policies, (6, 9), 5))
    for policy in policies:
        family = policy.split("@")[0]
        builder = ModelBuilder()
        graph = builder.add_graph("decision")
        logits = graph.add_tensor("logits", (1, 6, 9, 5), "float32")
        fixed = tuple(own[family].tolist()) if family in own else ()
        graph.inputs = [logits]
        graph.outputs = [add_decision(graph, logits, policy, fixed)]
        alone = LiteRTFile(builder.finish())
        for _ in range(20):
            given = rng.normal(0, 2, (1, 6, 9, 5)).astype(np.float32)
            (decided,) = alone.run({"logits": given}).values()
            named = {parameters_input(family): own[family] for family in own}
            all_of_them = together.run({"logits": given, **named})
            assert decided == all_of_them[policy]


def test_a_decision_without_its_heads_numbers_is_told() -> None:
    with pytest.raises(MessError, match="'cbt@0.5' takes 5 numbers per head"):
        decision_graph("cbt@0.5", (6, 9), 5)


def test_a_grid_too_small_to_be_smoothed_is_told() -> None:
    with pytest.raises(MessError, match=r"eq7\+9 smooths.*1x2.*at least 2x2"):
        decision_piece("eq7+9@0.5", (1, 2), 3, "float32")
    assert decision_piece("eq7+9@0.5", (2, 2), 3, "float32")
    assert decision_piece("eq7@0.5", (1, 2), 3, "float32")


def test_the_output_step_is_a_half_pixel_bilinear_resize(tmp_path: Path) -> None:
    path = tmp_path / "output.tflite"
    path.write_bytes(output_piece((1, 2), (1, 4), 1, "float32"))
    logits = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    (got,) = LiteRTFile(path).run({"logits": logits}).values()
    # Cell centres of the output lie at -0.25, 0.25, 0.75, 1.25 of the input's.
    np.testing.assert_allclose(got.ravel(), [0.0, 1.0, 3.0, 4.0], atol=1e-6)


def test_a_failed_compilation_leaves_the_old_folder_alone(
    supernet: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pieces" / "float32"
    folder.mkdir(parents=True)
    (folder / "pieces.json").write_text("old")
    seen: list[str] = []

    def stop(what: str, fraction: float) -> None:
        seen.append(what)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_supernet(supernet, folder, "float32", None, ["mean"], stop)
    assert (folder / "pieces.json").read_text() == "old"
    assert [p.name for p in folder.parent.iterdir()] == ["float32"]


def test_bad_calibration_images_are_refused(supernet: Supernet, tmp_path: Path) -> None:
    with pytest.raises(MessError, match="int8 needs calibration images"):
        compile_supernet(supernet, tmp_path / "p", "int8", [], ["mean"])
    with pytest.raises(MessError, match=r"shape \(10, 10, 3\)"):
        images = [np.zeros((10, 10, 3), np.float32)]
        compile_supernet(supernet, tmp_path / "p", "int8", images, ["mean"])
    assert not (tmp_path / "p").exists()


def test_checks_find_what_must_not_be_there(compile_at: CompileAt) -> None:
    pieces = compile_at("float32").pieces
    graph = Graph(read_file(pieces.path("segment_1")))
    with pytest.raises(MessError, match="int8 piece segment_1 has the float tensor"):
        check_operators(graph, "segment_1", "segment", "int8")
    code = graph.model.operatorCodes[graph.operators[0].opcodeIndex]
    code.builtinCode, code.deprecatedBuiltinCode = 38, 38
    with pytest.raises(MessError, match="has SPACE_TO_BATCH_ND"):
        check_operators(graph, "segment_1", "segment", "float32")
    code.customCode = b"FlexErf"
    with pytest.raises(MessError, match="custom operator FlexErf"):
        check_operators(graph, "segment_1", "segment", "float32")


def test_a_missing_or_damaged_piece_gives_one_line(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("float32")
    broken = replace(compiled.pieces, folder=tmp_path)
    image = compiled.images(1, seed=1)[0]
    with pytest.raises(MessError, match="segment_1"):
        PieceRunner(broken).features(image)
    content = compiled.pieces.path("segment_1").read_bytes()
    (tmp_path / "segment_1.tflite").write_bytes(content[:200])
    with pytest.raises(MessError, match="segment_1"):
        PieceRunner(broken).features(image)
    with pytest.raises(MessError, match=r"shape \(5, 5, 3\)"):
        PieceRunner(compiled.pieces).features(np.zeros((5, 5, 3), np.float32))
