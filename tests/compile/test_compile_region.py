"""Region agreement in the graph: the decision holds the head it compares with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.compiling.verify import compare_linked
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import head_name
from mess_tf.core.precisions import Precision
from mess_tf.evaluation.runners import KerasRunner, PiecesRunner
from mess_tf.exporting.linking import link_configuration
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.staged_export import link_stages
from mess_tf.flatbuffer.macs import count_macs
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.registry import Policy
from mess_tf.runtime.interpreter import LiteRTFile
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.runtime.piece_runner import PieceRunner
from mess_tf.runtime.stage_plan import StagedModel

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]
KEYS = ["mean", "region_1", "region_2"]
FINAL = (4, "dlb_r1_b0_s2_s1")
CHAINS = {
    # No kept head is compared with: each decision runs its own.
    "alone": [(2, "fcn_r1_b0_s1", "region_1"), (3, "dlb_r4_b1", "region_2")],
    # The heads of exits 1 and 2 are those that the next exit is compared with.
    "kept": [
        (1, "fcn_r1_b0", "mean"),
        (2, "fcn_r2_b1_rdi", "region_1"),
        (3, "dlb_r4_b1", "region_2"),
    ],
    "skipped": [(1, "fcn_r1_b0", "mean"), (3, "dlb_r4_b1", "region_1")],
}


def told(compiled: Compiled, images: list[np.ndarray]) -> dict[tuple[int, str], Any]:
    """Per head, what every policy says of the images, as the statistics have it."""
    runner = PiecesRunner(compiled.spec, compiled.pieces, KEYS)
    rows = [list(runner.run(image)) for image in images]
    return {
        name: [row[head].confidence for row in rows]
        for head, name in enumerate(compiled.spec.head_names())
    }


def between(values: list[float]) -> float:
    """A threshold in the widest gap around the middle."""
    ordered = np.sort(values)[len(values) // 4 : -len(values) // 4]
    at = np.diff(ordered).argmax()
    return float(ordered[at : at + 2].mean())


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("chain", ["alone", "kept"])
def test_statistics_the_reference_and_all_forms_leave_alike(
    compile_at: CompileAt, precision: Precision, chain: str, tmp_path: Path
) -> None:
    compiled = compile_at(precision)
    images = compiled.images(24, seed=5)
    seen = told(compiled, images)
    early, place = [], np.full(len(images), len(CHAINS[chain]))
    for number, (exit_index, head, policy) in enumerate(CHAINS[chain]):
        values = [row[policy] for row in seen[exit_index, head]]
        threshold = between(values)
        early.append(ExitChoice(exit_index, head, policy, threshold))
        leaves = np.asarray(values, np.float32) >= np.float32(threshold)
        place[(place == len(CHAINS[chain])) & leaves] = number
    configuration = Configuration((*early, ExitChoice(*FINAL)))
    exits = [configuration.exits[at].exit for at in place]
    assert min(Counter(exits)[choice.exit] for choice in configuration.exits) > 0

    pieces, spec = compiled.pieces, compiled.spec
    link_configuration(pieces, spec, configuration, tmp_path / "linked.tflite")
    check = compare_linked(
        tmp_path / "linked.tflite", pieces, spec, configuration, images
    )
    assert list(check.taken) == exits
    assert not [i for i in check.misrouted if check.margin[i] > 1e-5]

    # A head that is kept is not run again to compare with it.
    model = read_file(tmp_path / "linked.tflite")
    graphs = [Graph(model, number) for number in range(len(model.subgraphs))]
    run = [f"segment_{k}" for k in range(1, 5)]
    run += [head_name(choice.exit, choice.head) for choice in configuration.exits]
    run += ["head_1_fcn_r1_b0", "head_2_fcn_r2_b1_rdi"] if chain == "alone" else []
    assert sum(map(count_macs, graphs)) == sum(pieces[name].macs for name in run)

    link_stages(pieces, spec, configuration, tmp_path, ExportForm("stages"))
    staged = StagedModel(tmp_path)
    assert [staged.run(image).exit for image in images] == exits


def test_an_exit_in_between_may_be_left_out(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    image = compiled.images(1, seed=5)[0]
    runner = PieceRunner(compiled.pieces)
    tensors = runner.features(image)
    own, other = (
        runner.logits(tensors, *head) for head in ((3, "dlb_r4_b1"), (1, "fcn_r1_b0"))
    )
    value = float(confidence_numpy(Policy.parse("region_1"), own, (), other)[0])
    for threshold, exit_index in ((value - 1e-4, 3), (value + 1e-4, 4)):
        first, second = CHAINS["skipped"]
        configuration = Configuration(
            (
                ExitChoice(*first, 2.0),
                ExitChoice(*second, threshold),
                ExitChoice(*FINAL),
            )
        )
        path = tmp_path / "linked.tflite"
        link_configuration(compiled.pieces, compiled.spec, configuration, path)
        assert LinkedModel(path).run(image).exit == exit_index


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_piece_costs_what_the_decision_does(
    compile_at: CompileAt, precision: Precision
) -> None:
    compiled = compile_at(precision)
    pieces = compiled.pieces
    piece = pieces["decision_region_1_16x24"]
    head = pieces["head_1_fcn_r1_b0"]
    assert piece.kind == "decision" and piece.macs == head.macs > 0
    assert [info.name for info in piece.inputs] == ["logits", "exit_1"]
    assert piece.inputs[1] == head.inputs[0]
    # Heads of the same exit on two grids; exit 3 is compared with another head.
    names = {p.name for p in pieces.pieces if p.name.startswith("decision_region")}
    sizes = {"decision_region_1_8x12", "decision_region_1_16x24"}
    assert names == sizes | {"decision_region_2_4x6"}
    assert pieces["decision_region_2_4x6"].macs == pieces["head_2_fcn_r2_b1_rdi"].macs
    assert LiteRTFile(pieces.path(piece.name)).outputs["confidence"][1].shape == (1,)


def test_the_first_and_the_last_exit_have_no_such_policy(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("float32")
    image = compiled.images(1, seed=5)[0]
    # Keras is asked in the same way.
    keras = KerasRunner(compiled.supernet, KEYS).run(image)
    pieces = PiecesRunner(compiled.spec, compiled.pieces, KEYS).run(image)
    rows = zip(compiled.spec.head_names(), keras, pieces, strict=True)
    expected = {1: ["mean"], 2: KEYS[:2], 3: KEYS[::2], 4: ["mean"]}
    for (exit_index, _), float_row, row in rows:
        assert list(row.confidence) == expected[exit_index]
        assert float_row.confidence == pytest.approx(row.confidence, abs=0.05)
    asked = ExitChoice(1, "fcn_r1_b0", "region_1", 0.5)
    configuration = Configuration((asked, ExitChoice(*FINAL)))
    with pytest.raises(MessError, match="Exit 1 has no policy 'region_1'"):
        link_configuration(
            compiled.pieces, compiled.spec, configuration, tmp_path / "linked.tflite"
        )


def test_a_network_without_two_plain_exits_is_told(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    supernet = compile_at("float32").supernet
    kept = [(1, "fcn_r1_b0"), FINAL]
    part = type(supernet)(supernet.spec.with_heads(kept), supernet.model)
    with pytest.raises(MessError, match="'region' compares an early exit"):
        compile_supernet(part, tmp_path / "p", "float32", None, ["mean", "region"])
