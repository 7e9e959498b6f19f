"""Operator tables of recorded logs: every figure below was read off the log by eye."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from android_bench.logs.op_profile import OpGraph, parse_op_profile

NN = "TfLiteNnapiDelegate"


class Ops(NamedTuple):
    """A table: title, rows, whole or cut, total in ms (the tool's own statistics of the
    profiled runs, or the sum of the column), and one row."""

    title: str
    count: int  # type: ignore[assignment]
    complete: bool
    total_ms: float
    row: int
    kind: str
    name: str
    first_ms: float
    avg_ms: float
    times_called: int = 1
    memory_kb: float = 0.0


INIT, PRIMARY = "ModifyGraphWithDelegate", "Primary graph (name: main)"
PROFILES: dict[str, tuple[list[Ops], list[Ops]]] = {
    "20": (
        [],
        [
            Ops(
                "",
                1,
                True,
                1.02736,
                0,
                NN,
                "[MobilenetV1/Predictions/Reshape_1]:31",
                1.035,
                1.027,
            )
        ],
    ),
    "34": (
        [
            Ops(
                "",
                2,
                True,
                729.391,
                1,
                "AllocateTensors",
                "AllocateTensors/0",
                316.039,
                158.023,
                2,
            )
        ],
        [
            Ops(
                "",
                11,
                True,
                158.715,
                7,
                "RESIZE_NEAREST_NEIGHBOR",
                "[model/lambda/resize/ResizeNearestNeighbor]:143",
                0.254,
                0.253,
            )
        ],
    ),
    "45": (
        [],
        [Ops("", 65, True, 114.924, 64, "RESHAPE", "[output]", 0.005, 0.005)],
    ),
    "47": (
        [],
        [
            Ops(
                "",
                8,
                False,
                52.063,
                6,
                "RESIZE_BILINEAR",
                "[ResizeBilinear_2]:69",
                22.826,
                22.369,
            )
        ],
    ),
    "51": (
        [
            Ops(
                "",
                2,
                True,
                6271.499,
                0,
                INIT,
                INIT + "/0",
                6271.270,
                6271.270,
                1,
                139092.0,
            )
        ],
        [
            Ops(
                "",
                8,
                False,
                1.949,
                6,
                "convolution_2d 8 -> hard_swish 9",
                "Delegate/convolution_2d 8 -> hard_swish 9:6",
                0.106,
                0.106,
            )
        ],
    ),
    "53": (
        [
            Ops(
                PRIMARY,
                2,
                True,
                509.234,
                1,
                INIT,
                INIT + "/0",
                18.010,
                18.010,
                1,
                29708.0,
            ),
            Ops(
                "Subgraph (index: 1, name: STABLEHLO_REDUCE_WINDOW1)",
                1,
                True,
                0.325,
                0,
                INIT,
                INIT + "/1",
                0.325,
                0.325,
            ),
        ],
        [],
    ),
    "67": (
        [
            Ops(
                "",
                1,
                True,
                0.069,
                0,
                "AllocateTensors",
                "AllocateTensors/0",
                0.069,
                0.069,
            )
        ],
        [
            Ops(
                "",
                19,
                True,
                0.0501641,
                9,
                "CONV_2D",
                "[vehicle_cnn/conv_2/conv1d2]:9",
                0.012,
                0.0173696,
            )
        ],
    ),
    "68": (
        [
            Ops(
                "",
                1,
                True,
                0.948,
                0,
                "AllocateTensors",
                "AllocateTensors/0",
                0.948,
                0.948,
            )
        ],
        [
            Ops(
                "",
                31,
                True,
                162.910,
                30,
                "SOFTMAX",
                "[MobilenetV1/Predictions/Reshape_1]:30",
                0.020,
                0.022,
            )
        ],
    ),
    "71": (
        [
            Ops(
                "",
                2,
                True,
                1.757,
                1,
                "AllocateTensors",
                "AllocateTensors/0",
                0.086,
                0.039,
                3,
            )
        ],
        [
            Ops(
                "",
                2,
                True,
                12.7791,
                0,
                "Vx Delegate",
                "[Squeeze, convert_scores]:64",
                10.932,
                10.871,
            )
        ],
    ),
    "77": (
        [],
        [
            Ops(
                "",
                31,
                True,
                79.449,
                29,
                "RESHAPE",
                "[MobilenetV1/Predictions/Reshape]",
                0.002,
                0.002,
                0,
            )
        ],
    ),
}


def check_graph(graph: OpGraph, told: Ops) -> None:
    assert (graph.title, len(graph.rows), graph.complete) == told[:3]
    # Rows are rounded to a microsecond, in both directions.
    assert graph.total_ms == pytest.approx(told.total_ms, rel=5e-4)
    row = graph.rows[told.row]
    assert (row.kind, row.name, row.first_ms, row.avg_ms) == told[5:9]
    assert (row.times_called, row.memory_kb) == told[9:]
    assert sum(r.share for r in graph.rows) == pytest.approx(1)
    assert row.share == pytest.approx(row.run_ms / graph.total_ms)


@pytest.mark.parametrize("number", PROFILES)
def test_recorded_profiles(recorded_logs: dict[str, str], number: str) -> None:
    profile = parse_op_profile(recorded_logs[number])
    assert profile is not None
    for graphs, told in zip(
        (profile.init, profile.regular), PROFILES[number], strict=True
    ):
        assert len(graphs) == len(told)
        for graph, table in zip(graphs, told, strict=True):
            check_graph(graph, table)


def test_recorded_logs_without_tables_have_no_profile(
    recorded_logs: dict[str, str],
) -> None:
    for number in sorted(set(recorded_logs) - set(PROFILES)):
        assert parse_op_profile(recorded_logs[number]) is None, number
    assert len(PROFILES) == 10
