"""`mess quantise` on a small run: from search results to an exported file.

One choice of several is fine-tuned in tests/commands/test_whole_way.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest

import mess_tf.commands.cards as cards_module
import mess_tf.commands.quantise as quantise_module
from mess_tf.commands.compile import compile as compile_run
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.export import export
from mess_tf.commands.latencies import Latencies
from mess_tf.commands.quantise import quantise, render
from mess_tf.commands.search import search
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.json_files import read_json
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.drawn import CLASSES
from mess_tf.models.supernet import build_supernet
from mess_tf.policies.comparison_exit import compared_with
from mess_tf.recipe.files import load_recipe
from mess_tf.runs import Run
from mess_tf.runtime.linked_model import LinkedModel
from mess_tf.training.train import design_from_recipe
from tests.support.quantised_networks import wake_up

RECIPE = """
[data]
kind = "drawn"
size = 64
count_train = 32
count_val = 24
seed = 3
[network]
alpha = 0.35
height = 64
width = 64
weights = "random"
exit_layers = ["block_2_add", "block_5_add"]
head_width = 16
decoder_width = 16
skip_width = 8
[heads]
final = "dlb_r1_b0_s1"
early = ["fcn_r1_b0", "fcn_r1_b0_s1"]
[training]
batch = 8
optimizer = "adamw"
learning_rate = 3e-3
loss_stride = 2
[statistics]
policies = ["mean", "region"]
[compile]
precisions = ["int8"]
calibration_images = 8
[quantise]
epochs = 1
settled = 0.0
[search]
max_early_exits = 2
drops_pp = [5.0, 90.0]
"""


def latencies(run: Run, precision: Any, *others: Any, **more: Any) -> Latencies:
    """Milliseconds that follow the MACs: nothing is measured here."""
    pieces = Pieces.load(run.pieces(precision))
    by_piece = {piece.name: 0.01 + piece.macs / 1e8 for piece in pieces.pieces}
    return Latencies(by_piece, 1.0, {"name": "host"}, 1, "quick", {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.toml").write_text(RECIPE)
    run = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        for module in (cards_module, quantise_module):
            patch.setattr(module, "measured_latencies", latencies)
        # Not trained, which would take longest: answers that vary are enough.
        opened = Run.create(run, load_recipe(folder / "small.toml"))
        keras.utils.set_random_seed(5)
        supernet = build_supernet(design_from_recipe(opened.recipe, CLASSES))
        wake_up(supernet.model, 5, (64, 64))
        supernet.save(run)
        compile_run(run)
        evaluate(run)
        search(run)
        yield run


@pytest.mark.slow
def test_chosen_networks_become_int8_pieces_with_thresholds_of_their_own(
    run: Path,
) -> None:
    result = quantise(run)
    opened = Run.open(run)
    spec = SupernetSpec.load(opened.supernet_structure)
    pieces = Pieces.load(opened.pieces("int8-qat"))
    asked = read_json(opened.search("host", "int8") / "chosen.json", "results")
    kept = {
        (choice["exit"], choice["head"])
        for row in asked["results"]
        for choice in row["chosen"]["configuration"]
    } | {(3, "dlb_r1_b0_s1")}
    kept |= compared_with(spec, kept)
    assert set(pieces.part_of(spec).head_names()) == kept
    assert {(row["exit"], row["head"]) for row in result["heads"]} == kept
    assert all(set(row["miou"]) == {"int8", "int8-qat"} for row in result["heads"])

    found = read_json(opened.search("host", "int8-qat") / "chosen.json", "results")
    by_name = {row["name"]: row for row in asked["results"]}
    for row in found["results"]:
        assert row["source"] == "pieces:int8-qat"
        assert row["requirement"] == by_name[row["name"]]["requirement"]
        old = by_name[row["name"]]["chosen"]["configuration"]
        allowed = {(c["exit"], c["head"]) for c in old} | {(3, "dlb_r1_b0_s1")}
        new = row["chosen"]["configuration"]
        assert {(c["exit"], c["head"]) for c in new} <= allowed
    text = render(result)
    for row in result["thresholds"]:
        assert row["name"] in text
        # Kept thresholds are the old configuration to the last digit.
        assert row["kept"]["configuration"] == row["fitted_on"]["configuration"]
    assert json.loads((opened.quantise / "result.json").read_text())["schema"] == 1

    exported = export(run, precision="int8-qat")["exports"]
    assert len(exported) == len(found["results"])
    for row in exported:
        assert LinkedModel(Path(row["model"])).image.dtype == "int8"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"choice": ["drop7"]}, MessError, "No search result named 'drop7'"),
        ({"epochs": 0}, UsageError, "--epochs is 0"),
        ({"device": "elsewhere"}, MessError, "mess search"),
        ({"precision": "float32"}, MessError, "mess search"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        quantise(run, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_new_thresholds_are_fitted_to_int8_latencies_whatever_the_choice_was_for(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def listen(run: Run, precision: Any, *others: Any, **more: Any) -> Latencies:
        asked.append(precision)
        return latencies(run, precision)

    opened = Run.open(run)
    float_results = opened.search("host", "float32") / "chosen.json"
    float_results.parent.mkdir(parents=True)
    found = opened.search("host", "int8") / "chosen.json"
    float_results.write_bytes(found.read_bytes())
    statistics = opened.statistics("float32")
    statistics.write_bytes(opened.statistics("int8").read_bytes())
    monkeypatch.setattr(quantise_module, "measured_latencies", listen)
    quantise(run, precision="float32")
    assert asked == ["int8"]
