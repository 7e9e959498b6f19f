"""``mess search --setting anytime``: options, what is stored, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mess_tf.cli import main
from mess_tf.commands.latencies import measured_latencies
from mess_tf.commands.search import render, search
from mess_tf.commands.search_options import SearchOptions, anytime_name, parse_deadlines
from mess_tf.core.errors import UsageError
from mess_tf.core.latency import PathLatency
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from search.anytime import Deadline
from search.infeasible import InfeasibleError
from search.requirement import Requirement
from search.result import load_anytime_results, load_results
from tests.support.hand_made_run import make_run, measure, statistics_with
from tests.support.json_schemas import validate


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run")
    measure(run, {piece.name for piece in Pieces.load(run.pieces("int8")).pieces})
    statistics_with(run, "fcn_r1_b0")
    return run


def anytime(*deadlines: str, **options: Any) -> SearchOptions:
    return SearchOptions(setting="anytime", deadline=deadlines, **options)


def fastest_ms(run: Run) -> float:
    spec = SupernetSpec.load(run.supernet_structure)
    paths = PathLatency(spec, measured_latencies(run, "int8").by_piece)
    return (
        paths.segments_ms(1)
        + paths.head_ms(1, "fcn_r1_b0")
        + paths.output_ms(1, "fcn_r1_b0")
    )


def test_exits_for_deadlines_are_stored_beside_other_results(run: Run) -> None:
    search(run.folder, Requirement(min_miou=0.4))
    soon = f"{fastest_ms(run) * 1.001:.6f}"
    result = search(run.folder, options=anytime("1000:2", soon))
    (device,) = result["devices"]
    (row,) = device["anytime"]
    name = f"anytime-{float(soon):g}x1-1000x2"
    assert row["name"] == name and row["setting"] == "anytime"
    assert [d["deadline_ms"] for d in row["deadlines"]] == [float(soon), 1000]
    assert row["deadlines"][0]["position"] == 0
    assert row["exits"][0]["exit"] == 1
    assert result["next"] == f"mess export {run.folder} --choice {name}"
    assert result["hint"] is None
    path = run.search("host", "int8") / "chosen.json"
    assert json.loads(path.read_text())["anytime"] == [row]
    validate(path)
    (stored,) = load_anytime_results(path)
    assert stored.name == name and stored.source == "drawn"
    assert [one.name for one in load_results(path)] == ["miou0.4"]
    # Results of both kinds stay; one of the same name is replaced.
    search(run.folder, Requirement(min_miou=0.5))
    search(run.folder, options=anytime("1000:2", soon))
    search(run.folder, options=anytime("1000"))
    assert [one.name for one in load_results(path)] == ["miou0.4", "miou0.5"]
    names = [one.name for one in load_anytime_results(path)]
    assert names == [name, "anytime-1000"]


def test_every_deadline_is_told_with_the_best_single_exit_for_it(run: Run) -> None:
    result = search(run.folder, options=anytime("0.000001", "1000"))
    lines = render(result).splitlines()
    row = result["devices"][0]["anytime"][0]
    assert lines[0].startswith("anytime-1e-06-1000 (proven optimal): mIoU ")
    assert "no answer yet, mIoU 0.00%" in lines[1]
    single = row["deadlines"][1]["best_single"]
    assert f"best single exit {single['exit']}:{single['head']} at" in lines[2]
    assert "(+0.00 pp)" in lines[2]  # one deadline counts: nothing is given up for it


def test_deadlines_that_no_exit_meets_have_no_result(run: Run) -> None:
    path = run.search("host", "int8") / "chosen.json"
    search(run.folder, options=anytime("1000"))
    with pytest.raises(InfeasibleError, match="NOT MET: no exit answers by 1e-06 ms"):
        search(run.folder, options=anytime("1e-06"))
    assert [one.name for one in load_anytime_results(path)] == ["anytime-1000"]


def test_so_many_early_exits_at_most(run: Run) -> None:
    (device,) = search(run.folder, options=anytime("1000", max_early_exits=0))[
        "devices"
    ]
    assert len(device["anytime"][0]["exits"]) == device["anytime"][0]["max_exits"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"setting": "anytime"}, "needs a deadline: give --deadline MS"),
        ({"deadline": ("8",)}, "--deadline 8 is without effect without --setting any"),
        ({"setting": "anytime", "deadline": "x"}, r"--deadline x is not MS\[:WEIGHT\]"),
        ({"setting": "anytime", "deadline": "8:"}, "--deadline 8: is not MS"),
        ({"setting": "anytime", "deadline": "8:-1"}, "a positive weight"),
        ({"setting": "anytime", "deadline": ("8", "8:2")}, "8 is given twice"),
        (
            {"setting": "anytime", "deadline": "8", "finalists": 3},
            "--finalists 3 is without effect with --setting anytime",
        ),
        (
            {"setting": "anytime", "deadline": "8", "confidence": 0.95},
            "--confidence 0.95 is without effect",
        ),
        (
            {"setting": "anytime", "deadline": "8", "engine": "dask"},
            "--engine dask is without effect",
        ),
        (
            {"setting": "anytime", "deadline": "8", "time_limit_s": 5.0},
            "--time-limit-s 5.0 is without effect",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        SearchOptions(**options)


def test_limits_beside_deadlines_are_refused(tmp_path: Path) -> None:
    for requirement, flag in (
        (Requirement(max_drop_pp=1.0), "--max-drop-pp 1"),
        (Requirement(robust="left-out"), "--robust left-out"),
    ):
        with pytest.raises(UsageError, match=f"{flag} is without effect with --setti"):
            search(tmp_path, requirement, anytime("8"))


def test_deadlines_on_the_command_line(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["search", str(run.folder), "--setting", "anytime", "--json"]
    assert main([*line, "--deadline", "1000", "--deadline", "500:3"]) == 0
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert [row["name"] for row in device["anytime"]] == ["anytime-500x3-1000x1"]
    assert main([*line]) == 2
    assert "needs a deadline" in capsys.readouterr().err


def test_deadlines_are_ordered_and_named() -> None:
    deadlines = parse_deadlines(["8", "2.5:4"])
    assert deadlines == (Deadline(2.5, 4.0), Deadline(8.0))
    assert anytime_name(deadlines) == "anytime-2.5x4-8x1"
    assert anytime_name(parse_deadlines(["8", "4"])) == "anytime-4-8"
    assert SearchOptions(deadline=()) == SearchOptions(deadline=[])
