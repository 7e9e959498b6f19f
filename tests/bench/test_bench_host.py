"""The host really measures; what crashes, hangs or is broken becomes a row."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from android_bench.devices import open_device, refuse_unused_tool
from android_bench.errors import BenchError
from android_bench.host import worker
from android_bench.host.device import HostDevice
from android_bench.measure import measure, run_inference
from android_bench.operator_profiling import profile_operators
from android_bench.profile import profile
from android_bench.records import MeasureSettings, ModelFile
from android_bench.store import Store
from tests.support.tiers import sampled

ROOT = Path(__file__).parents[2]
Copies = Callable[..., list[ModelFile]]

# The real worker, but for models whose name says what is to go wrong.
FAULTY = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
channel, real = os.dup(1), worker.open_interpreter
os.write(channel, b"INFO: hello\\n@bench {half a line")

class Hangs:
    def __init__(self, real):
        self.real = real
    def __getattr__(self, name):
        return getattr(self.real, name)
    def invoke(self):
        print("about to hang", flush=True)
        time.sleep(3600)

def open_interpreter(path, threads):
    name = os.path.basename(path)
    os.write(channel, b"@bench not json\\nnoise\\n@bench [1]\\nhalf a line")
    if "crash" in name:
        os.write(2, b"last words\\n")
        os.kill(os.getpid(), signal.SIGSEGV)
    if "quits" in name:
        os._exit(7)
    return Hangs(real(path, threads)) if "hang" in name else real(path, threads)

worker.open_interpreter = open_interpreter
sys.exit(worker.main())
"""


@pytest.fixture
def host() -> Iterator[HostDevice]:
    with HostDevice() as device:
        yield device


@pytest.fixture
def faulty_host() -> Iterator[HostDevice]:
    command = (sys.executable, "-c", FAULTY, worker.__file__)
    with HostDevice(command) as device:
        yield device


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "profiles.sqlite") as opened:
        yield opened


def test_profile_measures_and_resumes_without_a_word_on_the_terminal(
    tflite_files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "run" / "profiles.sqlite"
    (run,) = profile(tflite_files, store=store)
    rows = run.measurements
    assert [row.name for row in rows] == ["conv", "two"]
    for row in rows:
        assert len(row.rounds) == 5
        assert all(r.runs >= 10 and r.init_us for r in row.rounds)
        assert 0 < row.p50_ms <= row.p90_ms
    (again,) = profile(list(tflite_files.values()), store=store)
    assert again == run
    with Store(store) as opened:
        assert opened.devices() == [run.info]
        keys = {row.fingerprint for row in opened.measurements()}
    assert run.info is not None and keys == {run.info.fingerprint}
    assert capfd.readouterr() == ("", "")


def test_broken_files_are_failure_rows_beside_measured_ones(
    tflite_files: dict[str, Path],
    tmp_path: Path,
    host: HostDevice,
    store: Store,
    short: MeasureSettings,
) -> None:
    content = tflite_files["conv"].read_bytes()
    bad = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "text": b"hello" * 100,
    }
    for name, data in bad.items():
        (tmp_path / f"{name}.tflite").write_bytes(data)
    paths = [tmp_path / f"{name}.tflite" for name in bad] + [tflite_files["conv"]]
    *failed, good = measure(
        host, [ModelFile.read(path) for path in paths], short, store
    )
    assert good.p50_ms > 0
    for row in failed:
        assert row.failure is not None and row.failure.stage == "load", row
        assert row.failure.message and "\n" not in row.failure.message
        assert "Interpreter" in row.failure.log_tail
    assert len(store.failures()) == 3


def test_crash_hang_and_noise_cost_only_their_own_row(
    copies: Copies, faulty_host: HostDevice, store: Store, short: MeasureSettings
) -> None:
    settings = dataclasses.replace(short, max_seconds_per_round=1.0, timeout_s=3.0)
    models = copies("a", "crash", "b", "hang", "c", "quits")
    rows = {r.name: r for r in measure(faulty_host, models, settings, store)}
    assert {name for name, row in rows.items() if not row.failed} == {"a", "b", "c"}
    crash, hang, quits = (rows[n].failure for n in ("crash", "hang", "quits"))
    assert crash and crash.stage == "load" and "SIGSEGV" in crash.message
    assert "last words" in crash.log_tail
    assert hang and hang.stage == "run" and "3 s" in hang.message
    assert "about to hang" in hang.log_tail
    assert quits and "exit code 7" in quits.message
    assert all(len(rows[n].rounds) == 2 for n in "abc")


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-c", "raise SystemExit('no LiteRT here')"),
        ("/no/such/python",),
    ],
)
def test_a_worker_that_does_not_start_is_the_devices_error(
    command: tuple[str, ...], copies: Copies, store: Store, short: MeasureSettings
) -> None:
    with HostDevice(command) as device, pytest.raises(BenchError, match="not start"):
        measure(device, copies("a"), short, store)
    assert store.measurements() == []


def test_inference_gives_outputs_by_signature_name(
    tflite_files: dict[str, Path], host: HostDevice
) -> None:
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(3, 2, 1, 4)).astype(np.float32)
    inputs = [{"right": right, "left": left} for left, right in pairs]
    run = run_inference(host, ModelFile.read(tflite_files["two"]), iter(inputs))
    assert run.latencies_us.shape == (3,) and (run.latencies_us > 0).all()
    for item, outputs in zip(inputs, run.outputs, strict=True):
        assert set(outputs) == {"total", "scaled"}
        np.testing.assert_allclose(
            outputs["total"], item["left"] + 2 * item["right"], rtol=1e-6
        )
        np.testing.assert_allclose(outputs["scaled"], 3 * item["left"], rtol=1e-6)


