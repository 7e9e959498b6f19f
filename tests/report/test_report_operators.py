"""Costs of operators by piece, and int8 against float32."""

from __future__ import annotations

from typing import Any

import pytest

from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.records import Failure
from mess_tf.reporting.operators import families_csv, family_of, operator_costs


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
