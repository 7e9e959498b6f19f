"""What the report says of results for deadlines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mess_tf.recipe.recipe import Recipe
from mess_tf.reporting.anytime import (
    DeadlineAnswers,
    deadline_answers,
    deadlines_csv,
    write_deadlines,
)
from mess_tf.runs import Run
from search.anytime import AnytimeResult, DeadlineFigures, ExitFigures
from search.result import save_results

FIRST = ExitFigures(1, "fcn_r1_b0", 3.0, 0.5, 0.4)
LAST = ExitFigures(3, "fcn_r2_b0", 7.0, 0.7, 0.6)
ALONE = ExitFigures(3, "fcn_r4_b0", 6.5, 0.72, 0.63)
RESULT = AnytimeResult(
    name="anytime-1-4-8",
    exits=(FIRST, LAST),
    deadlines=(
        DeadlineFigures(1.0, 1.0, None, 0.0, 0.0, None),
        DeadlineFigures(4.0, 1.0, 0, 0.5, 0.4, FIRST),
        DeadlineFigures(8.0, 2.0, 1, 0.7, 0.6, ALONE),
    ),
    weighted_calibration_miou=0.475,
    weighted_report_miou=0.4,
    max_exits=None,
    source="pieces:int8",
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run", Recipe.from_table({"data": {"kind": "drawn"}}))
    save_results(run.search("host", "int8") / "chosen.json", [], [RESULT])
    return run


def only(run: Run) -> DeadlineAnswers:
    (answers,) = deadline_answers(run)
    return answers


def test_each_deadline_stands_beside_the_best_single_exit_for_it(run: Run) -> None:
    answers = only(run)
    assert (answers.device, answers.precision, answers.part) == (
        "host", "int8", "report",
    )  # fmt: skip
    assert answers.chain == ((1, "fcn_r1_b0", 3.0), (3, "fcn_r2_b0", 7.0))
    assert answers.weighted_miou == 0.4
    none, early, late = answers.rows
    assert none.exit is None and none.price_pp is None
    assert (early.exit, early.ready_ms, early.miou, early.price_pp) == (1, 3, 0.4, 0)
    assert (late.exit, late.single_head, late.single_ms) == (3, "fcn_r4_b0", 6.5)
    assert late.price_pp == pytest.approx(3.0)


def test_without_a_report_part_figures_are_of_the_calibration(run: Run) -> None:
    unseen = [dataclasses.replace(row, report_miou=None) for row in RESULT.deadlines]
    result = dataclasses.replace(
        RESULT, weighted_report_miou=None, deadlines=tuple(unseen)
    )
    save_results(run.search("host", "int8") / "chosen.json", [], [result])
    answers = only(run)
    assert answers.part == "calibration" and answers.weighted_miou == 0.475
    assert [row.miou for row in answers.rows] == [0.0, 0.5, 0.7]
    assert answers.rows[2].single_miou == 0.72


def test_it_says_what_to_do_next_and_what_a_check_found(run: Run) -> None:
    answers = only(run)
    assert answers.export is None and not answers.checked
    assert answers.command == f"mess export {run.folder} --choice anytime-1-4-8"
    folder = run.export("anytime-1-4-8_int8_progressive")
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    answers = only(run)
    assert answers.export == folder.name
    assert answers.command == f"mess check {run.folder} --name {folder.name}"
    measured = {"measured_ready_ms": 3.5, "in_time": 0.75, "measured_miou": 0.35}
    nothing = dict.fromkeys(measured)
    parts = {"report": [nothing, measured, measured]}
    (folder / "check.json").write_text(json.dumps({"schema": 1, "parts": parts}))
    answers = only(run)
    assert answers.checked and answers.command is None
    assert answers.rows[1].in_time == 0.75 and answers.rows[0].in_time is None


def test_as_csv(run: Run, tmp_path: Path) -> None:
    lines = deadlines_csv(deadline_answers(run)).splitlines()
    assert lines[0].startswith("name,device,precision,part,deadline_ms,weight,exit")
    assert lines[3].startswith("anytime-1-4-8,host,int8,report,8.0,2.0,3,fcn_r2_b0,7.0")
    (path,) = write_deadlines(deadline_answers(run), tmp_path)
    assert path.read_text().splitlines() == lines
    assert write_deadlines((), tmp_path) == []
