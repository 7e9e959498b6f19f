"""Costs of operators by piece, and int8 against float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.records import Failure
from android_bench.store import Store
from mess_tf.commands.report import report
from mess_tf.reporting.operators import (
    families_csv,
    family_of,
    operator_costs,
    piece_rows,
    stored_operator_costs,
)
from tests.support.report_run import FakeRun


def piece(name: str, *operators: tuple[str, float], **fields: Any) -> OperatorProfile:
    total = sum(us for _, us in operators)
    times = tuple(
        OperatorTime(kind, "", node, "", "X", us, us / total, 1.0)
        for node, (kind, us) in enumerate(operators)
    )
    values: dict[str, Any] = {"operators": times, "rounds": 5, **fields}
    return OperatorProfile(name, name, "f", "{}", "t", "now", **values)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("Convolution (NHWC, F32) IGEMM", "Convolution IGEMM"),
        ("Fully Connected (NC, QS8, QC8W) GEMM", "Fully Connected GEMM"),
        ("Convert (NC)", "Convert"),
        ("convolution_2d 8 -> hard_swish 9", "convolution_2d -> hard_swish"),
        ("CONV_2D", "CONV_2D"),
    ],
)
def test_families_leave_number_formats_and_node_numbers_out(
    kind: str, family: str
) -> None:
    assert family_of(kind) == family


def test_families_add_up_to_the_piece_longest_first() -> None:
    costs = operator_costs(
        "phone", [piece("int8/a", ("ADD", 10.0), ("CONV", 60.0), ("ADD", 30.0))]
    )
    assert costs.pieces == {("int8", "a"): 100.0}
    assert [(r.family, r.operators, r.time_us, r.share) for r in costs.families] == [
        ("CONV", 1, 60.0, 0.6),
        ("ADD", 2, 40.0, 0.4),
    ]
    assert families_csv([costs]).splitlines() == [
        "device,precision,piece,family,operators,time_us,share",
        "phone,int8,a,CONV,1,60.0,0.6",
        "phone,int8,a,ADD,2,40.0,0.4",
    ]


def test_int8_is_compared_operator_by_operator_where_there_are_as_many() -> None:
    costs = operator_costs(
        "phone",
        [
            piece("float32/a", ("CONV (F32)", 50.0), ("CONV (F32)", 80.0)),
            piece("int8/a", ("CONV (QC8)", 90.0), ("CONV (QC8)", 20.0)),
        ],
    )
    (row,) = costs.slower
    assert (row.precision, row.piece, row.family, row.number) == (
        "int8",
        "a",
        "CONV",
        1,
    )
    assert (row.float32_us, row.int8_us, row.lost_us) == (50.0, 90.0, 40.0)


def test_sums_are_compared_where_the_numbers_of_operators_differ() -> None:
    costs = operator_costs(
        "phone",
        [
            piece("float32/a", ("CONV", 50.0)),
            piece("int8/a", ("CONV", 40.0), ("CONV", 30.0), ("Convert (NC)", 9.0)),
        ],
    )
    assert [(r.family, r.number, r.float32_us, r.int8_us) for r in costs.slower] == [
        ("CONV", None, 50.0, 70.0),
        ("Convert", None, 0.0, 9.0),
    ]


def test_noise_and_pieces_of_one_precision_are_not_called_slower() -> None:
    costs = operator_costs(
        "phone",
        [
            piece("float32/a", ("CONV", 100.0), ("ADD", 0.5)),
            piece("int8/a", ("CONV", 104.0), ("ADD", 1.2)),
            piece("int8/b", ("CONV", 900.0)),
            piece("dynamic/a", ("CONV", 900.0)),
        ],
    )
    assert costs.slower == ()


def test_failures_cost_nothing_and_a_single_file_has_no_precision() -> None:
    failed = piece("float32/a", operators=(), failure=Failure("run", "no"))
    costs = operator_costs("phone", [failed, piece("model", ("ADD", 1.0))])
    assert costs.pieces == {("", "model"): 1.0}


def test_rows_name_the_costliest_families_of_each_precision() -> None:
    costs = operator_costs(
        "phone",
        [
            piece("float32/a", ("CONV", 60.0), ("ADD", 40.0)),
            piece("int8/a", ("CONV", 20.0)),
            piece("int8/b", ("ADD", 300.0)),
        ],
    )
    assert costs.precisions == ("float32", "int8")
    large, small = piece_rows(costs, most=1)
    assert (large.piece, large.total_us) == ("b", {"int8": 300.0})
    assert small.total_us == {"float32": 100.0, "int8": 20.0}
    assert small.costliest == {"float32": (("CONV", 0.6),), "int8": (("CONV", 1.0),)}


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    """Trained, compiled in two precisions, measured, and profiled."""
    run = FakeRun(tmp_path / "run").train().compile("float32").compile().profile()

    def stored(
        name: str, sha256: str, *operators: tuple[str, float]
    ) -> OperatorProfile:
        made = piece(name, *operators)
        return dataclasses.replace(made, sha256=sha256, fingerprint="host-1")

    with Store(run.run.profiles) as store:
        for row in (
            # Older settings, a piece of before, and an older profile do not count.
            dataclasses.replace(
                stored("x", "int8-segment_2", ("OLD", 9.0)), settings_key="{old}"
            ),
            stored("gone", "of-before", ("GONE", 9.0)),
            stored("y", "int8-segment_1", ("OLD", 9.0)),
            stored("y", "int8-segment_1", ("<CONV> (QC8)", 3000.0), ("ADD", 9.0)),
            stored("z", "float32-segment_1", ("<CONV> (F32)", 2000.0)),
        ):
            store.put_operators(row)
    return run


def test_the_newest_profiles_of_the_present_pieces_count(fake: FakeRun) -> None:
    (costs,) = stored_operator_costs(fake.run)
    assert costs.device == "host"
    assert costs.pieces == {
        ("int8", "segment_1"): 3009.0,
        ("float32", "segment_1"): 2000.0,
    }
    assert [(row.family, row.lost_us) for row in costs.slower] == [
        ("<CONV>", 1000.0),
        ("ADD", 9.0),
    ]


def test_the_page_and_a_table_show_the_operators(fake: FakeRun) -> None:
    result = report(fake.folder)
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "Operators on host" in page
    assert "&lt;CONV&gt;" in page and "<CONV>" not in page
    (table,) = (path for path in result["figures"] if "operators_" in path)
    lines = Path(table).read_text().splitlines()
    assert len(lines) == 4 and lines[1].startswith("host,int8,segment_1,<CONV>,1,3000")


def test_a_run_without_profiles_has_no_such_section(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "run").train().compile().profile()
    assert stored_operator_costs(run.run) == ()
    result = report(run.folder)
    assert "Operators on" not in Path(result["report"]).read_text(encoding="utf-8")
