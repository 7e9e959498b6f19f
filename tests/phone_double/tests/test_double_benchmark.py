"""The stand-in of the benchmark tool: its flags, its output, its times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from android_bench.logs.benchmark_log import BenchmarkLog, parse_benchmark_log
from tests.phone_double.benchmark.options import BadValue, Options
from tests.phone_double.benchmark.report import NEW, OLD, count_line, six_digits
from tests.phone_double.benchmark.tool import write_tool
from tests.phone_double.clients.client import Client
from tests.phone_double.clients.tiny_model import convolutions
from tests.phone_double.double import PhoneDouble
from tests.phone_double.phones.phone import BIG_LITTLE
from tests.phone_double.phones.phone import OLD as OLD_PHONE
from tests.support.tiers import sampled

TMP = "/data/local/tmp"
SHORT = "--num_runs=20 --min_secs=0 --warmup_min_secs=0"


@pytest.fixture
def run(
    client: Client, put: Callable[..., str], tool_file: Path, model_file: Path
) -> Callable[..., Any]:
    """Runs the tool on the phone with the small model; gives what the shell said."""
    tool, model = put(tool_file, "benchmark_model"), put(model_file, "tiny.tflite")

    def run(flags: str, graph: str = model) -> Any:
        return client.shell(f"{tool} --graph={graph} {flags}")

    return run


def read(said: Any) -> BenchmarkLog:
    return parse_benchmark_log((said.err + said.out).decode())


# === Flags ===


def test_flags_are_read_as_the_tool_reads_them() -> None:
    options = Options.parse(
        ["--num_runs=7x", "--use_gpu", "--use_nnapi=1", "--min_secs=.5", "-h", "--x=1"]
    )
    assert options.number("num_runs") == 7 and options.number("min_secs") == 0.5
    assert options.switch("use_nnapi") and not options.switch("use_gpu")
    assert options.unknown == ("--use_gpu", "-h", "--x=1")
    assert options.number("warmup_runs") == 1 and options.number("max_secs") == 150


@pytest.mark.parametrize("word", ["--num_runs=many", "--use_gpu=yes", "--min_secs="])
def test_a_value_that_cannot_be_read(word: str) -> None:
    with pytest.raises(BadValue, match=rf"against argv '{word}'"):
        Options.parse([word])


def test_settings_are_echoed_in_the_tools_order() -> None:
    options = Options.parse(["--use_nnapi=true", "--num_threads=4", "--graph=m"])
    assert options.echo(["npu", "nnapi-reference"], True) == [
        "Log parameter values verbosely: [0]",
        "Num threads: [4]",
        "Graph: [m]",
        "Signature to run: []",
        "#threads used for CPU inference: [4]",
        "Use NNAPI: [1]",
        "NNAPI accelerators available: [npu,nnapi-reference]",
    ]
    assert len(Options.parse(["--verbose=true"]).echo([], True)) > 60


# === Numbers ===


@pytest.mark.parametrize(
    ("samples", "style", "line"),
    [
        ([5, 3, 4], OLD, "count=3 first=5 curr=4 min=3 max=5 avg=4 std=0"),
        (
            [500, 300, 401],
            NEW,
            "count=3 first=500 curr=401 min=300 max=500 avg=400.333 std=81 p5=300"
            " median=401 p95=500",
        ),
        ([7], OLD, "count=1 curr=7"),
        ([7, 7], NEW, "count=2 curr=7(all same) p5=7 median=7 p95=7"),
        ([], OLD, "count=0"),
    ],
)
def test_statistics_as_printed(samples: list[int], style: str, line: str) -> None:
    assert count_line(samples, style) == line


def test_large_means_get_an_exponent() -> None:
    assert [six_digits(v) for v in (2719850.0, 12401.25, 1e6, 13.0)] == [
        "2.71985e+06",
        "12401.2",
        "1e+06",
        "13",
    ]


# === Runs ===


def test_a_run_is_read_by_our_own_reader(run: Callable[..., Any]) -> None:
    log = read(run(f"{SHORT} --num_threads=1 --report_peak_memory_footprint=true"))
    assert log.failure is None and log.timings is not None
    regular = log.timings.regular
    assert regular is not None and regular.count == 20
    assert regular.p95_ms is not None
    assert log.parameters["Num threads"] == "1"
    assert log.parameters["Graph"] == f"{TMP}/tiny.tflite"
    assert [p.delegate for p in log.partitions] == ["TfLiteXNNPackDelegate"]
    assert log.memory is not None and log.memory.peak_mb and log.memory.rss_mb


@pytest.mark.parametrize("phone", [BIG_LITTLE, OLD_PHONE], ids=lambda p: p.name)
def test_old_tools_write_without_prefixes(
    phone: Any, tool_file: Path, model_file: Path
) -> None:
    with PhoneDouble(phone) as double:
        double.trust.required = False
        double.system.desk.style = OLD
        for source in (tool_file, model_file):
            target = double.host_path(f"{TMP}/{source.name}")
            target.write_bytes(source.read_bytes())
            target.chmod(0o777)
        with Client(double.address) as client:
            stream = client.open(
                f"exec:cd {TMP} && ./benchmark_model --graph=tiny.tflite {SHORT}"
            )
            text = client.read_all(stream).decode()
    assert text.startswith("STARTING!\n") and "\nInference timings in us: " in text
    log = parse_benchmark_log(text)
    assert log.timings is not None and log.timings.regular is not None
    assert log.timings.regular.p95_ms is None
    assert log.memory is not None and log.memory.overall_mb is not None


def test_the_model_really_is_timed(
    client: Client, run: Callable[..., Any], put: Callable[..., str]
) -> None:
    """Eight layers of four times the size take 16 times as long as two."""
    large = put(convolutions(8, size=32), "large.tflite")
    medians = []
    for graph in (f"{TMP}/tiny.tflite", large):
        timings = read(run(f"{SHORT} --num_threads=1", graph)).timings
        assert timings is not None and timings.regular is not None
        medians.append(timings.regular.median_ms or 0.0)
    assert medians[1] > 4 * medians[0]


def test_a_throttled_phone_takes_longer(
    run: Callable[..., Any], phone_double: PhoneDouble
) -> None:
    phone_double.state.slowdown = 50.0
    slow = read(run(SHORT)).timings
    phone_double.state.slowdown = 1.0
    usual = read(run(SHORT)).timings
    assert slow is not None and slow.regular is not None
    assert usual is not None and usual.regular is not None
    assert slow.regular.min_ms > 10 * usual.regular.min_ms


def test_a_phase_takes_runs_and_seconds_as_told(run: Callable[..., Any]) -> None:
    timings = read(
        run("--num_runs=5 --min_secs=0 --warmup_runs=3 --warmup_min_secs=0.2")
    ).timings
    assert timings is not None and timings.regular is not None
    assert timings.regular.count == 5
    assert timings.warmup is not None and timings.warmup.count > 3
    few = read(run("--num_runs=1000000 --max_secs=0.2 --warmup_min_secs=0")).timings
    assert few is not None and few.regular is not None
    assert few.regular.count < 1_000_000


def test_pauses_between_runs(run: Callable[..., Any]) -> None:
    delayed = read(run("--num_runs=1 --min_secs=0.3 --run_delay=0.1")).timings
    paced = read(run("--num_runs=1 --min_secs=0.3 --run_frequency=10")).timings
    for timings in (delayed, paced):
        assert timings is not None and timings.regular is not None
        assert timings.regular.count <= 4


def test_dry_run(run: Callable[..., Any]) -> None:
    said = run("--dry_run=true")
    assert said.out.count(b"count=0") == 2 and said.code == 0


def test_given_inputs_give_the_outputs_of_litert(
    run: Callable[..., Any], put: Callable[..., str], phone_double: PhoneDouble
) -> None:
    image = np.random.default_rng(5).normal(size=(1, 16, 16, 8)).astype(np.float32)
    put(image.tobytes(), "image.bin")
    said = run(
        f"{SHORT} --input_layer=image --input_layer_shape=1,16,16,8"
        f" --input_layer_value_files=image:{TMP}/image.bin"
        f" --output_filepath={TMP}/out.bin"
    )
    assert said.code == 0
    out = phone_double.host_path(f"{TMP}/out.bin").read_bytes()
    interpreter = Interpreter(model_content=convolutions(), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(np.frombuffer(out, np.float32), wanted.ravel())


def test_a_shape_can_be_changed(run: Callable[..., Any]) -> None:
    log = run(
        f"{SHORT} --input_layer=other --input_layer_shape=1,4,4,8"
        f" --output_filepath={TMP}/out.bin"
    )
    assert b"WARN: Tensor # 0 is named image but flags call it other" in log.out
    assert log.code == 0


# === Errors ===


@pytest.mark.parametrize(
    ("flags", "graph", "code", "told"),
    sampled(
        [
            (SHORT, f"{TMP}/no.tflite", 1, f"Failed to load model {TMP}/no.tflite"),
            (SHORT, f"{TMP}/benchmark_model", 1, "not a valid Flatbuffer"),
            (SHORT, "", 1, "Please specify the name of your TF Lite input file"),
            ("--num_runs=many", "x", 1, "usage: "),
            ("--help=true", "x", 1, "usage: "),
            ("--list_signatures=true", f"{TMP}/tiny.tflite", 1, "Benchmarking failed."),
            (
                "--signature_to_run_for=a",
                f"{TMP}/tiny.tflite",
                1,
                "the model does not have any signatures",
            ),
            (
                "--require_full_delegation=true",
                f"{TMP}/tiny.tflite",
                1,
                "Disallowed CPU fallback detected.",
            ),
            (
                "--input_layer=a --input_layer_shape=1,2",
                f"{TMP}/tiny.tflite",
                1,
                "Input tensor #0 should have 4 dimensions!",
            ),
            ("--input_layer=a", f"{TMP}/tiny.tflite", 1, "The number of items in"),
            (
                "--input_layer=image --input_layer_shape=1,16,16,8"
                f" --input_layer_value_files=image:{TMP}/tiny.tflite",
                f"{TMP}/tiny.tflite",
                134,
                "It should be 8192 bytes.",
            ),
        ],
        4,
    ),
)
def test_errors_are_the_tools(
    run: Callable[..., Any], flags: str, graph: str, code: int, told: str
) -> None:
    said = run(flags, graph)
    assert (said.code, told in said.err.decode()) == (code, True), said
    failure = read(said).failure
    assert failure is not None


def test_a_tool_of_another_processor_does_not_run(
    client: Client, put: Callable[..., str], tmp_path: Path
) -> None:
    path = put(write_tool(tmp_path / "x86", abi="x86_64"), "benchmark_model")
    said = client.shell(f"{path} --graph=x")
    assert (said.code, said.out) == (126, b"")
    assert said.err == (
        f"/system/bin/sh: {path}: not executable: 64-bit ELF file\n".encode()
    )


# === Delegates ===


@pytest.fixture
def delegates(phone_double: PhoneDouble, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what becomes of the phone's delegates."""

    def set_modes(**modes: str) -> None:
        monkeypatch.setattr(phone_double.system.desk, "delegates", modes)

    return set_modes


