"""Settings as flags; whether the tool did as it was told; which cores."""

from __future__ import annotations

import dataclasses

import pytest

from android_bench.errors import BenchError
from android_bench.logs.benchmark_log import BenchmarkLog, parse_benchmark_log
from android_bench.phones.cores import choose_cores, clusters, mask_of
from android_bench.phones.flags import (
    check_delegate,
    check_echo,
    check_known,
    check_settings,
    delegates_text,
    known_flags,
    timing_flags,
)
from android_bench.records import MeasureSettings

SETTINGS = MeasureSettings(threads=4)
RESULT = """\
INFO: Loaded model m.tflite
INFO: Initialized session in 3.5ms.
INFO: count=10 first=120 curr=100 min=100 max=120 avg=104 std=5
INFO: count=50 first=100 curr=100 min=90 max=130 avg=101 std=6 p5=91 median=100 p95=120
INFO: Inference timings in us: Init: 3500, First inference: 120, Warmup (avg): 104, \
Inference (avg): 101
"""


def log_of(*echo: str, after: str = "") -> BenchmarkLog:
    head = "".join(f"INFO: {line}\n" for line in ("STARTING!", *echo))
    return parse_benchmark_log(head + after + RESULT)


def echo_of(settings: MeasureSettings) -> list[str]:
    return [
        f"Min num runs: [{settings.runs_per_round}]",
        f"Min runs duration (seconds): [{settings.min_seconds_per_round:g}]",
        f"Max runs duration (seconds): [{settings.max_seconds_per_round:g}]",
        f"Num threads: [{settings.threads}]",
        f"Min warmup runs: [{settings.warmup_runs}]",
        f"Min warmup runs duration (seconds): [{settings.warmup_seconds:g}]",
        f"#threads used for CPU inference: [{settings.threads}]",
    ]


def test_a_run_as_asked_has_no_failure() -> None:
    log = log_of(*echo_of(SETTINGS))
    assert check_echo(log, timing_flags(SETTINGS)) is None
    assert check_delegate(log, "cpu") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threads": 1}, "num threads = 1, asked was --num_threads=4"),
        ({"runs_per_round": 50}, "min num runs = 50, asked was --num_runs=10"),
        ({"min_seconds_per_round": 1.0}, "asked was --min_secs=0.15"),
    ],
)
def test_other_settings_than_asked_are_a_failure(
    change: dict[str, float], told: str
) -> None:
    other = dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]
    failure = check_echo(log_of(*echo_of(other)), timing_flags(SETTINGS))
    assert failure is not None
    assert failure.stage == "settings" and told in failure.message


def test_a_flag_that_the_tool_ignored_is_a_failure() -> None:
    log = log_of("Unconsumed cmdline flags: --num_thread=4", *echo_of(SETTINGS))
    failure = check_echo(log, timing_flags(SETTINGS))
    assert failure is not None and "--num_thread=4" in failure.message


def test_a_flag_that_is_not_echoed_was_not_taken() -> None:
    log = log_of(*[line for line in echo_of(SETTINGS) if "Max runs" not in line])
    failure = check_echo(log, timing_flags(SETTINGS))
    assert failure is not None and "--max_secs=10" in failure.message


def test_a_tool_that_echoes_nothing_is_not_blamed() -> None:
    assert check_echo(log_of(), timing_flags(SETTINGS)) is None


GPU_ALL = "Explicitly applied GPU delegate, and the model graph will be completely"
GPU_ALL += " executed by the delegate."
GPU_NONE = "Though GPU delegate is explicitly applied, the model graph will not be"
GPU_NONE += " executed by the delegate."
GPU_TOOK = "VERBOSE: Replacing 5 out of 5 node(s) with delegate (TfLiteGpuDelegateV2)"
GPU_TOOK += " node, yielding 1 partitions for subgraph 0.\n"
XNN_TOOK = GPU_TOOK.replace("TfLiteGpuDelegateV2", "TfLiteXNNPackDelegate")


@pytest.mark.parametrize(
    ("delegate", "after", "told"),
    [
        ("gpu", f"INFO: {GPU_ALL}\n", None),
        ("gpu", f"INFO: {GPU_NONE}\n", "GPU was asked for, but took nothing"),
        ("gpu", "", "GPU was asked for, but"),
        ("gpu", GPU_TOOK, None),
        ("nnapi", "", "NNAPI was asked for"),
        ("cpu", XNN_TOOK, None),
        ("cpu", GPU_TOOK, "the CPU was asked for, but TfLiteGpuDelegateV2 took part"),
        ("xnnpack-off", "", None),
        ("xnnpack-off", XNN_TOOK, "XNNPACK was to be off, but took part"),
    ],
)
def test_a_silent_fall_back_is_a_failure(
    delegate: str, after: str, told: str | None
) -> None:
    failure = check_delegate(log_of(after=after), delegate)
    if told is None:
        assert failure is None
    else:
        assert failure is not None
        assert failure.stage == "delegate" and told in failure.message


