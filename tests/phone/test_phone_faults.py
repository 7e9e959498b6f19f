"""Faults on the way: each gives a failure row or a run that goes on, never a wrong
number, never a lost row, never a hang. Each test is a line in docs/measuring.md."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.errors import BenchError
from android_bench.measure import measure
from android_bench.phones.device import AdbDevice
from android_bench.phones.folder import BASE
from android_bench.phones.session import ReconnectTimeouts
from android_bench.records import Failure, Measurement, MeasureSettings, ModelFile
from android_bench.store import Store
from tests.phone_double import Adb, PhoneDouble, convolutions
from tests.support.tiers import sampled

Open = Callable[..., AdbDevice]
NAMES = ("a", "b", "c")
BRIEF = ReconnectTimeouts(total_s=2.0, pause_s=0.1, close_s=1.0)

# No test here may hang: a model that gives no answer has failed within seconds.
SHORT = dataclasses.replace(
    MeasureSettings(),
    rounds=1,
    warmup_runs=1,
    warmup_seconds=0.0,
    runs_per_round=5,
    min_seconds_per_round=0.2,
    max_seconds_per_round=2.0,
    max_spread=1e9,
    cooldown_s=0.0,
    timeout_s=60.0,
)


@pytest.fixture
def models(tmp_path: Path) -> list[ModelFile]:
    """Three networks of 40, 80 and 120 kB; their digests are their names there."""
    found = []
    for count, name in enumerate(NAMES, 1):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(convolutions(count, channels=32))
        found.append(ModelFile.read(path))
    return found


@pytest.fixture
def of(models: list[ModelFile]) -> Callable[[str], str]:
    """The pattern of a model's runs, for the double's faults."""
    return lambda name: f"*{models[NAMES.index(name)].sha256}*"


@pytest.fixture
def rows(
    open_phone: Open, models: list[ModelFile], tmp_path: Path, phone_double: PhoneDouble
) -> Callable[..., dict[str, Measurement]]:
    """Measures all three and checks what must hold whatever happens: a row for each,
    in the store, too, and nothing of ours left on the phone."""

    def rows(
        device: AdbDevice | None = None, settings: MeasureSettings = SHORT
    ) -> dict[str, Measurement]:
        opened = device or open_phone()
        with Store(tmp_path / "p.sqlite") as store:
            found = measure(opened, models, settings, store)
            assert {row.name for row in store.measurements()} == set(NAMES)
        opened.close()
        assert list(phone_double.host_path(BASE).iterdir()) == []
        assert [row.name for row in found] == list(NAMES)
        return {row.name: row for row in found}

    return rows


def failed(rows: dict[str, Measurement]) -> dict[str, Failure]:
    return {name: row.failure for name, row in rows.items() if row.failure is not None}


def boots(row: Measurement) -> set[str]:
    return {taken.conditions.other["boot"] for taken in row.rounds}


# === The connection ===


def test_cable_pulled_mid_run(rows: Any, phone_double: PhoneDouble, of: Any) -> None:
    phone_double.faults.in_run(phone_double.drop, 0.1, of("b"))
    assert failed(rows()) == {}


@pytest.mark.slow
def test_cable_pulled_in_every_run_of_a_model(
    rows: Any, phone_double: PhoneDouble, of: Any
) -> None:
    phone_double.faults.in_run(phone_double.drop, 0.1, of("b"), times=99)
    failures = failed(rows())
    assert list(failures) == ["b"]
    assert "lost twice while it ran" in failures["b"].message


@pytest.mark.slow
def test_cable_pulled_mid_push(
    open_phone: Open, rows: Any, phone_double: PhoneDouble
) -> None:
    device = open_phone()
    phone_double.faults.in_push(phone_double.drop, after_bytes=1000, times=2)
    assert failed(rows(device)) == {}


@pytest.mark.slow
def test_cable_pulled_for_good(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    of: Any,
) -> None:
    device = open_phone(BRIEF)
    settings = dataclasses.replace(SHORT, block_models=1)
    phone_double.faults.in_run(phone_double.refuse, 0.1, of("b"))
    with Store(tmp_path / "p.sqlite") as store:
        with pytest.raises(BenchError, match="did not come back within 2 s"):
            measure(device, models, settings, store)
        kept = {row.name for row in store.measurements()}
        assert "b" not in kept
        # The same command goes on where it stopped.
        phone_double.accept()
        again = measure(open_phone(), models, settings, store)
        assert failed({row.name: row for row in again}) == {}
        assert len(store.measurements()) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_phone_falls_silent(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    of: Any,
    impatient: MeasureSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = open_phone(BRIEF)
    monkeypatch.setattr("android_bench.adb.direct_transport.CONNECT_S", 1.0)
    phone_double.faults.in_run(phone_double.link.mute.set, 0.1, of("b"))
    with Store(tmp_path / "p.sqlite") as store:
        with pytest.raises(BenchError, match="did not come back within 2 s"):
            measure(device, models, impatient, store)
        phone_double.link.mute.clear()
        assert "b" not in {row.name for row in store.measurements()}


@pytest.mark.slow
def test_phone_rebooted(rows: Any, phone_double: PhoneDouble, of: Any) -> None:
    # In the second round: figures from before and after stand in one row.
    acts = iter([lambda: None, phone_double.reboot])
    phone_double.faults.in_run(lambda: next(acts)(), 0.1, of("b"), times=2)
    found = rows(settings=dataclasses.replace(SHORT, rounds=2))
    assert failed(found) == {}
    assert len(boots(found["b"])) == 2
    for row in found.values():
        assert ("rebooted" in row.flags) == (len(boots(row)) == 2)


@pytest.mark.slow
def test_unauthorised_in_the_middle(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    of: Any,
) -> None:
    def revoke() -> None:
        phone_double.revoke()

    device = open_phone(BRIEF)
    phone_double.faults.in_run(revoke, 0.1, of("b"))
    with Store(tmp_path / "p.sqlite") as store:
        with pytest.raises(BenchError, match=r"did not come back.*unauthorized"):
            measure(device, models, SHORT, store)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["server"], indirect=True)
def test_adb_server_restarted(
    rows: Any, phone_double: PhoneDouble, shared_adb: Adb, of: Any
) -> None:
    def restart() -> None:
        shared_adb("kill-server")
        shared_adb("start-server")

    phone_double.faults.in_run(restart, 0.1, of("b"))
    assert failed(rows()) == {}


@pytest.mark.parametrize("way", ["server"], indirect=True)
def test_adb_server_killed_for_good_is_not_started_by_us(
    open_phone: Open,
    phone_double: PhoneDouble,
    models: list[ModelFile],
    tmp_path: Path,
    shared_adb: Adb,
    of: Any,
) -> None:
    device = open_phone(BRIEF)
    phone_double.faults.in_run(lambda: shared_adb("kill-server"), 0.1, of("b"))
    with Store(tmp_path / "p.sqlite") as store:
        with pytest.raises(BenchError, match=r"did not come back.*start-server"):
            measure(device, models, SHORT, store)
    listening = subprocess.run(
        ["cat", "/proc/net/tcp"], capture_output=True, check=True
    ).stdout.decode()
    assert f":{shared_adb.port:04X} 00000000:0000 0A" not in listening


# === The benchmark tool ===


@pytest.mark.parametrize(
    ("kind", "told"),
    sampled(
        [
            ("crash", "SIGSEGV|Segmentation fault"),
            ("abort", "SIGABRT|Aborted"),
            ("killed", "SIGKILL|Killed"),
            ("garbage", ""),
            ("half", ""),
            ("failed run", "fail"),
            ("failed warmup", "fail"),
        ],
        2,
    ),
)
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_benchmark_goes_wrong(
    rows: Any, phone_double: PhoneDouble, of: Any, kind: str, told: str
) -> None:
    phone_double.faults.run(kind, of("b"), times=99)
    failures = failed(rows())
    assert list(failures) == ["b"]
    assert any(part in failures["b"].message for part in told.split("|"))
    assert failures["b"].log_tail or kind == "half"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> MeasureSettings:
    """A model may take 3 s in all."""
    monkeypatch.setattr("android_bench.phones.rounds.INIT_S", 2.0)
    return dataclasses.replace(
        SHORT, max_seconds_per_round=0.5, min_seconds_per_round=0.1, timeout_s=3.0
    )


@pytest.mark.slow
def test_benchmark_hangs(
    rows: Any, phone_double: PhoneDouble, of: Any, impatient: MeasureSettings
) -> None:
    phone_double.faults.run("hang", of("b"), times=99)
    failures = failed(rows(settings=impatient))
    assert list(failures) == ["b"]
    assert "it was killed" in failures["b"].message


# === The phone ===


def room_for(phone: PhoneDouble, size: int) -> None:
    """From now on /data/local/tmp takes only so many bytes in all."""
    folder = phone.host_path(BASE)

    def use(count: int) -> None:
        used = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        if used + count > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    phone.system.tree.use = use  # type: ignore[method-assign]


def test_out_of_space_from_the_start(
    open_phone: Open, models: list[ModelFile], phone_double: PhoneDouble
) -> None:
    device = open_phone()
    room_for(phone_double, 100)
    with pytest.raises(BenchError, match=r"tool .* cannot be brought .*no space left"):
        list(device.benchmark(models, SHORT))


@pytest.mark.slow
def test_out_of_space_for_a_model(
    open_phone: Open, rows: Any, phone_double: PhoneDouble, tmp_path: Path
) -> None:
    device = open_phone()
    room_for(phone_double, 8_000 + (tmp_path / "b.tflite").stat().st_size)
    failures = failed(rows(device))
    assert list(failures) == ["c"]
    assert failures["c"].stage == "push"
    assert "No space left" in failures["c"].message


def test_read_only_folder(open_phone: Open, phone_double: PhoneDouble) -> None:
    phone_double.host_path(BASE).chmod(0o555)
    with pytest.raises(BenchError, match="No folder can be made in /data/local/tmp"):
        open_phone()
    phone_double.host_path(BASE).chmod(0o777)


@pytest.mark.slow
def test_files_that_arrive_damaged(
    open_phone: Open, rows: Any, phone_double: PhoneDouble
) -> None:
    device = open_phone()
    phone_double.faults.corrupt_pushes = 1
    assert failed(rows(device)) == {}


@pytest.mark.slow
def test_files_that_arrive_damaged_again_and_again(
    open_phone: Open, models: list[ModelFile], phone_double: PhoneDouble
) -> None:
    device = open_phone()
    device.tool()
    list(device.benchmark(models[:1], SHORT))
    phone_double.faults.corrupt_pushes = 2
    outcomes = dict(device.benchmark(models[:2], SHORT))
    assert not isinstance(outcomes[models[0]], Failure)
    failure = outcomes[models[1]]
    assert isinstance(failure, Failure) and failure.stage == "push"
    assert "arrived damaged twice" in failure.message


def set_clock(phone: PhoneDouble, seconds: float) -> Callable[[], None]:
    """Sets the phone's clock. A kernel tells the new time of boot at once; the double
    writes its /proc five times a second, later under load, unless it is told to."""

    def jump() -> None:
        phone.jump_clock(seconds)
        phone.system.refresh()

    return jump


@pytest.mark.slow
@pytest.mark.parametrize("seconds", sampled([3600.0, -3600.0], 1))
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_clock_jumps_once(
    rows: Any, phone_double: PhoneDouble, of: Any, seconds: float
) -> None:
    phone_double.faults.in_run(set_clock(phone_double, seconds), 0.1, of("b"))
    assert failed(rows()) == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_clock_jumps_in_every_run(
    rows: Any, phone_double: PhoneDouble, of: Any
) -> None:
    jump = set_clock(phone_double, 60.0)
    phone_double.faults.in_run(jump, 0.1, of("b"), times=99)
    failures = failed(rows())
    assert list(failures) == ["b"]
    assert failures["b"].stage == "clock"
    assert "clock jumped" in failures["b"].message


@pytest.mark.slow
def test_noise_on_every_command(rows: Any, phone_double: PhoneDouble) -> None:
    phone_double.faults.shell_noise = b"WARNING: linker: noise\n\xff\xfe"
    assert failed(rows()) == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct"], indirect=True)
@pytest.mark.parametrize(
    "text",
    sampled(["", "Can't find service: battery\n", "\x00\x01", "status: x\n"], 1),
)
def test_services_that_answer_nonsense(
    rows: Any, phone_double: PhoneDouble, text: str
) -> None:
    phone_double.faults.answer("dumpsys *", text)
    found = rows()
    assert failed(found) == {}
    assert found["a"].rounds[0].conditions.battery_percent is None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_a_service_that_hangs(rows: Any, phone_double: PhoneDouble) -> None:
    phone_double.faults.answer("dumpsys battery", None)
    found = rows()
    assert failed(found) == {}
    assert found["a"].rounds[0].conditions.battery_percent is None
    assert found["a"].rounds[0].conditions.throttled is False


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_folder_removed_in_the_middle(
    open_phone: Open, rows: Any, phone_double: PhoneDouble, of: Any
) -> None:
    def remove() -> None:
        subprocess.run(["rm", "-rf", *phone_double.host_path(BASE).iterdir()])

    phone_double.faults.in_run(remove, 0.0, of("b"))
    found = rows()
    assert set(failed(found)) <= {"b"}


def test_each_fault_stands_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    written = (root / "docs" / "measuring.md").read_text(encoding="utf-8")
    table = written.partition("## Faults")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    tests = {name for name in globals() if name.startswith("test_")}
    assert named == tests - {"test_each_fault_stands_in_the_documentation"}