@pytest.mark.parametrize(
    ("mode", "extent"), [("full", "full"), ("partial", "partial"), ("none", "none")]
)
@pytest.mark.parametrize("name", ["gpu", "nnapi"])
def test_a_delegate_that_is_applied(
    run: Callable[..., Any], delegates: Any, name: str, mode: str, extent: str
) -> None:
    delegates(**{name: mode})
    said = run(f"{SHORT} --use_{name}=true")
    log = read(said)
    assert said.code == 0 and log.requested == (name.upper(),)
    assert [(d.name, d.extent) for d in log.applied] == [(name.upper(), extent)]
    assert log.fell_back == ((name.upper(),) if extent == "none" else ())


@pytest.mark.parametrize("name", ["gpu", "nnapi"])
def test_a_delegate_that_refuses(
    run: Callable[..., Any], delegates: Any, name: str
) -> None:
    delegates(**{name: "refused"})
    said = run(f"{SHORT} --use_{name}=true")
    failure = read(said).failure
    assert said.code == 1 and failure is not None
    assert failure.startswith(f"Failed to apply {name.upper()} delegate: ")


def test_a_delegate_that_the_phone_lacks(
    run: Callable[..., Any], delegates: Any
) -> None:
    delegates(gpu="missing")
    said = run(f"{SHORT} --use_gpu=true")
    assert b"WARN: GPU acceleration is unsupported on this platform." in said.out
    assert said.code == 0 and read(said).fell_back == ("GPU",)