def test_what_was_delegated_is_told_for_the_row() -> None:
    assert delegates_text(log_of(after=XNN_TOOK)) == "TfLiteXNNPackDelegate 5/5"
    assert delegates_text(log_of()) == ""


def test_leaving_xnnpack_alone_is_not_asking_for_it() -> None:
    assert not any("xnnpack" in flag for flag in timing_flags(SETTINGS))
    off = dataclasses.replace(SETTINGS, delegate="xnnpack-off")
    assert "--use_xnnpack=false" in timing_flags(off)


@pytest.mark.parametrize("flag", ["--num_threads=2", "num_runs=3", "--graph=x", "-v"])
def test_extra_flags_change_no_setting_behind_the_records(flag: str) -> None:
    with pytest.raises(BenchError, match="cannot be passed on"):
        check_settings(MeasureSettings(extra=(flag,)))
    check_settings(MeasureSettings(extra=("--gpu_precision_loss_allowed=false",)))


def test_an_unknown_delegate_is_refused() -> None:
    with pytest.raises(BenchError, match="'tpu' is unknown; accepted on phones: cpu"):
        check_settings(MeasureSettings(delegate="tpu"))


HELP = """\
usage: benchmark_model <flags>
Flags:
\t--num_runs=50\tint32\toptional\texpected number of runs
\t--graph=\tstring\trequired\tgraph file name
"""


def test_flags_are_compared_with_the_tools_own_help() -> None:
    known = known_flags(HELP)
    assert known == {"num_runs", "graph"}
    check_known(["--num_runs=3"], known)
    with pytest.raises(BenchError, match=r"does not know --num_run, --use_gpu;"):
        check_known(["--num_run=3", "--use_gpu=true"], known)


def test_a_tool_without_help_is_asked_nothing() -> None:
    assert known_flags("INFO: STARTING!\nERROR: give --graph\n") == frozenset()
    check_known(["--whatever=1"], frozenset())


# A Pixel 8: four, four and one; a phone that hides five of eight.
NINE = {n: (1_704_000, 2_367_000, 2_914_000)[(n > 3) + (n > 7)] for n in range(9)}
HIDING = {0: 1_690_000, 1: None, 2: None, 3: None, 4: 1_690_000, 5: 1_690_000}


@pytest.mark.parametrize(
    ("affinity", "threads", "mask", "cores"),
    [
        ("auto", 1, "100", (8,)),
        ("auto", 4, "1f0", (4, 5, 6, 7, 8)),
        ("auto", 6, "1ff", tuple(range(9))),
        ("none", 3, None, tuple(range(9))),
        ("f0", 2, "f0", (4, 5, 6, 7)),
        ("0F", 4, "f", (0, 1, 2, 3)),
    ],
)
def test_cores_are_whole_clusters_from_the_fastest_on(
    affinity: str, threads: int, mask: str | None, cores: tuple[int, ...]
) -> None:
    choice = choose_cores(affinity, threads, NINE)
    assert (choice.mask, choice.cores) == (mask, cores)


def test_cores_that_hide_their_frequency_are_not_guessed() -> None:
    assert choose_cores("auto", 2, HIDING).cores == (0, 4, 5)
    assert choose_cores("auto", 4, HIDING).mask is None
    assert choose_cores("auto", 1, dict.fromkeys(range(4))).mask is None
    assert clusters(HIDING) == [(0, 4, 5)]


@pytest.mark.parametrize(
    ("affinity", "threads", "told"),
    [
        ("f0", 5, "5 threads were asked for, but affinity 'f0' gives them 4 cores"),
        ("auto", 10, "gives them 9 cores"),
        ("f000", 1, r"names cores \[12, 13, 14, 15\], which this phone has not"),
        ("xyz", 1, "Affinity 'xyz' is none; accepted: 'auto', 'none', or a mask"),
        ("0", 1, "Affinity '0' is none"),
        ("-1", 1, "Affinity '-1' is none"),
    ],
)
def test_affinities_that_cannot_be_are_refused(
    affinity: str, threads: int, told: str
) -> None:
    with pytest.raises(BenchError, match=told):
        choose_cores(affinity, threads, NINE)


def test_a_mask_has_one_bit_per_core() -> None:
    assert mask_of((0, 4, 5)) == "31"
