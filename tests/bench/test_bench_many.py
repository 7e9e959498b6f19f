"""Several devices at once: all are measured, a lost one stops no other."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench import many as many_module
from android_bench import profile as profile_module
from android_bench.errors import BenchError
from android_bench.many import measure_many
from android_bench.records import Conditions, Failure, MeasureSettings, ModelFile
from android_bench.store import Store
from android_bench.store_errors import StoreError

Make = Callable[..., Any]


@pytest.fixture
def models(model_of: Make) -> list[ModelFile]:
    return [model_of(name) for name in "abcd"]


def test_every_device_measures_every_model(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    together = threading.Barrier(2, timeout=20)

    def slow(name: str, visit: int) -> Any:
        if (name, visit) == (models[0].name, 0):
            together.wait()  # passes only when both devices work at the same time
        return round_of(5.0)

    told: list[tuple[str, int, int, str]] = []
    runs = measure_many(
        ["one", "two"],
        models,
        short,
        tmp_path / "p.sqlite",
        lambda name: fake_device(slow),
        progress=lambda *call: told.append(call),
    )
    assert [run.name for run in runs] == ["one", "two"]
    for run in runs:
        assert [row.name for row in run.measurements] == list("abcd")
        assert run.info is not None and not run.lost
    for name in ("one", "two"):
        steps = [call[1:3] for call in told if call[0] == name]
        assert steps[-1] == (4 * 2, 4 * 2)
        assert steps == sorted(steps)


def test_a_lost_device_keeps_its_rows_and_stops_no_other(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    gone = threading.Event()

    def breaks(name: str, visit: int) -> Any:
        if name == "d":
            gone.set()
            raise BenchError("The phone bad is gone: plug it in again.")
        return Failure("run", "crashed") if name == "a" else round_of(5.0)

    def waits(name: str, visit: int) -> Any:
        assert gone.wait(20)
        return round_of(7.0)

    scripts = {"bad": breaks, "good": waits}
    single = dataclasses.replace(short, rounds=1, block_models=1)
    bad, good = measure_many(
        ["bad", "good"],
        models,
        single,
        tmp_path / "p.sqlite",
        lambda name: fake_device(scripts[name]),
    )
    assert bad.lost == "The phone bad is gone: plug it in again."
    assert "d" not in [row.name for row in bad.measurements]
    assert [row.name for row in good.measurements] == list("abcd") and not good.lost
    with Store(tmp_path / "p.sqlite") as store:
        stored = store.measurements()
    kept = [row for run in (bad, good) for row in run.measurements]
    assert {(row.name, row.time, row.failed) for row in kept} <= {
        (row.name, row.time, row.failed) for row in stored
    }


def test_a_lost_device_also_tells_what_was_stored_before(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    def breaks(name: str, visit: int) -> Any:
        raise BenchError("gone")

    scripts = {"ok": lambda *_: round_of(5.0), "bad": breaks}
    target = tmp_path / "p.sqlite"

    def run(name: str, some: list[ModelFile]) -> Any:
        (found,) = measure_many(
            [name], some, short, target, lambda name: fake_device(scripts[name])
        )
        return found

    run("ok", models[1:3])
    lost = run("bad", models)
    assert lost.lost == "gone"
    assert [row.name for row in lost.measurements] == ["b", "c"]


def test_a_phone_reached_in_two_ways_is_measured_once(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    boots = {"usb:A": "boot 1", "tcp:A": "boot 1", "usb:B": "boot 2"}
    visited: dict[str, list[str]] = {}

    def open_one(name: str) -> Any:
        device = fake_device(lambda *_: round_of(5.0))
        visited[name] = device.visits
        state = Conditions("now", other={"boot": boots[name]})
        device.state = lambda: state
        return device

    runs = measure_many(
        list(boots), models, short, tmp_path / "p.sqlite", open_one, fresh=True
    )
    one, other, third = runs
    assert sorted([one.same_as, other.same_as]) in (["", "tcp:A"], ["", "usb:A"])
    assert sorted(map(len, (one.measurements, other.measurements))) == [0, 4]
    assert sorted(map(len, visited.values())) == [0, 8, 8]
    assert len(third.measurements) == 4
    assert [run.lost for run in runs] == ["", "", ""]


def test_a_store_that_fails_is_one_error_and_ends_all_devices(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    short: MeasureSettings,
) -> None:
    target = tmp_path / "p.sqlite"
    devices: list[Any] = []

    def visit(name: str, number: int) -> Any:
        time.sleep(0.01)
        if name == "m3" and target.exists():
            target.rename(tmp_path / "moved.sqlite")
        return round_of(5.0)

    def open_one(name: str) -> Any:
        devices.append(fake_device(visit))
        return devices[-1]

    single = dataclasses.replace(short, rounds=1, block_models=1)
    many = [model_of(f"m{number}") for number in range(200)]
    with pytest.raises(StoreError, match="deleted or replaced"):
        measure_many(["x", "y"], many, single, target, open_one)
    assert all(len(device.visits) < 200 for device in devices)


def test_a_device_that_cannot_be_opened_says_why(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    def open_one(name: str) -> Any:
        if name == "locked":
            raise BenchError("Phone locked is unauthorised.")
        return fake_device(lambda *_: round_of(5.0))

    locked, there = measure_many(
        ["locked", "there"], models, short, tmp_path / "p.sqlite", open_one
    )
    assert locked.lost == "Phone locked is unauthorised."
    assert locked.info is None and locked.measurements == ()
    assert len(there.measurements) == 4


def test_a_mistake_of_ours_is_no_lost_device(
    tmp_path: Path,
    fake_device: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    def broken(name: str, visit: int) -> Any:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        measure_many(
            ["x", "y"],
            models,
            short,
            tmp_path / "p.sqlite",
            lambda name: fake_device(broken),
        )


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)  # Python hands it to the main thread


def test_a_device_that_hangs_does_not_hold_up_an_interruption_for_long(
    tmp_path: Path,
    fake_device: Make,
    models: list[ModelFile],
    short: MeasureSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many_module, "STOP_S", 0.2)
    both, released = threading.Barrier(2, action=press_ctrl_c), threading.Event()

    def hangs(name: str, visit: int) -> Any:
        both.wait(20)
        released.wait(60)
        raise BenchError("gone")

    with pytest.raises(KeyboardInterrupt):
        measure_many(
            ["x", "y"],
            models,
            short,
            tmp_path / "p.sqlite",
            lambda name: fake_device(hangs),
        )
    assert not released.is_set()  # it came back although they still hang
    released.set()


def test_an_interruption_waits_for_every_device_and_keeps_what_is_finished(
    tmp_path: Path,
    fake_device: Make,
    round_of: Make,
    models: list[ModelFile],
    short: MeasureSettings,
) -> None:
    single = dataclasses.replace(short, rounds=1, block_models=1)
    both = threading.Barrier(2, action=press_ctrl_c)
    closed: list[str] = []

    def open_one(name: str) -> Any:
        def visit(model: str, number: int) -> Any:
            if len(device.visits) == 1:  # one model is in the store
                both.wait(20)
                time.sleep(0.5)  # what is under way goes on for a while
            return round_of(5.0)

        device = fake_device(visit)
        device.__class__ = type(
            "Closing", (type(device),), {"__exit__": lambda *_: closed.append(name)}
        )
        return device

    with pytest.raises(KeyboardInterrupt):
        measure_many(["x", "y"], models, single, tmp_path / "p.sqlite", open_one)
    assert sorted(closed) == ["x", "y"]
    with Store(tmp_path / "p.sqlite") as store:
        assert 2 <= len(store.measurements()) < 2 * len(models)


def test_all_is_every_phone_and_those_that_are_not_ready_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_device: Make,
    round_of: Make,
    copies: Make,
) -> None:
    from android_bench.phones.listing import PhoneListing

    phones = [
        PhoneListing("usb:A1", "A1", "usb", "device", "measure on it"),
        PhoneListing("usb:B2", "B2", "usb", "offline", "plug it in again"),
    ]
    monkeypatch.setattr("android_bench.devices.list_phones", lambda: phones)
    monkeypatch.setattr(
        profile_module,
        "open_device",
        lambda name, tool: fake_device(lambda *_: round_of(5.0)),
    )
    (model,) = copies("m")
    ready, locked = profile_module.profile(
        [model.path], ["all", "usb:A1"], store=tmp_path / "p.sqlite"
    )
    assert (ready.name, len(ready.measurements)) == ("usb:A1", 1)
    assert (locked.name, locked.lost) == (
        "usb:B2",
        "it is 'offline': plug it in again",
    )
    del phones[0]
    with pytest.raises(BenchError, match=r"it is 'offline': plug it in again"):
        profile_module.profile([model.path], ["all"], store=tmp_path / "p.sqlite")
    phones.clear()
    with pytest.raises(BenchError, match="No phone is within reach for 'all'"):
        profile_module.profile([model.path], ["all"], store=tmp_path / "p.sqlite")