def test_xnnpack_on_demand_and_off(run: Callable[..., Any]) -> None:
    on, off = (
        read(run(f"{SHORT} --use_xnnpack=true")),
        read(run(f"{SHORT} --use_xnnpack=false")),
    )
    assert [(d.name, d.extent) for d in on.applied] == [("XNNPACK", "full")]
    assert off.partitions == () and off.applied == ()


# === Signatures ===


def signed_model(keys: list[str]) -> bytes:
    """The small model with signatures of its main graph."""
    model = schema.ModelT.InitFromPackedBuf(convolutions(), 0)
    model.signatureDefs = []
    for key in keys:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), 0
        maps = []
        for name, index in (("image", 0), ("result", model.subgraphs[0].outputs[0])):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            maps.append(entry)
        signature.inputs, signature.outputs = maps[:1], maps[1:]
        model.signatureDefs.append(signature)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_one_signature_is_taken(
    run: Callable[..., Any], put: Callable[..., str]
) -> None:
    said = run(SHORT, put(signed_model(["serve"]), "one.tflite"))
    assert said.code == 0 and b"INFO: Using signature: serve\n" in said.out


def test_of_several_one_must_be_named(
    run: Callable[..., Any], put: Callable[..., str]
) -> None:
    path = put(signed_model(["fast", "full"]), "two.tflite")
    said = run(SHORT, path)
    assert said.code == 1 and b"ERROR:  #> Signature key: full\n" in said.err
    assert run(f"{SHORT} --signature_to_run_for=full", path).code == 0
