"""The whole way by the command line, small, with kills on the way.

One run folder goes through all commands as a user would type them. `train`, `evaluate`
and `profile` are killed (SIGKILL) once they have finished something, and called again.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mess_tf.data.drawn import open_drawn
from mess_tf.records import Statistics

RECIPE = """
[data]
kind = "drawn"
size = 64
count_train = 32
count_val = 40
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
stage1_epochs = 6
stage2_epochs = 3
optimizer = "adamw"
learning_rate = 3e-3
stage2_learning_rate = 3e-3
loss_stride = 2
[statistics]
policies = ["mean", "cbt", "gate", "region"]
pixel_thresholds = [0.5]
[compile]
precisions = ["int8"]
calibration_images = 8
[search]
max_early_exits = 2
drops_pp = [1.0, 50.0]
"""
MESS = [sys.executable, "-m", "mess_tf.cli"]
LIMIT_S = 280


def mess(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [*MESS, *arguments], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout if code == 0 else done.stderr


def kill_when(ready: Callable[[], bool], *arguments: str) -> None:
    """Starts a command and kills it, with all it started, as soon as ``ready``."""
    process = subprocess.Popen(
        [*MESS, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + LIMIT_S
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert was_running, "the command ended before it could be killed"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def measured_ids(store: Path) -> list[int]:
    if not store.is_file():
        return []
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return [
            row[0]
            for row in connection.execute("select id from measurements order by id")
        ]
    except sqlite3.OperationalError:
        return []  # the table is being made, or the store is locked for a moment
    finally:
        connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose training was killed after its second epoch."""
    base = tmp_path_factory.mktemp("whole_way")
    (base / "tiny.toml").write_text(RECIPE)
    run = base / "run"
    first = ["train", str(run), "--recipe", str(base / "tiny.toml")]
    history = run / "training" / "stage1.jsonl"
    kill_when(lambda: len(lines(history)) >= 2, *first)
    before = lines(history)[:1]
    out = mess("train", str(run))
    assert "Next: mess compile" in out
    assert lines(history)[:1] == before
    assert [json.loads(line)["epoch"] for line in lines(history)] == [1, 2, 3, 4, 5, 6]
    mess("compile", str(run))
    return run


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Path:
    partial = folder / "statistics" / "int8.partial"
    kill_when(lambda: bool(list(partial.glob("*/*.npz"))), "evaluate", str(folder))
    chunks = {path: path.stat().st_mtime_ns for path in partial.glob("*/*.npz")}
    assert chunks
    mess("evaluate", str(folder))
    assert not partial.exists()
    return folder


@pytest.fixture(scope="module")
def profiled(evaluated: Path) -> Path:
    store = evaluated / "profiles.sqlite"
    kill_when(lambda: len(measured_ids(store)) >= 3, "profile", str(evaluated))
    before = measured_ids(store)
    mess("profile", str(evaluated))
    after = measured_ids(store)
    pieces = json.loads((evaluated / "pieces/int8/pieces.json").read_text())["pieces"]
    assert after[: len(before)] == before
    assert len(after) == len(pieces)  # nothing is measured twice
    return evaluated


def test_a_killed_evaluation_ends_as_one_of_one_go(evaluated: Path) -> None:
    path = evaluated / "statistics" / "int8.npz"
    killed = Statistics.load(path)
    path.unlink()
    mess("evaluate", str(evaluated))
    whole = Statistics.load(path)
    np.testing.assert_array_equal(killed.intersection, whole.intersection)
    for key, values in whole.confidence.items():
        np.testing.assert_array_equal(killed.confidence[key], values)


def test_from_search_to_report(profiled: Path, tmp_path: Path) -> None:
    run = str(profiled)
    (found,) = json.loads(mess("search", run, "--finalists", "3", "--json"))["devices"]
    assert [r["name"] for r in found["results"]] == ["drop1", "drop50"]
    for result in found["results"]:
        # The linked file that measured best is the one that is exported.
        finalists = result["finalists"]
        best = min(finalists, key=lambda finalist: finalist["measured_ms"])
        assert result["chosen"] == best["outcome"]
        promised = finalists[0]["outcome"]["calibration"]["mean_ms"]
        assert promised == pytest.approx(result["bound"])
    exported = json.loads(mess("export", run, "--json"))["exports"]
    assert {e["name"] for e in exported} == {"drop1_int8", "drop50_int8"}
    checked = json.loads(mess("check", run, "--json"))["checks"]
    for check in checked:
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
    card = json.loads((profiled / "export/drop50_int8/card.json").read_text())
    assert card["exits"][-1]["policy"] is None
    assert card["input"]["dtype"] == "int8"
    page = json.loads(mess("report", run, "--json"))
    assert Path(page["report"]).is_file()
    assert page["missing"] == []
    image = tmp_path / "one.png"
    Image.fromarray(open_drawn("val", count=1, size=64).load(0).image).save(image)
    model = profiled / "export/drop50_int8/model.tflite"
    shown = mess("run", str(model), str(image), "--output", str(tmp_path / "overlays"))
    assert f"of {len(card['exits'])}" in shown
    with Image.open(tmp_path / "overlays" / "one.png") as overlay:
        assert overlay.size == (64, 64)


def test_an_impossible_requirement_is_told_with_the_nearest(profiled: Path) -> None:
    told = mess("search", str(profiled), "--max-latency-ms", "1e-6", code=1)
    assert told.startswith("mess: error: NOT MET: no configuration keeps the")
    assert told.count("\n") == 1


def test_what_is_missing_names_the_command(folder: Path, tmp_path: Path) -> None:
    told = mess("search", str(folder), "--precision", "float32", code=1)
    assert "mess evaluate" in told
    told = mess("check", str(folder), "--name", "nothing", code=1)
    assert "No export named 'nothing'" in told
    told = mess("train", str(tmp_path / "none"), code=1)
    assert "No run folder" in told


def test_another_recipe_in_the_same_folder_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.toml").write_text(RECIPE.replace("seed = 3", "seed = 4"))
    told = mess("train", str(folder), "--recipe", str(tmp_path / "other.toml"), code=1)
    assert "trained with another recipe: data.seed" in told
