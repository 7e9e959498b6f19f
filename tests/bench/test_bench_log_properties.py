"""What must hold for every log: never a number that the whole log does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from android_bench.logs.benchmark_log import BenchmarkLog, LogError, parse_benchmark_log
from android_bench.logs.op_profile import parse_op_profile

LOGS = {p.stem: p.read_text() for p in (Path(__file__).parent / "logs").glob("*.txt")}
RESULTS = (
    "cpu",
    "gpu_partial",
    "nnapi_fell_back",
    "gpu_2020",
    "cpu_2018",
    "logcat",
    "litert",
)


def outcome(text: str) -> BenchmarkLog | None:
    """The log read; None where it is refused. Anything else is an error."""
    try:
        return parse_benchmark_log(text)
    except LogError:
        return None


@pytest.mark.parametrize("name", RESULTS)
def test_a_log_cut_anywhere_gives_its_own_figures_or_none(name: str) -> None:
    whole = LOGS[name]
    full = parse_benchmark_log(whole)
    for end in range(len(whole)):
        log = outcome(whole[:end])
        if log is None:
            continue
        assert (log.failure, log.timings) == (None, full.timings), end
        for key in ("init_mb", "overall_mb", "peak_mb", "rss_mb"):
            told = log.memory and getattr(log.memory, key)
            assert told in (None, full.memory and getattr(full.memory, key)), end


@pytest.mark.parametrize("name", RESULTS)
def test_a_log_cut_at_its_start_gives_its_own_figures_or_none(name: str) -> None:
    """Posted logs and full logcat buffers lack their first lines."""
    whole = LOGS[name]
    full = parse_benchmark_log(whole).timings
    assert full is not None
    for start in range(len(whole)):
        log = outcome(whole[start:])
        # What is left of another process's line may say a failure, never a figure.
        if log is None or log.timings is None:
            continue
        times = log.timings
        # Without the other lines there are the digits of the result only.
        assert times.init_ms == pytest.approx(full.init_ms, rel=2e-3)
        assert times.inference_avg_ms == pytest.approx(full.inference_avg_ms, rel=2e-3)
        assert times.warmup in (None, full.warmup)
        assert times.regular in (None, full.regular)


def test_a_failing_run_is_a_success_at_no_cut() -> None:
    whole = LOGS["failed_run"]
    for end in range(len(whole)):
        log = outcome(whole[:end])
        assert log is None or log.failure, end


def test_tables_cut_anywhere_are_whole_or_say_so() -> None:
    whole = LOGS["profile"]
    full = parse_op_profile(whole)
    assert full is not None
    for end in range(len(whole)):
        profile = parse_op_profile(whole[:end])
        if profile is None:
            continue
        for cut, complete in (
            (profile.init, full.init),
            (profile.regular, full.regular),
        ):
            for graph, truth in zip(cut, complete, strict=False):
                assert graph == truth or not graph.complete
                kinds = [(r.kind, r.name, r.avg_ms, r.times_called) for r in graph.rows]
                assert kinds == [
                    (r.kind, r.name, r.avg_ms, r.times_called)
                    for r in truth.rows[: len(kinds)]
                ]


def _threadtime(line: str) -> str:
    return f"11-24 10:00:00.000  4321  4321 I tflite  : {line}"


WRAPS: dict[str, Callable[[str], str]] = {
    "as printed": str,
    "threadtime": _threadtime,
    "threadtime with year and user": lambda line: (
        f"2026-11-24 10:00:00.000 shell  4321  4321 I tflite  : {line}"
    ),
    "time": lambda line: f"11-24 10:00:00.000 I/tflite  ( 4321): {line}",
    "brief": lambda line: f"I/tflite  ( 4321): {line}",
    "tag": lambda line: f"I/tflite  : {line}",
    "old studio": lambda line: (
        f"2026-11-24 10:00:00.000 4321-4321/org.tensorflow.lite.benchmark"
        f" I/tflite: {line}"
    ),
    "new studio": lambda line: (
        f"2026-11-24 10:00:00.000  4321-4321  tflite                 "
        f" org.tensorflow.lite.benchmark        I  {line}"
    ),
    "colours": lambda line: f"\x1b[38;5;40m{_threadtime(line)}\x1b[0m",
    "Windows": lambda line: line + "\r",
    "old adb": lambda line: line + "\r\r",
    "indented": lambda line: "    " + line,
    "elided": lambda line: f"... tflite  : {line}",
    "tag alone": lambda line: f"tflite    : {line}",
    "coloured": lambda line: f"\x1b[32m{line}\x1b[0m",
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", ["cpu", "gpu_2020", "cpu_2018", "profile", "litert"])
def test_the_way_of_capture_changes_nothing(name: str, wrap: str) -> None:
    if name in ("profile", "litert") and wrap == "indented":
        return  # a table's tabs are its form
    text = "".join(WRAPS[wrap](line) + "\n" for line in LOGS[name].splitlines())
    assert parse_op_profile(text) == parse_op_profile(LOGS[name])
    if name != "profile":
        log, plain = parse_benchmark_log(text), parse_benchmark_log(LOGS[name])
        assert (log.timings, log.memory) == (plain.timings, plain.memory)
        assert (log.applied, log.partitions) == (plain.applied, plain.partitions)
        assert log.parameters == plain.parameters


NOISE = (
    "",
    "WARNING: NNAPI SL driver did not implement something!",
    "VERBOSE: count=3 first=1 things",
    "INFO: Created 1 GPU delegate kernels.",
    "Vx delegate: error_during_init set to 0.",
    "\tmedian=5 avg=7",
    "ERROR: Following operations are not supported by GPU delegate:",
    "Timings (microseconds): count=5 first=1 curr=2 min=1 max=2 avg=1.5 std=0",
    "Memory (bytes): count=0",
    "average time: 4.231 ms",
    "W/libc    ( 4321): Access denied finding property \"x\"",
)  # fmt: skip


@given(
    st.sampled_from(["cpu", "gpu_partial", "nnapi_fell_back", "gpu_2020", "cpu_2018"]),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(NOISE)), max_size=8),
)
def test_lines_in_between_change_no_figure(
    name: str, noise: Sequence[tuple[int, str]]
) -> None:
    lines = LOGS[name].splitlines()
    for place, line in noise:
        lines.insert(place, line)
    log, full = parse_benchmark_log("\n".join(lines) + "\n"), LOGS[name]
    assert log.timings == parse_benchmark_log(full).timings
    assert log.memory == parse_benchmark_log(full).memory


# Whole numbers of the count and result lines that something else confirms.
NUMBERS = [
    match.span()
    for match in re.finditer(r"(?<=[ =])\d+(?:\.\d+)?(?=[ ,\n])", LOGS["cpu"])
    if "Init: " in LOGS["cpu"][: match.start()].rpartition("\n")[2]
]


@given(st.sampled_from(NUMBERS), st.floats(1e-3, 1e12))
@example(NUMBERS[0], 12.5)
@example(NUMBERS[3], 12401.0)
def test_a_figure_changed_in_the_result_is_noticed(
    span: tuple[int, int], value: float
) -> None:
    whole = LOGS["cpu"]
    printed = f"{value:.6g}"
    log = outcome(whole[: span[0]] + printed + whole[span[1] :])
    truth = float(whole[slice(*span)])
    if abs(float(printed) - truth) > 2e-5 * truth:
        assert log is None
    elif log is not None:
        assert log.timings is not None
        assert log.timings.inference_avg_ms == pytest.approx(12.4012, rel=2e-5)


def test_there_are_four_figures_in_the_result() -> None:
    assert [LOGS["cpu"][slice(*span)] for span in NUMBERS] == [
        "12500",
        "20100",
        "12612.5",
        "12401.2",
    ]


@st.composite
def phases(draw: st.DrawFn) -> list[int]:
    scale = draw(st.sampled_from([50, 10_000, 5_000_000]))
    return draw(st.lists(st.integers(1, scale), min_size=1, max_size=30))


def count_line(us: Sequence[int], percentiles: bool) -> tuple[str, str]:
    """The tool's way of telling some runs, and the mean as it prints it."""
    mean = f"{sum(us) / len(us):.6g}"
    if len(set(us)) == 1:
        line = f"count={len(us)} curr={us[-1]}" + "(all same)" * (len(us) > 1)
    else:
        exact = sum(us) / len(us)
        deviation = int((sum((u - exact) ** 2 for u in us) / len(us)) ** 0.5)
        line = (
            f"count={len(us)} first={us[0]} curr={us[-1]} min={min(us)} max={max(us)}"
            f" avg={mean} std={deviation}"
        )
    if percentiles:
        ranked = sorted(us)
        p5, median, p95 = (
            ranked[min(int(len(us) * q), len(us) - 1)] for q in (0.05, 0.5, 0.95)
        )
        line += f" p5={p5} median={median} p95={p95}"
    return line, mean


