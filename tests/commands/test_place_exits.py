"""`mess train` with exits placed by latency, measured on this computer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mess_tf
from mess_tf.commands.place_exits import recipe_with_placed_exits
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run
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


def recipe(folder: Path) -> Recipe:
    little_model(64).save(folder / "little.keras")
    return Recipe.from_table(
        {
            "data": {"kind": "drawn", "size": 64, "count_train": 8, "count_val": 4},
            "network": {
                "backbone": str(folder / "little.keras"),
                "weights": "own",
                "mean": [127.5] * 3,
                "std": [127.5] * 3,
                "height": 64,
                "width": 64,
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
def test_exits_are_placed_by_this_computers_latencies(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", recipe(tmp_path))
    mess_tf.train(tmp_path / "run")
    file = run.checkpoints / "exit_placement.json"
    placement = json.loads(file.read_text())
    times = list(placement["candidates"].values())
    assert times == sorted(times)
    assert 0 < times[-1] < placement["network_ms"]
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
