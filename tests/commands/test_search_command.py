"""What `mess search` keeps, and what it tells of several devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from android_bench.errors import BenchError
from mess_tf.commands import finalists as finalists_command
from mess_tf.commands import search_results as results_module
from mess_tf.commands.latencies import measured_latencies
from mess_tf.commands.search import render, search
from mess_tf.commands.search_options import SearchOptions
from mess_tf.commands.search_text import _proof
from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.reporting.build_report import load_precision
from mess_tf.reporting.deployments import piece_latencies
from mess_tf.reporting.inputs import load_latencies
from mess_tf.runs import Run
from search.infeasible import InfeasibleError
from search.jobs import run_jobs
from search.requirement import Requirement, Robust
from search.result import load_results
from tests.support.hand_made_run import make_run, measure, statistics_with


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run")
    measure(run, {piece.name for piece in Pieces.load(run.pieces("int8")).pieces})
    statistics_with(run, "fcn_r1_b0")
    return run


def names_of(run: Run) -> list[str]:
    path = run.search("host", "int8") / "chosen.json"
    return [result.name for result in load_results(path)]


def test_answers_are_written_as_they_come(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:

    def interrupted(*given: Any) -> Any:
        yield next(run_jobs(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr("mess_tf.commands.search.run_jobs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(run.folder)
    assert names_of(run) == ["drop0"]


def test_a_device_lost_while_finalists_are_measured_leaves_the_promised_ones(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> Any:
        raise BenchError("The phone did not come back.")

    monkeypatch.setattr(results_module, "pick_by_measurement", lost)
    with pytest.raises(BenchError, match="did not come back"):
        search(run.folder, Requirement(min_miou=0.4), SearchOptions(finalists=3))
    (kept,) = load_results(run.search("host", "int8") / "chosen.json")
    assert kept.proven and kept.finalists[0].measured_ms is None


def test_an_older_answer_stays_unless_there_is_proven_to_be_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(run.folder, Requirement(min_miou=0.9))
    for error, left in (
        (MessError("NOT MET so far"), ["miou0.9"]),
        (InfeasibleError("NOT MET"), []),
    ):
        monkeypatch.setattr(
            "mess_tf.commands.search.run_jobs", lambda *_, e=error: iter([e])
        )
        with pytest.raises(type(error), match="NOT MET"):
            search(run.folder, Requirement(min_miou=0.9))
        assert names_of(run) == left


def test_several_devices_get_answers_of_their_own_and_a_table(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mess_tf.commands.cards import Source

    opened = Source.open

    def same(own: Run, precision: Any, device: str, *others: Any) -> Source:
        return opened(own, precision, "host", *others)

    monkeypatch.setattr(Source, "open", same)
    result = search(
        run.folder, Requirement(min_miou=0.4), device=("host", "phone", "host")
    )
    assert [row["device"] for row in result["devices"]] == ["host", "phone"]
    assert (run.search("phone", "int8") / "chosen.json").is_file()
    lines = render(result).splitlines()
    table = lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in table] == ["mean", "host", "phone"]


def test_with_eight_groups_to_calibrate_on_a_robust_choice_is_named(run: Run) -> None:
    def hint(robust: Robust | None = None) -> str | None:
        result = search(run.folder, Requirement(min_miou=0.4, robust=robust))
        last = render(result).splitlines()[-1]
        assert ("--robust upper-bound" in last) == (result["hint"] is not None)
        return result["hint"]

    assert hint() is None  # two groups
    path = run.statistics("int8")
    few = Statistics.load(path)
    places = [0] * 8 + [4]  # of images: eight to calibrate on, one to report
    dataclasses.replace(
        few,
        images=tuple("abcdefghi"),
        groups=tuple("ABCDEFGHI"),
        parts=tuple(few.parts[k] for k in places),
        true_area=few.true_area[places],
        predicted_area=few.predicted_area[places],
        intersection=few.intersection[places],
        confidence={key: row[places] for key, row in few.confidence.items()},
    ).save(path)
    told = hint()
    assert told is not None and "With their 8 groups" in told
    assert hint("upper-bound") is None


def test_the_report_sums_what_the_search_did(run: Run) -> None:
    # Round by round a branch costs 21 us more; by the medians it would be 100.
    whole, branch = (1000.0, 1400.0, 950.0), (1100.0, 1421.0, 971.0)
    rounds_us = {"probe_whole": whole, "probe_branch_1": branch}
    measure(run, set(rounds_us), rounds_us=rounds_us)
    found = measured_latencies(run, "int8").by_piece
    (measured,) = load_latencies(run)
    files = load_precision(run, SupernetSpec.load(run.supernet_structure), "int8")
    assert piece_latencies(files, measured) == found
    other = {"probe_whole": whole, "probe_branch_1": branch[:2]}
    measure(run, set(other), rounds_us=other)
    assert measured_latencies(run, "int8").by_piece["branch_1"] > found["branch_1"]


def test_all_phones_are_for_measuring(run: Run) -> None:
    with pytest.raises(UsageError, match="name the devices to search for"):
        search(run.folder, device=("all",))


def test_finalists_need_no_device_where_there_is_one_only(run: Run) -> None:
    results = load_results
    search(run.folder, Requirement(min_miou=0.9))
    one = list(results(run.search("host", "int8") / "chosen.json"))
    assert finalists_command.pick_by_measurement(None, one, "nowhere") == one  # type: ignore[arg-type]


def test_nothing_to_predict_is_said(run: Run) -> None:
    with pytest.raises(UsageError, match="--predicted is without effect.*host"):
        search(run.folder, Requirement(min_miou=0.4), predicted=True)


def test_the_front_says_how_many_early_exits_it_has(run: Run) -> None:
    for asked, used in ((3, 2), (1, 1)):
        result = search(run.folder, options=SearchOptions(max_early_exits=asked))
        assert result["devices"][0]["front_early_exits"] == used
        assert f"at most {used} early exits" in render(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_image_drop_pp": 5.0}, "--max-image-drop-pp 5 is without effect"),
        (
            {"setting": "budgeted", "max_early_exits": 2},
            "--max-early-exits 2 is without effect",
        ),
        ({"confidence": 1.5}, "--confidence is 1.5; give a probability"),
        ({"confidence": 0.0}, "--confidence is 0; give a probability"),
    ],
)
def test_options_without_effect_or_meaning_are_refused(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        SearchOptions(**arguments)


def test_a_guarantee_has_a_drop_of_its_own_only_where_it_is_given() -> None:
    promised = SearchOptions(confidence=0.9).guarantee
    assert promised is not None and promised.max_image_drop_pp == 10.0
    assert promised.max_share == pytest.approx(0.1)
    given = SearchOptions(confidence=0.9, max_image_drop_pp=0.0).guarantee
    assert given is not None and given.max_image_drop_pp == 0.0
    assert SearchOptions().guarantee is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"proven": True}, "proven optimal"),
        ({"finalists": [{"measured_ms": 1.0}]}, "picked by measurement"),
        ({"certified": {"step": 2}}, "thresholds drawn back for the guarantee"),
        ({"certified": {"step": 0}}, "gap 0.25 at the time limit"),
        ({}, "gap 0.25 at the time limit"),
    ],
)
def test_the_time_limit_is_named_only_where_it_was_reached(
    row: dict[str, Any], words: str
) -> None:
    unproven = {"proven": False, "finalists": [], "certified": None, "gap": 0.25}
    assert _proof({**unproven, **row}) == words
