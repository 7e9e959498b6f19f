"""Recorded logs of real phones: every figure below was read off the log by eye.

Times are as printed, microseconds; phases are (count, first, curr, min, max, avg, std)
and, where printed, p5, median and p95; memory is (init, overall) in MB.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from android_bench.logs.benchmark_log import LogError, parse_benchmark_log
from android_bench.logs.delegates import AppliedDelegate, Partition
from android_bench.logs.phases import RunStats


class Figures(NamedTuple):
    """A log with a result."""

    init: float
    first: float | None
    warmup_avg: float
    inference_avg: float
    warmup: tuple[float, ...] | None
    regular: tuple[float, ...] | None
    memory: tuple[float, float] | None = None
    requested: str | None = None
    extent: str | None = None
    kernels: int | None = None
    partitions: tuple[tuple[Any, ...], ...] = ()
    settings: dict[str, str] = {}


XNN, NN, GPU = "TfLiteXNNPackDelegate", "TfLiteNnapiDelegate", "TfLiteGpuDelegateV2"

FIGURES = {
    "01": Figures(
        22942, 18763, 13338.4, 9212.05,
        (38, 18763, 8938, 8903, 69346, 13338.4, 12199, 8928, 9023, 48561),
        (109, 8974, 9450, 8945, 9660, 9212.05, 138, 9057, 9196, 9485),
        (24.9727, 29.3672),
        partitions=((XNN, 253, 266, 26, 0),),
        settings={"Num threads": "4", "Min num runs": "30"},
    ),
    "04": Figures(
        7756, 555704, 550063, 562394,
        (3, 555704, 547393, 547092, 555704, 550063, 3990, 547092, 547393, 555704),
        (30, 548024, 569439, 548024, 575428, 562394, 7463, 549858, 565947, 571350),
        (14.0391, 47.3438), "NNAPI", "full",
        partitions=((NN, 266, 266, 1, 0),),
        settings={"NNAPI accelerator name": "nnapi-reference", "Use NNAPI": "1"},
    ),
    "05": Figures(
        45191, 29736, 24891.5, 25679.9,
        (20, 29736, 24968, 23483, 29736, 24891.5, 1194, 24044, 24683, 29736),
        (39, 25869, 26244, 24444, 26712, 25679.9, 508, 24976, 25730, 26559),
        (61.9688, 61.9688),
        partitions=((XNN, 251, 263, 25, 0),),
    ),
    "08": Figures(
        19505, 39445, 13272.4, 11293,
        (38, 39445, 11259, 11223, 39445, 13272.4, 6127, 11236, 11272, 36775),
        (89, 11274, 11238, 11203, 11932, 11293, 129, 11221, 11248, 11526),
        (14.8516, 15.1094),
        partitions=((XNN, 29, 31, 4, 0),),
    ),
    "09": Figures(
        787147, 5719, 1078.05, 1076.32,
        (455, 5719, 1017, 949, 5719, 1078.05, 246, 972, 1016, 1256),
        (910, 1045, 1304, 951, 2571, 1076.32, 122, 981, 1017, 1268),
        (12.6289, 12.9531), "NNAPI", "full",
        partitions=((NN, 31, 31, 1, 0),),
    ),
    "12": Figures(
        1499796, 5544, 1398.18, 1389.89,
        (353, 5544, 1372, 1308, 5544, 1398.18, 234, 1326, 1354, 1577),
        (710, 1384, 1377, 1309, 1699, 1389.89, 80, 1327, 1354, 1578),
        (15.3164, 15.6289), "NNAPI", "partial", 1,
        partitions=((NN, 62, 64, 3, 0),),
    ),
    "14": Figures(
        1363508, 6411, 2033.5, 2023.9,
        (237, 6411, 2110, 1879, 6411, 2033.5, 316, 1898, 1923, 2333),
        (476, 2032, 2117, 1874, 2450, 2023.9, 133, 1898, 1940, 2263),
        (39.9531, 41.4531), "NNAPI", "full",
        partitions=((NN, 62, 62, 1, 0),),
        settings={"Allow fp16 in NNAPI": "1"},
    ),
    "19": Figures(
        10213, 397853, 396692, 402153,
        (2, 397853, 395530, 395530, 397853, 396692, 1161, 395530, 397853, 397853),
        (5, 400444, 403463, 398170, 405950, 402153, 2655, 398170, 402738, 405950),
        (28.5586, 94.6719), "NNAPI", "full",
        partitions=((NN, 253, 253, 1, 0),),
    ),
    "24": Figures(
        20083, 10096, 8217.3, 8212.16,
        (60, 10096, 7993, 7586, 10096, 8217.3, 359, 7810, 8279, 8608),
        (120, 8464, 8013, 7900, 8710, 8212.16, 251, 7955, 8171, 8691),
        (16.1992, 24.8203), "NNAPI", "none",
        partitions=((XNN, 342, 371, 31, 0),),
    ),
    "25": Figures(
        10506, 68480, 42915, 37017.3,
        (12, 68480, 21417, 12450, 112971, 42915, 27411, 12450, 38285, 112971),
        (50, 30453, 20302, 10858, 74735, 37017.3, 19502, 12950, 33505, 70944),
        (14.25, 17.668),
        partitions=((XNN, 183, 218, 33, 0),),
    ),
    "27": Figures(
        148800, 355487, 335110, 323849,
        None,
        (10, 312884, 323365, 312884, 331726, 323849, 4490, 312884, 324910, 331726),
        partitions=(
            (XNN, 487, 500, 4, 0),
            (XNN, 3, 11, 2, 2),
            (XNN, 3, 5, 2, 6),
            (XNN, 305, 356, 5, 8),
        ),
    ),
    "29": Figures(
        36442, 485536, 469775, 505315,
        None,
        (20, 468156, 525351, 468156, 540203, 505315, 18760, 473154, 510251, 540203),
        partitions=((XNN, 262, 262, 1, 0),),
    ),
    "31": Figures(
        16242, 360262, 304586, 249684,
        None,
        (50, 249042, 250889, 247067, 254474, 249684, 1442),
        (4.92969, 138.809),
    ),
    "45": Figures(
        1892, 91810, 86184.3, 115062,
        (6, 91810, 85097, 84834, 91810, 86184.3, 2519),
        (50, 118810, 114219, 88216, 129193, 115062, 7678),
        settings={"Use legacy nnapi": "0", "Enable op profiling": "1"},
    ),
    "48": Figures(
        847, 57338, 47674.1, 47440.3,
        (30, 57338, 46893, 45730, 57338, 47674.1, 2073),
        (30, 47632, 49309, 44914, 49309, 47440.3, 1087),
        (1.26562, 26.6641),
    ),
    "51": Figures(
        6275219, 147420, 126287, 135300,
        (4, 147420, 123486, 115521, 147420, 126287, 12525, 115521, 123486, 147420),
        (10, 133559, 123903, 123903, 148978, 135300, 7353, 123903, 134836, 148978),
        (140.801, 163.77), "GPU", "full",
        partitions=((GPU, 277, 277, 1, 0),),
        settings={"Use gpu": "1", "Use NNAPI": "0", "GPU backend": ""},
    ),
    "53": Figures(
        522906, 1461714, 1461714, 1086570,
        (1, 1461714, 1461714, 1461714, 1461714, 1461714, 0, 1461714, 1461714, 1461714),
        (50, 1441137, 1154851, 843212, 1531230, 1086570, 244594, 864190, 938345,
         1517552),
        (677.555, 746.125),
        partitions=(
            (XNN, 251, 266, 21, 0),
            (XNN, 1, 1, 1, 1),
            (XNN, 1, 1, 1, 2),
            (XNN, 1, 1, 1, 3),
            (XNN, 1, 1, 1, 4),
        ),
        settings={"Num threads": "10"},
    ),
    "68": Figures(
        2409, 169816, 164822, 162980,
        (4, 169816, 162804, 162804, 169816, 164822, 2899),
        (50, 162827, 162916, 162744, 163299, 162980, 146),
        (4.10156, 10.332),
    ),
    "71": Figures(
        13718, 8468241, 8468241, 12828.4,
        (1, 8468241, 8468241, 8468241, 8468241, 8468241, 0),
        (77, 12927, 12783, 12745, 12929, 12828.4, 40),
        (8.33594, 50.3594), "EXTERNAL", "partial", 1,
        settings={"External delegate path": "/usr/lib/libvx_delegate.so"},
    ),
    "77": Figures(38467, None, 83235, 79760.9, None, None),
}  # fmt: skip

OP_FAILED = (
    "Failed to apply NNAPI delegate: NN API returned error ANEURALNETWORKS_OP_FAILED"
    " at line {} while completing NNAPI compilation"
)
FAILURES = {
    "02": OP_FAILED.format(4768),
    "07": OP_FAILED.format(4768),
    "17": OP_FAILED.format(4768),
    "28": "Failed to apply NNAPI delegate: Attempting to use a delegate that only"
    " supports static-sized tensors with a graph that has dynamic-sized tensors"
    " (tensor#704 is a dynamic-sized tensor)",
    "36": OP_FAILED.format(3779),
    "38": "Node number 248 (TfLiteNnapiDelegate) failed to invoke: NN API returned"
    " error ANEURALNETWORKS_OP_FAILED at line 4113 while running computation",
    "46": "Failed to invoke: Op code 67 is currently not delegated to NNAPI",
    "49": "Failed to apply GPU delegate: TfLiteGpuDelegate Init: Tensor"
    ' "STABLEHLO_REDUCE_WINDOW1_arg0" has bad input dims size: 0',
}

# Tables without a result, and the last line of another tool's log.
NO_RESULT = {
    "20": "1 nodes observed",
    "34": "11 nodes observed",
    "47": "[ArgMax]:70",
    "67": "19 nodes observed",
    "73": "0.00392157: 514 cornet",
}


def test_every_recorded_log_is_in_one_of_the_tables(
    recorded_logs: dict[str, str],
) -> None:
    told = [*FIGURES, *FAILURES, *NO_RESULT]
    assert sorted(told) == sorted(recorded_logs)
    assert len(told) == 33


def stats(phase: tuple[float, ...] | None) -> RunStats | None:
    if phase is None:
        return None
    count, *us = phase
    ms: list[Any] = [pytest.approx(value / 1000, rel=1e-12) for value in us]
    return RunStats(int(count), *ms)


@pytest.mark.parametrize("number", FIGURES)
def test_recorded_figures(recorded_logs: dict[str, str], number: str) -> None:
    log, told = parse_benchmark_log(recorded_logs[number]), FIGURES[number]
    assert log.failure is None and log.timings is not None
    times = log.timings
    assert times.init_ms * 1000 == pytest.approx(told.init, rel=1e-12)
    assert times.inference_avg_ms * 1000 == pytest.approx(told.inference_avg, rel=1e-12)
    assert times.warmup_avg_ms is not None
    assert times.warmup_avg_ms * 1000 == pytest.approx(told.warmup_avg, rel=1e-12)
    if told.first is None:
        assert times.first_ms is None
    else:
        assert times.first_ms == pytest.approx(told.first / 1000, rel=1e-12)
    assert times.warmup == stats(told.warmup)
    assert times.regular == stats(told.regular)
    memory = log.memory and (log.memory.init_mb, log.memory.overall_mb)
    assert memory == told.memory
    assert log.requested == (() if told.requested is None else (told.requested,))
    applied: tuple[AppliedDelegate, ...] = ()
    if told.requested is not None and told.extent is not None:
        applied = (AppliedDelegate(told.requested, told.extent, told.kernels),)
    assert log.applied == applied
    assert log.fell_back == (("NNAPI",) if told.extent == "none" else ())
    assert log.partitions == tuple(Partition(*p) for p in told.partitions)
    assert told.settings.items() <= log.parameters.items()


@pytest.mark.parametrize("number", FAILURES)
def test_recorded_failures(recorded_logs: dict[str, str], number: str) -> None:
    log = parse_benchmark_log(recorded_logs[number])
    assert (log.failure, log.timings, log.memory) == (FAILURES[number], None, None)
    last = recorded_logs[number].rstrip().rpartition("\n")[2]
    assert log.tail.endswith(last)


@pytest.mark.parametrize("number", NO_RESULT)
def test_logs_without_a_result_are_refused(
    recorded_logs: dict[str, str], number: str
) -> None:
    with pytest.raises(LogError, match="neither a complete result") as caught:
        parse_benchmark_log(recorded_logs[number])
    assert caught.value.tail.endswith(NO_RESULT[number])
