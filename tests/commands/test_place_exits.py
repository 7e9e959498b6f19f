"""`mess train` with exits placed by latency, measured on this computer."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

import mess_tf
from android_bench.records import PRESETS
from mess_tf.commands.place_exits import recipe_with_placed_exits
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
from tests.support.doc_walk import BRIEF
from tests.support.little_network import little_model

PLACEMENT = {
    "schema": 1,
    "device": "host",
    "precision": "int8",
    "threads": 1,
    "network_ms": 2.0,
    "candidates": {"two_relu": 1.0, "three_relu": 1.5},
    "exits": [
        {
            "layer": "two_relu",
            "latency_ms": 1.0,
            "head_latency_ms": {"fcn_r1_b0": 0.1},
            "left_out_ms": {"dlb_r1_b0": 1.2},
        }
    ],
}


def late_network(size: int) -> keras.Model:
    """A network whose time is spent late, so that leaving early saves much of it."""
    body = little_model(size)
    x = body.output
    for number in range(8):
        x = keras.layers.Conv2D(128, 3, padding="same", name=f"late_{number}")(x)
        x = keras.layers.ReLU(name=f"late_{number}_relu")(x)
    return keras.Model(body.input, x)


def recipe(folder: Path, size: int = 64) -> Recipe:
    late_network(size).save(folder / "little.keras")
    return Recipe.from_table(
        {
            "data": {"kind": "drawn", "size": size, "count_train": 8, "count_val": 4},
            "network": {
                "backbone": str(folder / "little.keras"),
                "weights": "own",
                "mean": [127.5] * 3,
                "std": [127.5] * 3,
                "height": size,
                "width": size,
                "exits": 3,
                "exit_placement": "latency",
                "decoder_width": 8,
                "skip_width": 8,
            },
            "heads": {"final": "fcn_r1_b0", "early": ["fcn_r1_b0", "fcn_r1_b0_s1"]},
            "training": {
                "batch": 4,
                "stage1_epochs": 1,
                "stage2_epochs": 1,
                "loss_stride": 8,
            },
            "statistics": {"policies": ["mean"]},
        }
    )


def test_what_was_measured_once_is_not_measured_again(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", recipe(tmp_path))
    run.checkpoints.mkdir()
    (run.checkpoints / "exit_placement.json").write_text(json.dumps(PLACEMENT))
    placed = recipe_with_placed_exits(run)
    assert placed.network.exit_layers == ("two_relu",)
    assert placed.heads.early == {"1": ("fcn_r1_b0",)}
    assert placed.training == run.recipe.training


@pytest.mark.slow
def test_exits_are_placed_by_this_computers_latencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in BRIEF.items():
        monkeypatch.setitem(PRESETS["quick"], name, value)
    # Large enough that what leaving saves is more than what a busy machine adds.
    run = Run.create(tmp_path / "run", recipe(tmp_path, size=128))
    mess_tf.train(tmp_path / "run")
    file = run.checkpoints / "exit_placement.json"
    placement = json.loads(file.read_text())
    # No time is compared with one of another measurement: that would be about how busy
    # the machine is.
    times = list(placement["candidates"].values())
    assert times == sorted(times) and times[0] > 0
    assert placement["network_ms"] > 0
    spec = SupernetSpec.load(run.supernet_structure)
    assert [p.layer for p in spec.exit_points[:-1]] == [
        row["layer"] for row in placement["exits"]
    ]
    for row, heads in zip(placement["exits"], spec.heads, strict=False):
        assert [head.id for head in heads] == list(row["head_latency_ms"])
    assert not (run.checkpoints / "exit_candidates").exists()
    before = file.read_bytes()
    mess_tf.train(tmp_path / "run")
    assert file.read_bytes() == before
