"""Logs of our own making: each form is read, and what is wrong in one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from android_bench.logs.benchmark_log import BenchmarkLog, LogError, parse_benchmark_log
from android_bench.logs.delegates import AppliedDelegate, Partition
from android_bench.logs.memory import Memory
from android_bench.logs.phases import RunStats

LOGS = Path(__file__).parent / "logs"


def read(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


def parse(name: str) -> BenchmarkLog:
    return parse_benchmark_log(read(name))


def test_what_a_runtime_says_after_loading_is_no_setting() -> None:
    loaded = "INFO: Loaded model /data/local/tmp/x/piece.tflite\n"
    text = read("cpu").replace(loaded, f"{loaded}INFO: Num threads: [9]\n")
    assert parse_benchmark_log(text).parameters["Num threads"] == "2"


def test_a_new_log_tells_everything() -> None:
    log = parse("cpu")
    times = log.timings
    assert times is not None and log.failure is None
    assert (times.init_ms, times.first_ms) == (12.5, 20.1)
    assert times.warmup_avg_ms == 12.6125
    assert times.inference_avg_ms == pytest.approx(12.4012)
    assert times.warmup == RunStats(
        40, 20.1, 12.4, 12.3, 20.1, 12.6125, 1.21, 12.31, 12.4, 12.9
    )
    assert times.regular is not None
    assert (times.regular.count, times.regular.median_ms) == (81, 12.395)
    assert log.memory == Memory(3.5, 7.25, 11.5, 12.0)
    assert log.parameters["#threads used for CPU inference"] == "2"
    assert log.parameters["Signature to run"] == ""
    # XNNPACK by default was not asked for: nothing was applied "explicitly".
    assert (log.requested, log.applied, log.fell_back) == ((), (), ())
    assert log.accelerators == ()
    assert log.partitions == (
        Partition("TfLiteXNNPackDelegate", 40, 42, 3, 0),
        Partition("TfLiteXNNPackDelegate", 1, 1, 1, 1),
    )
    assert log.tail.endswith("+ RssFile + RssShmem : 5 MB")


def test_partial_delegation_with_harmless_errors_is_a_result() -> None:
    log = parse("gpu_partial")
    assert log.failure is None and log.timings is not None
    assert log.applied == (AppliedDelegate("GPU", "partial", 1),)
    assert log.accelerators == ("TfLiteGpuDelegateV2",)
    assert log.fell_back == ()
    # All runs alike are told by one number; a deviation may exceed the mean.
    assert log.timings.warmup == RunStats(3, 4.0, 4.0, 4.0, 4.0, 4.0, 0.0)
    assert log.timings.regular == RunStats(250, 4.01, 3.99, 0.012, 1900, 4.1, 119)


def test_silent_fall_back_to_the_cpu_is_told() -> None:
    log = parse("nnapi_fell_back")
    assert log.timings is not None and log.failure is None
    assert log.applied == (AppliedDelegate("NNAPI", "none"),)
    assert log.fell_back == ("NNAPI",)


def test_a_delegate_that_could_not_be_made_fell_back_too() -> None:
    applied = "INFO: Though NNAPI delegate is explicitly applied, the model graph will"
    lines = read("nnapi_fell_back").splitlines(keepends=True)
    log = parse_benchmark_log("".join(s for s in lines if not s.startswith(applied)))
    assert log.fell_back == ("NNAPI",)


def test_wording_of_2020() -> None:
    log = parse("gpu_2020")
    assert log.timings is not None
    assert log.timings.inference_avg_ms == 8.14025
    assert log.applied == (AppliedDelegate("GPU", "full"),)
    assert log.partitions == (Partition("TfLiteGpuDelegateV2", 31, None, 1),)
    assert log.unknown_flags == ("--use_gpuu=true", "--threads=4")
    assert log.memory == Memory(40.5, 41.25)


def test_wording_of_2018() -> None:
    log = parse("cpu_2018")
    assert log.timings is not None and log.memory is None
    assert log.timings.init_ms == 76.25
    assert log.timings.warmup_avg_ms == log.timings.first_ms == 93.0
    assert log.timings.inference_avg_ms == 90.75
    # These tools never say whether NNAPI took the graph.
    assert log.applied == (AppliedDelegate("NNAPI", "unknown"),)
    assert log.fell_back == ()


def test_a_result_before_a_failure_is_no_result() -> None:
    log = parse("failed_run")
    assert log.timings is None and log.memory is None
    assert log.failure == (
        "Node number 12 (TfLiteNnapiDelegate) failed to invoke: NN API returned error"
        " ANEURALNETWORKS_MISSED_DEADLINE_TRANSIENT at line 4113 while running"
        " computation"
    )


def test_logcat_of_several_processes() -> None:
    log = parse("logcat")
    assert log.failure is None and log.timings is not None
    assert log.timings.inference_avg_ms == 5.00225
    assert log.partitions == (Partition("TfLiteXNNPackDelegate", 8, 9, 2, 0),)
    assert log.memory == Memory(1.5, 2.5)


def test_the_copy_in_logcat_counts_once() -> None:
    log = parse_benchmark_log(read("cpu") + read("logcat"))
    assert log.timings == parse("cpu").timings


def test_the_compiled_model_tool() -> None:
    log = parse("litert")
    times = log.timings
    assert times is not None and log.failure is None
    # Other lines tell the same as the block with more digits.
    assert times.init_ms == 20.125
    assert (times.first_ms, times.inference_avg_ms) == (10.101, 9.99876)
    assert times.regular is not None and times.regular.median_ms == 9.998
    assert log.memory == Memory(5.25, 6.5)


def test_the_compiled_model_tool_in_logcat_and_on_a_gpu() -> None:
    """There its lines have another tag, and no severity of their own."""
    lines = read("litert").replace(
        "INFO: The input model",
        "VERBOSE: Replacing 9 out of 9 node(s) with delegate (LITERT_CL) node, yielding"
        " 1 partitions for subgraph 0 (main).\nINFO: The input model",
    )
    text = "".join(
        "11-24 10:00:00.000  4321  4321 I "
        + ("litert  : " if "[litert" in line else "tflite  : ")
        + line.removeprefix("INFO: ").removeprefix("VERBOSE: ")
        + "\n"
        for line in lines.splitlines()
    )
    log = parse_benchmark_log(text)
    assert log.timings == parse("litert").timings
    assert log.partitions == (Partition("LITERT_CL", 9, 9, 1, 0),)
    assert log.accelerators == ("LITERT_CL",)


def test_the_compiled_model_tool_without_count_lines() -> None:
    lines = read("litert").splitlines(keepends=True)
    times = parse_benchmark_log("".join(s for s in lines if "count=" not in s)).timings
    assert times is not None and times.regular is None
    assert (times.inference_avg_ms, times.warmup_avg_ms) == (10.0, 10.0)
    assert times.first_ms == 10.1


def test_result_lines_alone_as_people_post_them() -> None:
    log = parse_benchmark_log(
        "... tflite  : Inference timings in us: Init: 5685, First inference: 18535,"
        " Warmup (avg): 14462.3, Inference (avg): 1.45752e+06\n"
    )
    assert log.timings is not None
    assert log.timings.inference_avg_ms == 1457.52
    assert log.timings.first_ms == 18.535


def test_the_same_result_printed_twice_is_one_result() -> None:
    (line,) = (s for s in read("cpu").splitlines() if "timings in us" in s)
    twice = read("cpu").replace(line, line + "\n" + line)
    assert parse_benchmark_log(twice).timings == parse("cpu").timings
    with pytest.raises(LogError, match="2 results"):
        parse_benchmark_log(read("cpu").replace(line, f"{line}\n{line[:-1]}3"))


def test_columns_that_were_padded_by_hand() -> None:
    text = (
        read("cpu")
        .replace("min=", "  min=")
        .replace("Inference (avg): ", " Inference (avg):   ")
    )
    assert parse_benchmark_log(text).timings == parse("cpu").timings


def test_a_count_line_alone_belongs_to_the_phase_of_its_mean() -> None:
    lines = read("cpu").splitlines(keepends=True)
    warmup, regular = (s for s in lines if "count=" in s)
    without = [s for s in lines if "count=" not in s]
    full = parse("cpu").timings
    assert full is not None
    times = parse_benchmark_log("".join([warmup, *without])).timings
    assert times is not None
    assert (times.warmup, times.regular) == (full.warmup, None)
    times = parse_benchmark_log("".join([regular, *without])).timings
    assert times is not None
    assert (times.warmup, times.regular) == (None, full.regular)


def test_no_warm_up_runs() -> None:
    text = read("nnapi_fell_back").replace(
        "count=9 first=910 curr=800 min=790 max=910 avg=815.5 std=31", "count=0"
    )
    for first, mean in (("0", "0"), ("0", "nan"), ("0", "-nan")):
        times = parse_benchmark_log(
            text.replace(
                "First inference: 910, Warmup (avg): 815.5",
                f"First inference: {first}, Warmup (avg): {mean}",
            )
        ).timings
        assert times is not None
        assert (times.first_ms, times.warmup_avg_ms, times.warmup) == (None, None, None)
        assert times.inference_avg_ms == pytest.approx(0.8061)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("performance_options", "2 runs"),
        ("run_model", "cold run"),
        ("profile", "neither a complete result nor a known failure"),
    ],
)
def test_logs_that_are_no_single_result(log: str, why: str) -> None:
    with pytest.raises(LogError, match=why) as caught:
        parse(log)
    assert caught.value.tail in read(log).replace("\n\n", "\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("avg): 12401.2", "avg): 12401.9"),
        ("avg): 12401.2", "avg): 12.4012"),
        ("avg): 12401.2", "avg): -12401.2"),
        ("avg): 12401.2", "avg): nan"),
        ("avg): 12401.2", "avg): inf"),
        ("avg): 12401.2", "avg): 0"),
        ("avg): 12401.2", "avg): 1e999"),
        ("avg): 12401.2", "avg): 12401.2ERROR: something"),
        ("Init: 12500", "Init: 0"),
        ("Init: 12500", "Init: -5"),
        ("Init: 12500", "Init: 12600"),
        ("Init: 12500, ", ""),
        ("First inference: 20100", "First inference: 12500"),
        ("Warmup (avg): 12612.5, ", ""),
        ("Inference timings", "WARNING: xInference timings"),
        ("Init: 12500", "Init: 12500, with stats: 5"),
        ("count=81 ", "count=0 "),
        ("count=81 ", "count=-1 "),
        ("count=81 first=12500", "count=81 first=0"),
        ("count=81 first=12500", "count=81"),
        ("min=12290", "min=13500"),
        ("min=12290", "min=nan"),
        ("max=12990", "max=12300"),
        ("std=101", "std=-2147483648"),
        ("std=101", "std=999999"),
        ("std=101 p5=12300 median=12395 p95=12600", "st"),
        ("p5=12300", "p5=12599"),
        ("median=12395", "median=99999"),
        ("curr=12350", "curr=99999999999999"),
        ("overall=7.25", "overall=nan"),
        ("Initialized session in 12.5ms", "Initialized session in 125ms"),
        ("INFO: count=40", "INFO: count=40 first=1 curr=1\nINFO: count=40"),
    ],
)
def test_damaged_figures_are_refused(old: str, new: str) -> None:
    text = read("cpu")
    assert text.count(old) == 1
    with pytest.raises(LogError) as caught:
        parse_benchmark_log(text.replace(old, new))
    assert caught.value.tail
    assert "\n" not in str(caught.value)


def test_a_dry_run_is_no_result() -> None:
    with pytest.raises(LogError, match="no regular run"):
        parse_benchmark_log(
            "INFO: count=0\n\nINFO: count=0\n\nINFO: Inference timings in us: Init:"
            " 5000, First inference: 0, Warmup (avg): -nan, Inference (avg): -nan\n"
        )


def test_two_runs_in_one_log_are_refused() -> None:
    for other in ("cpu", "gpu_2020", "cpu_2018", "logcat"):
        with pytest.raises(LogError, match="of 2 runs"):
            parse_benchmark_log(read(other) + read(other))
        if other != "logcat":
            with pytest.raises(LogError, match="of 2 runs"):
                parse_benchmark_log(read("nnapi_fell_back") + read(other))


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(LogError, match="neither"):
        parse_benchmark_log("")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Aborted", None),
        ("Killed", None),
        ("Segmentation fault (core dumped)", "Segmentation fault (core dumped)"),
        ("run.sh: line 7: 4321 Bus error ./benchmark_model --x", "run.sh: line 7"),
        ("[1] + Killed ./benchmark_model", "[1] + Killed"),
        ("ERROR: Failed to load model /x/y.tflite", "Failed to load model /x/y.tflite"),
        ("Failed to allocate tensors!", "Failed to allocate tensors"),
        ("ERROR: Disallowed CPU fallback detected.", "Disallowed CPU fallback"),
        ("FATAL: The size of a.raw is 5 bytes.", "The size of a.raw is 5 bytes"),
        ("/system/bin/sh: ./benchmark_model: not found", "not found"),
        ("/system/bin/sh: ./x: can't execute: Permission denied", "can't execute"),
        ("sh: taskset: inaccessible or not found", "inaccessible or not found"),
        ('CANNOT LINK EXECUTABLE "./b": library "x.so" not found', "CANNOT LINK"),
        ("./b: not executable: 64-bit ELF file", "64-bit ELF file"),
        ("usage: ./benchmark_model <flags>", "usage"),
        (' #> Signature key: "serve"', "Signature key"),
        (
            "11-24 10:00:00.000  4321  4321 F libc    : Fatal signal 11 (SIGSEGV), code"
            " 1 in tid 4321 (benchmark_model)",
            "Fatal signal 11",
        ),
    ],
)
def test_known_failures(said: str, reason: str | None) -> None:
    log = parse_benchmark_log(f"INFO: STARTING!\n{said}\n" if said[0] != "1" else said)
    assert log.failure is not None and log.timings is None
    assert (reason or said) in log.failure
    assert "\n" not in log.failure


def test_a_model_that_cannot_be_prepared_has_no_latency() -> None:
    """Tools of 2023 timed such runs: 21 us for a model that never ran."""
    failing = "ERROR: Delegate kernel was not initialized\nERROR: Node number 9 (X)"
    failing += " failed to prepare.\n"
    restored = "ERROR: Restored original execution plan after delegate application"
    restored += " failure.\n"
    text = read("nnapi_fell_back")
    log = parse_benchmark_log(
        text.replace("INFO: count=90", failing + "INFO: count=90")
    )
    assert log.timings is None
    assert log.failure == (
        "Node number 9 (X) failed to prepare: Delegate kernel was not initialized"
    )
    assert parse_benchmark_log(failing + restored + text).failure is None
    assert parse_benchmark_log(failing * 2 + restored + text).failure is not None


def test_a_second_delegate_that_finds_nothing_left_is_no_fall_back() -> None:
    text = read("gpu_2020").replace(
        "The input model",
        "Though NNAPI delegate is explicitly applied, the model graph will not be"
        " executed by the delegate.\nThe input model",
    )
    log = parse_benchmark_log(text)
    assert [d.extent for d in log.applied] == ["full", "none"]
    assert log.fell_back == ()


def test_the_model_that_cannot_be_opened() -> None:
    log = parse_benchmark_log(
        "INFO: STARTING!\nINFO: Graph: [nowhere.tflite]\nERROR: Could not open"
        " 'nowhere.tflite'.\nERROR: Failed to load model nowhere.tflite\nERROR:"
        " Benchmarking failed.\n"
    )
    assert log.failure == (
        "Failed to load model nowhere.tflite: Could not open 'nowhere.tflite'"
    )


def test_a_runtime_that_goes_on_without_a_delegate_has_not_failed() -> None:
    text = read("cpu").replace(
        "INFO: The input model",
        "ERROR: Failed to apply the default TensorFlow Lite delegate indexed at 0"
        " because of incompatibility between runtime and delegate. Ignore the error,"
        " and continue anyway.\nINFO: The input model",
    )
    assert parse_benchmark_log(text).failure is None


def test_a_log_without_its_last_line_end() -> None:
    """The result counts where the count line confirms that it is whole."""
    whole = read("nnapi_fell_back")
    full = parse("nnapi_fell_back").timings
    assert parse_benchmark_log(whole.rstrip("\n")).timings == full
    without = "".join(s for s in whole.splitlines(keepends=True) if "count=" not in s)
    assert parse_benchmark_log(without).timings is not None
    with pytest.raises(LogError):
        parse_benchmark_log(without.rstrip("\n"))


def test_memory_of_a_cut_line_is_not_told() -> None:
    cut = read("logcat").rstrip("\n").removesuffix("5")
    log = parse_benchmark_log(cut)
    assert log.timings is not None and log.memory is None