def test_inference_by_position_and_tensor_name(
    tflite_files: dict[str, Path], host: HostDevice
) -> None:
    image = np.ones((1, 8, 8, 3), np.float32)
    model = ModelFile.read(tflite_files["conv"])
    run = run_inference(host, model, [[image], {"image": 2 * image}])
    (first,), (second,) = (list(outputs.values()) for outputs in run.outputs)
    assert first.shape == (1, 8, 8, 4) and np.abs(first).max() > 0
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([np.ones((1, 8, 9, 3), np.float32)], r"\(1, 8, 8, 3\); got.*\(1, 8, 9, 3\)"),
        ([np.ones((1, 8, 8, 3), np.int8)], "float32.*got int8"),
        ([], r"inputs are \['image'\]; got 0"),
        ({"picture": np.ones((1, 8, 8, 3), np.float32)}, "picture"),
    ],
)
def test_inputs_that_do_not_fit_are_told(
    tflite_files: dict[str, Path], host: HostDevice, wrong: object, says: str
) -> None:
    model = ModelFile.read(tflite_files["conv"])
    with pytest.raises(BenchError, match=f"input 0.*'input'.*{says}"):
        run_inference(host, model, [wrong])  # type: ignore[list-item]
    with pytest.raises(BenchError, match="No inputs"):
        run_inference(host, model, [])


MEASURING = """
import dataclasses, sys
from pathlib import Path
from android_bench.host.device import HostDevice
from android_bench.measure import measure
from android_bench.records import ModelFile, MeasureSettings
from android_bench.store import Store
models = [ModelFile.read(Path(p)) for p in sys.argv[3:]]
settings = MeasureSettings.from_key(sys.argv[2])
with Store(sys.argv[1]) as store, HostDevice() as host:
    list(host.benchmark(models[:1], settings))
    print(host._worker._process.pid, flush=True)
    measure(host, models, settings, store)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux /proc")
@pytest.mark.parametrize("number", sampled([signal.SIGKILL, signal.SIGINT], 1))
def test_a_killed_process_keeps_what_was_committed_and_the_next_goes_on(
    copies: Copies, tmp_path: Path, short: MeasureSettings, number: signal.Signals
) -> None:
    models = copies(*(f"m{i}" for i in range(12)))
    settings = dataclasses.replace(short, block_models=2, min_seconds_per_round=0.1)
    target = tmp_path / "p.sqlite"
    arguments = [str(target), settings.key, *(str(m.path) for m in models)]
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURING, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        worker_pid = int(process.stdout.readline() if process.stdout else 0)
        deadline = time.monotonic() + 60
        with Store(target) as store:
            while len(store.measurements()) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
        process.send_signal(number)
        process.wait(30)
    while is_alive(worker_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker_pid)
    with Store(target) as store, HostDevice() as host:
        kept = store.measurements()
        assert 3 <= len(kept) < 12
        rows = measure(host, models, settings, store)
        everything = store.measurements()
    assert [row.name for row in rows] == [model.name for model in models]
    assert everything[: len(kept)] == kept
    assert sorted(row.sha256 for row in everything) == sorted(m.sha256 for m in models)


def test_unusable_requests_are_one_clear_line(
    tflite_files: dict[str, Path],
    tmp_path: Path,
    host: HostDevice,
    store: Store,
    short: MeasureSettings,
) -> None:
    model = [ModelFile.read(tflite_files["conv"])]
    with pytest.raises(BenchError, match="'gpu'.*accepted: 'cpu'"):
        measure(host, model, dataclasses.replace(short, delegate="gpu"), store)
    with pytest.raises(BenchError, match="9999 threads.*cores"):
        measure(host, model, dataclasses.replace(short, threads=9999), store)
    with pytest.raises(BenchError, match="Extra flags"):
        measure(host, model, dataclasses.replace(short, extra=("--x",)), store)
    with pytest.raises(BenchError, match="no-such-serial"):
        open_device("no-such-serial")
    with pytest.raises(BenchError, match="No models"):
        profile([], store=tmp_path / "p.sqlite")
    with pytest.raises(BenchError, match="absent.tflite"):
        profile([tmp_path / "absent.tflite"], store=tmp_path / "p.sqlite")
    assert not (tmp_path / "p.sqlite").exists()


def test_a_benchmark_tool_for_phones_is_refused_without_a_phone(tflite_files, tmp_path):
    store, tool = tmp_path / "p.sqlite", tmp_path / "benchmark_model"
    for call in (profile, profile_operators):
        with pytest.raises(BenchError, match="is for phones, and only 'host'"):
            call(tflite_files, ["host", "host"], store=store, benchmark_model=tool)
    # With a phone among the devices the tool has a use: nothing is refused.
    refuse_unused_tool(["host", "phone"], tool)
    refuse_unused_tool(["host"], None)


def test_files_of_one_name_are_told_apart(copies: Copies, tmp_path: Path) -> None:
    (model,) = copies("x")
    twin = tmp_path / "deeper" / "x.tflite"
    twin.parent.mkdir()
    twin.write_bytes(model.path.read_bytes())
    (run,) = profile([model.path, twin], store=tmp_path / "p.sqlite")
    rows = run.measurements
    assert [row.name for row in rows] == [str(model.path), str(twin)]


def test_importing_costs_no_runtime() -> None:
    code = (
        "import sys, android_bench.profile, android_bench.compare\n"
        "heavy = {'ai_edge_litert', 'tensorflow', 'keras', 'pandas', 'sklearn'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