@given(phases(), phases(), st.integers(1, 10**9), st.booleans(), st.booleans())
def test_whatever_the_tool_can_print_is_read_back(
    warmup: list[int], regular: list[int], init: int, is_new: bool, is_prefixed: bool
) -> None:
    warm_line, warm_mean = count_line(warmup, is_new)
    line, mean = count_line(regular, is_new)
    prefix = "INFO: " if is_prefixed else ""
    text = "".join(
        f"{prefix}{said}\n"
        for said in (
            f"Initialized session in {init / 1e3:.6g}ms.",
            warm_line + "\n",
            line + "\n",
            f"Inference timings in us: Init: {init}, First inference: {warmup[0]},"
            f" Warmup (avg): {warm_mean}, Inference (avg): {mean}",
        )
    )
    times = parse_benchmark_log(text).timings
    assert times is not None and times.regular is not None and times.warmup is not None
    assert times.init_ms == init / 1000
    assert times.first_ms == times.warmup.first_ms == warmup[0] / 1000
    assert times.regular.count == len(regular)
    assert times.regular.min_ms == min(regular) / 1000
    assert times.regular.max_ms == max(regular) / 1000
    assert times.regular.curr_ms == regular[-1] / 1000
    exact_ms = sum(regular) / len(regular) / 1000
    assert times.inference_avg_ms == pytest.approx(exact_ms, rel=1e-5)
    if is_new:
        assert times.regular.median_ms == sorted(regular)[len(regular) // 2] / 1000


PIECES = [
    *("INFO: ", "ERROR: ", "count=", "count=5 first=1 curr=", "=" * 30, "\n", "\t"),
    *("Inference timings in us: Init: 5, ", "First inference: ", "Inference (avg): 3"),
    *("============================== Run Order ==============================\n",),
    *("\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]", "\t[mem KB]\t[times called]\n"),
    *("node type, first, avg_ms, %, cdf%, mem KB, times called, name\n", "1%", ", 1"),
    *("Number of nodes executed: 1\n", "Replacing 1 node(s)", "11-24 10:00:00.0 1 1 I"),
    *("Model initialization: 5 ms\n", "========== BENCHMARK RESULTS ==========\n"),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), max_size=25))
def test_no_text_is_anything_but_read_or_refused(parts: list[str]) -> None:
    text = "".join(parts)
    log = outcome(text)
    assert log is None or (log.failure is None) == (log.timings is not None)
    try:
        parse_op_profile(text)
    except LogError as error:
        assert "\n" not in str(error)
