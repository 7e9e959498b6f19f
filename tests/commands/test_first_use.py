"""The README's first use, with the smallest of networks, in one process.

``test_whole_way.py`` (slow) types it as the pages do, with kills on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mess_tf
from android_bench.records import PRESETS
from mess_tf.commands.json_schemas import RECORDS
from mess_tf.data.drawn import open_drawn
from tests.support.doc_walk import BRIEF, Walk
from tests.support.json_schemas import validate
from tests.support.little_network import little_model

RECIPE = """
[data]
kind = "drawn"
size = 48
count_train = 24
count_val = 24
[network]
backbone = "little.keras"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
height = 48
width = 48
weights = "own"
exit_layers = ["three_relu"]
head_width = 16
decoder_width = 16
skip_width = 8
[heads]
final = "fcn_r1_b0_s1"
early = ["fcn_r1_b0"]
[training]
batch = 8
stage1_epochs = 3
stage2_epochs = 1
loss_stride = 2
[statistics]
policies = ["mean", "gate"]
pixel_thresholds = [0.5]
[compile]
precisions = ["int8"]
calibration_images = 8
[search]
max_early_exits = 1
drops_pp = [1.0, 50.0]
"""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    base = tmp_path_factory.mktemp("first_use")
    (base / "tiny.toml").write_text(RECIPE)
    little_model(48).save(base / "little.keras")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in BRIEF.items():
            patch.setitem(PRESETS["quick"], name, value)
        patch.setenv("HOME", str(base))
        yield Walk(base, "no phone")


@pytest.fixture(scope="module")
def profiled(walk: Walk) -> Path:
    walk.type(["mess", "train", "runs/mine", "--recipe", "tiny.toml"])
    for command in ("compile", "evaluate", "profile"):
        walk.type(["mess", command, "runs/mine"])
    return walk.folder / "runs/mine"


@pytest.fixture(scope="module")
def reported(walk: Walk, profiled: Path) -> Path:
    for command in ("search", "export", "check", "report"):
        walk.type(["mess", command, "runs/mine"])
    return profiled


def test_files_that_users_read_fit_their_json_schemas(reported: Path) -> None:
    # Exports for deadlines, whose checks are of a kind of their own, are checked in
    # test_export_forms.py.
    for name in RECORDS.keys() - {"check-anytime"}:
        files = list(reported.rglob(f"{name}.json"))
        assert files
        for file in files:
            validate(file)


def test_what_was_promised_is_measured(reported: Path) -> None:
    for name in ("drop1_int8", "drop50_int8"):
        check = json.loads((reported / "export" / name / "check.json").read_text())
        assert check["images_with_other_exit"] == 0
        for part in check["parts"].values():
            assert part["measured_exit_rates"] == pytest.approx(
                part["promised_exit_rates"]
            )
            # Exits of an int8 file share one output scale: rounding, no more.
            assert part["measured_miou"] == pytest.approx(
                part["promised_miou"], abs=0.005
            )
            assert part["measured_ms"] > 0
    card = json.loads((reported / "export/drop50_int8/card.json").read_text())
    assert card["exits"][-1]["policy"] is None
    assert card["input"]["dtype"] == "int8"
    assert (reported / "report.html").is_file()


def test_the_finalist_that_measures_best_is_chosen(profiled: Path) -> None:
    (found,) = mess_tf.search(
        profiled,
        mess_tf.Requirement(max_latency_ms=1e3),
        mess_tf.SearchOptions(finalists=3),
    )["devices"]
    (result,) = found["results"]
    finalists = result["finalists"]
    assert len(finalists) > 1

    def rank(finalist: dict[str, Any]) -> tuple[float, float]:
        return -finalist["outcome"]["calibration"]["miou"], finalist["measured_ms"]

    assert result["chosen"] == min(finalists, key=rank)["outcome"]
    promised = finalists[0]["outcome"]["calibration"]["miou"]
    assert promised == pytest.approx(result["bound"])


def test_an_image_becomes_an_overlay(walk: Walk, reported: Path) -> None:
    image = walk.folder / "one.png"
    Image.fromarray(open_drawn("val", count=1, size=48).load(0).image).save(image)
    model = reported / "export/drop50_int8/model.tflite"
    shown = walk.type(["mess", "run", str(model), "one.png", "--output", "seen"])
    assert "one.png: exit " in shown
    with Image.open(walk.folder / "seen" / "one.png") as overlay:
        assert overlay.size == (48, 48)


def test_an_impossible_requirement_is_told_with_the_nearest(
    walk: Walk, profiled: Path
) -> None:
    told = walk.refused("search", "runs/mine", "--max-latency-ms", "1e-6")
    assert told.startswith("mess: error: NOT MET: no configuration keeps the")
    assert told.count("\n") == 1


def test_what_is_missing_names_the_command(walk: Walk, profiled: Path) -> None:
    told = walk.refused("search", "runs/mine", "--precision", "float32")
    assert "mess evaluate" in told
    told = walk.refused("check", "runs/mine", "--name", "nothing")
    assert "No export named 'nothing'" in told
    assert "No run folder" in walk.refused("train", "none")


def test_another_recipe_in_the_same_folder_is_refused(
    walk: Walk, profiled: Path
) -> None:
    other = RECIPE.replace("skip_width = 8", "skip_width = 12")
    (walk.folder / "other.toml").write_text(other)
    told = walk.refused("train", "runs/mine", "--recipe", "other.toml")
    assert "trained with another recipe: network.skip_width" in told
