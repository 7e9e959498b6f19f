"""Operator tables of our own making: both forms, loops, subgraphs, and damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from android_bench.logs.benchmark_log import LogError
from android_bench.logs.op_profile import OpGraph, OpProfile, parse_op_profile

LOGS = Path(__file__).parent / "logs"
TABLE = (LOGS / "profile.txt").read_text()


def parse(text: str) -> OpProfile:
    profile = parse_op_profile(text)
    assert profile is not None
    return profile


def figures(graph: OpGraph) -> list[tuple[str, float, float]]:
    return [(row.kind, row.run_ms, round(row.share, 6)) for row in graph.rows]


def test_graphs_are_kept_apart() -> None:
    profile = parse(TABLE)
    assert [g.title for g in profile.init] == ["Primary graph (name: main)"]
    assert [(g.title, g.total_ms) for g in profile.regular] == [
        ("Primary graph (name: main)", 10.0),
        ("Subgraph (index: 2, name: body)", 7.5),
        ("Delegate internal", 0.25),
    ]
    assert all(g.complete for g in (*profile.init, *profile.regular))


def test_graphs_of_tools_that_do_not_name_them() -> None:
    text = TABLE.replace(" (name: main)", "").replace(", name: body", "")
    assert [g.title for g in parse(text).regular] == [
        "Primary graph",
        "Subgraph (index: 2)",
        "Delegate internal",
    ]


def test_types_and_names_with_commas_blanks_and_arrows() -> None:
    rows = parse(TABLE).regular[0].rows
    long = "Convolution (NHWC, F32) IGEMM, with a name longer than the column"
    assert [row.kind for row in rows] == [long, "mul 0 -> relu 1", "WHILE"]
    assert rows[0].name == "Delegate/Convolution (NHWC, F32) IGEMM:0"
    assert rows[2].name == "[loop, again]:3"


def test_what_runs_several_times_counts_so_often() -> None:
    profile = parse(TABLE)
    assert figures(profile.init[0]) == [("AllocateTensors", 8.0, 1.0)]
    assert figures(profile.regular[1]) == [
        ("ADD", 2.5, 0.333333),
        ("RESHAPE", 5.0, 0.666667),
    ]


def test_what_runs_in_the_first_run_only_hardly_counts() -> None:
    profile = parse((LOGS / "litert.txt").read_text())
    (graph,) = profile.regular
    assert [row.times_called for row in graph.rows] == [1, 0, 1]
    assert graph.total_ms == pytest.approx(10.0)
    assert graph.rows[1].avg_ms == 3.0
    assert graph.rows[1].run_ms == pytest.approx(0.02)
    assert graph.rows[2].share == pytest.approx(0.988)


def test_the_csv_form_with_wrong_percentages() -> None:
    profile = parse((LOGS / "profile.csv").read_text())
    (graph,) = profile.regular
    assert graph.complete and profile.init == ()
    first, second = graph.rows
    assert (first.kind, first.name) == (
        "Convolution (NHWC, F32) IGEMM",
        "[conv, relu]:0",
    )
    assert (first.avg_ms, first.times_called) == (2.00025, 0)
    assert first.share == pytest.approx(2.00025 / 2.001)
    assert (second.kind, second.name, second.memory_kb) == ("SOFTMAX", "", 1.5)


def test_tabs_that_became_blanks() -> None:
    body = TABLE.partition("Operator-wise")[2].replace("\t", "  ")
    assert parse("Operator-wise" + body).regular[:2] == parse(TABLE).regular[:2]


def test_columns_of_old_tools() -> None:
    old = TABLE.replace("\t  [first]", "\t   [start]\t  [first]")
    lines = [
        line.replace("\t", "\t  0.125\t", 2).replace("\t  0.125\t", "\t", 1)
        if line.startswith("\t") and "[" not in line.partition("%")[0]
        else line
        for line in old.splitlines()
    ]
    assert parse("\n".join(lines) + "\n") == parse(TABLE)


def test_a_table_without_heading_is_the_runs_or_the_start_by_its_rows() -> None:
    init, _, regular = TABLE.partition("INFO: Operator-wise")
    init = init.partition("Initialization:\n")[2]
    regular = regular.partition("Runs:\n")[2]
    assert parse(init) == OpProfile(parse(TABLE).init, ())
    assert parse(regular) == OpProfile((), parse(TABLE).regular)


def test_key_presses_and_other_programs_do_not_break_a_table() -> None:
    noisy = TABLE.replace(
        "\t                 mul 0",
        "\n\nWARNING: 5% of something\nVx delegate: 0 of 3\n\t                 mul 0",
    )
    assert parse(noisy) == parse(TABLE)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("\t    7.500\t 75.000%", "\t    -7.500\t 75.000%", "damaged"),
        ("\t    7.500\t 75.000%", "\t    nan\t 75.000%", "damaged"),
        ("\t    7.500\t 75.000%", "\t 75.000%", "damaged"),
        ("\t    7.500\t 75.000%", "\t 1e999\t 75.000%", "not finite"),
        ("[avg ms]\t     [%]", "[avg us]\t     [%]", "heading"),
        ("nodes executed: 3", "nodes executed: 4", "4 nodes were executed, but 3"),
    ],
)
def test_damaged_tables_are_refused(old: str, new: str, why: str) -> None:
    assert old in TABLE
    with pytest.raises(LogError, match=why):
        parse_op_profile(TABLE.replace(old, new))


def test_tables_of_two_runs_are_refused() -> None:
    with pytest.raises(LogError, match="several runs"):
        parse_op_profile(TABLE + TABLE)


def test_a_log_without_tables() -> None:
    assert parse_op_profile("") is None
    assert parse_op_profile((LOGS / "cpu.txt").read_text()) is None


def test_an_empty_table() -> None:
    heading = TABLE.partition("Operator-wise")[2].splitlines()[3]
    (graph,) = parse(f"{'=' * 30} Run Order {'=' * 30}\n{heading}\n").regular
    assert (graph.rows, graph.total_ms, graph.complete) == ((), 0, False)
