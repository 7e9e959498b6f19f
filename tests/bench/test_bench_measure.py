"""The measuring loop on a device that plays scripted latencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench import measure as measuring
from android_bench.errors import BenchError
from android_bench.measure import measure
from android_bench.records import Failure, MeasureSettings, ModelFile, Round
from android_bench.store import Store

Make = Callable[..., Any]

SETTINGS = dataclasses.replace(MeasureSettings(), rounds=3, block_models=4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "profiles.sqlite") as opened:
        yield opened


def test_rounds_of_a_block_are_interleaved_and_shuffled(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    device = fake_device(lambda name, visit: round_of(100.0))
    names = [f"m{i}" for i in range(8)]
    rows = measure(device, [model_of(n) for n in names], SETTINGS, store)
    assert [row.name for row in rows] == names
    calls = device.calls
    # Two blocks of four; within a block three rounds, each of the same four models.
    assert [len(call) for call in calls] == [4] * 6
    blocks = calls[:3], calls[3:]
    for block in blocks:
        assert len({frozenset(call) for call in block}) == 1
        assert len({tuple(call) for call in block}) > 1
    assert set(calls[0]) | set(calls[3]) == set(names)


def test_blocks_are_of_nearly_equal_size(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    device = fake_device(lambda name, visit: round_of(100.0))
    measure(device, [model_of(f"m{i}") for i in range(9)], SETTINGS, store)
    assert [len(call) for call in device.calls[::3]] == [3, 3, 3]


@settings(max_examples=60)
@given(
    groups=st.lists(st.sampled_from(["", "", "x", "y"]), min_size=1, max_size=40),
    most=st.integers(1, 12),
)
def test_blocks_hold_every_model_once_and_divide_no_group(
    groups: list[str], most: int
) -> None:
    models = [
        ModelFile(str(i), Path(str(i)), str(i), group) for i, group in enumerate(groups)
    ]
    blocks = measuring._blocks(models, most)
    assert sorted(m.name for b in blocks for m in b) == sorted(m.name for m in models)
    for group in {"x", "y"} & set(groups):
        assert sum(any(m.group == group for m in block) for block in blocks) == 1
    largest = max([most, *(groups.count(g) for g in "xy")])
    assert all(len(block) <= largest for block in blocks)


def test_a_group_is_measured_again_together_and_the_steadier_set_taken(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    def outcome(name: str, visit: int) -> Round:
        # 'a' alone disagrees in its first three rounds; all three drift alike after.
        drift = 30.0 if name == "a" and visit == 1 else 0.0
        return round_of({"a": 100.0, "b": 300.0}.get(name, 500.0) + drift)

    device = fake_device(outcome)
    models = [dataclasses.replace(model_of(n), group="g") for n in "ab"]
    rows = measure(device, [*models, model_of("c")], SETTINGS, store)
    assert device.visits.count("a") == device.visits.count("b") == 6
    assert device.visits.count("c") == 3
    assert [len(row.set_aside) for row in rows] == [3, 3, 0]
    assert [row.spread for row in rows] == [0.0, 0.0, 0.0]
    assert rows[0].set_aside[1].median_us == 130.0


def test_a_group_with_one_missing_is_measured_whole(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    device = fake_device(lambda name, visit: round_of(100.0))
    models = [dataclasses.replace(model_of(n), group="g") for n in "ab"]
    measure(device, [models[0], model_of("c")], SETTINGS, store)
    told: list[str] = []
    later = fake_device(lambda name, visit: round_of(200.0))
    every = [*models, model_of("c")]
    rows = measure(
        later, every, SETTINGS, store, finished=lambda row: told.append(row.name)
    )
    assert set(later.visits) == {"a", "b"}
    assert [row.p50_ms for row in rows] == [0.2, 0.2, 0.1]
    assert sorted(told) == ["a", "b", "c"]
    measure(later, every, SETTINGS, store)
    assert later.visits.count("a") == 3


def test_a_failure_in_a_group_leaves_the_others_their_figures(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    def outcome(name: str, visit: int) -> Round | Failure:
        if name == "b" and visit == 4:
            return Failure("run", "gone")
        return round_of(100.0 + (20.0 if name == "a" and visit == 1 else 0.0))

    models = [dataclasses.replace(model_of(n), group="g") for n in "abc"]
    rows = measure(fake_device(outcome), models, SETTINGS, store)
    assert [row.failed for row in rows] == [False, True, False]
    assert [len(row.rounds) for row in rows] == [3, 0, 3]


def test_rounds_of_equal_position_of_a_group_belong_together(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    drift = (0.0, 400.0, -50.0)
    steps = iter([1.0, 2.0, 0.0])
    small = {visit: next(steps) for visit in range(3)}
    device = fake_device(
        lambda name, visit: round_of(
            1000.0 + drift[visit % 3] + (20.0 + small[visit % 3] if name == "a" else 0)
        )
    )
    models = [dataclasses.replace(model_of(n), group="g") for n in "ab"]
    upper, lower = measure(device, models, SETTINGS, store)
    pairs = zip(upper.rounds, lower.rounds, strict=True)
    assert [a.median_us - b.median_us for a, b in pairs] == [21.0, 22.0, 20.0]


def test_the_order_follows_the_seed(
    fake_device: Make, round_of: Make, model_of: Make, tmp_path: Path
) -> None:
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        device = fake_device(lambda name, visit: round_of(100.0))
        settings = dataclasses.replace(SETTINGS, seed=seed)
        with Store(tmp_path / f"{number}.sqlite") as store:
            measure(device, [model_of(f"m{i}") for i in range(6)], settings, store)
        orders.append(device.visits)
    assert orders[0] == orders[1] != orders[2]


def test_what_is_stored_is_not_measured_again_unless_fresh(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    first = fake_device(lambda name, visit: round_of(100.0))
    measure(first, [model_of("a"), model_of("b")], SETTINGS, store)
    second = fake_device(lambda name, visit: round_of(200.0))
    rows = measure(second, [model_of(n) for n in "abc"], SETTINGS, store)
    assert set(second.visits) == {"c"}
    assert [row.p50_ms for row in rows] == [0.1, 0.1, 0.2]
    rows = measure(second, [model_of("a")], SETTINGS, store, fresh=True)
    assert [row.p50_ms for row in rows] == [0.2]
    assert store.latencies_ms("fake-1", SETTINGS, [model_of("a").sha256]) == {
        model_of("a").sha256: 0.2
    }


@pytest.mark.parametrize("changed", ["settings", "tool", "fingerprint"])
def test_another_key_is_another_measurement(
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    store: Store,
    changed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure(fake_device(lambda n, v: round_of(1.0)), [model_of("a")], SETTINGS, store)
    device, settings = fake_device(lambda n, v: round_of(2.0)), SETTINGS
    if changed == "settings":
        settings = dataclasses.replace(SETTINGS, threads=2)
    elif changed == "tool":
        tool = dataclasses.replace(device.tool(), sha256="cd" * 32)
        monkeypatch.setattr(device, "tool", lambda: tool)
    else:
        info = dataclasses.replace(device.describe(), fingerprint="fake-2")
        monkeypatch.setattr(device, "describe", lambda: info)
    measure(device, [model_of("a")], settings, store)
    assert device.visits == ["a"] * 3


def test_equal_files_are_measured_once_under_each_name(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    device = fake_device(lambda name, visit: round_of(100.0))
    twin = dataclasses.replace(model_of("a"), name="twin")
    rows = measure(device, [model_of("a"), twin], SETTINGS, store)
    assert [row.name for row in rows] == ["a", "twin"]
    assert len(device.visits) == 3


def test_rounds_that_disagree_are_measured_again_once_then_flagged(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    medians = {
        "calm": [100, 100, 100],
        "second": [100, 120, 110, 100, 101, 102],
        "never": [100, 150, 100, 100, 120, 100],
    }
    device = fake_device(lambda name, visit: round_of(medians[name][visit]))
    rows = measure(device, [model_of(name) for name in medians], SETTINGS, store)
    calm, second, never = rows
    assert [device.visits.count(name) for name in medians] == [3, 6, 6]
    assert (calm.flags, second.flags, never.flags) == ((), (), ("unstable",))
    assert [r.median_us for r in second.rounds] == [100, 101, 102]
    assert [r.median_us for r in second.set_aside] == [100, 120, 110]
    # The steadier set is kept even where it is not the faster one.
    assert [r.median_us for r in never.rounds] == [100, 120, 100]
    assert store.measurements() == [r for r in rows if r.name == "calm"] + [
        r for n in device.calls[-1] for r in rows if r.name == n
    ]


def test_the_steadier_set_may_be_the_first(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    medians = [100, 110, 100, 100, 200, 100]
    device = fake_device(lambda name, visit: round_of(medians[visit]))
    (row,) = measure(device, [model_of("m")], SETTINGS, store)
    assert [r.median_us for r in row.rounds] == [100, 110, 100]
    assert row.flags == ("unstable",)


def test_a_failure_is_a_row_and_the_others_go_on(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    broken = Failure("run", "boom", "last line")

    def outcomes(name: str, visit: int) -> Round | Failure:
        return broken if name == "bad" and visit == 1 else round_of(100.0)

    device = fake_device(outcomes)
    rows = measure(device, [model_of(n) for n in ("a", "bad", "b")], SETTINGS, store)
    assert [row.failure for row in rows] == [None, broken, None]
    assert device.visits.count("bad") == 2
    assert [row.failure for row in store.failures()] == [broken]
    assert not store.has(model_of("bad").sha256, "fake-1", SETTINGS)


def test_what_failed_is_tried_again(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    measure(
        fake_device(lambda n, v: Failure("run", "x")), [model_of("a")], SETTINGS, store
    )
    (row,) = measure(
        fake_device(lambda n, v: round_of(100.0)), [model_of("a")], SETTINGS, store
    )
    assert row.p50_ms == 0.1
    # A later failure does not take the figure away.
    (row,) = measure(
        fake_device(lambda n, v: Failure("run", "x")),
        [model_of("a")],
        SETTINGS,
        store,
        fresh=True,
    )
    assert row.failed
    assert store.has(model_of("a").sha256, "fake-1", SETTINGS)


def test_a_model_without_an_answer_has_failed(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    device = fake_device(lambda name, v: None if name == "lost" else round_of(1.0))
    rows = measure(device, [model_of("lost"), model_of("a")], SETTINGS, store)
    assert rows[0].failure is not None and "no answer" in rows[0].failure.message
    assert rows[1].p50_ms == 0.001


@pytest.mark.parametrize("error", [KeyboardInterrupt, BenchError])
def test_an_interrupt_keeps_what_was_finished(
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    store: Store,
    error: type[BaseException],
) -> None:
    device: Any = None

    def outcomes(name: str, visit: int) -> Round:
        # Block one is 12 visits; block two breaks in its last round, one model done.
        if len(device.visits) == 12 + 9:
            raise error("cable")
        return round_of(100.0)

    device = fake_device(outcomes)
    models = [model_of(f"m{i}") for i in range(8)]
    with pytest.raises(error):
        measure(device, models, SETTINGS, store)
    kept = {row.name for row in store.measurements()}
    assert kept == set(device.calls[0]) | {device.calls[5][0]}
    again = fake_device(lambda name, visit: round_of(100.0))
    measure(again, models, SETTINGS, store)
    assert set(again.visits) == {model.name for model in models} - kept
    assert len(store.measurements()) == 8


def test_progress_ends_at_what_was_planned(
    fake_device: Make, round_of: Make, model_of: Make, store: Store
) -> None:
    def outcomes(name: str, visit: int) -> Round | Failure | None:
        if name == "lost":
            return None
        if name == "bad":
            return Failure("load", "x")
        return round_of(100.0 + (50.0 if name == "shaky" else 0.0) * (visit == 1))

    seen: list[tuple[int, int, str]] = []
    models = [model_of(n) for n in ("a", "bad", "lost", "shaky")]
    measure(
        fake_device(outcomes),
        models,
        SETTINGS,
        store,
        progress=lambda *step: seen.append(step),
    )
    done, planned, _ = seen[-1]
    assert done == planned == 3 + 1 + 0 + 6
    assert [step[0] for step in seen] == sorted(step[0] for step in seen)


def test_waits_while_throttled_but_not_for_ever(
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    device = fake_device(lambda name, visit: round_of(1.0))
    device.throttled = iter([True, True, False])
    measure(device, [model_of("a")], SETTINGS, store)
    assert waits == [5.0, 5.0]
    waits.clear()
    device.throttled = iter([True] * 1000)
    settings = dataclasses.replace(SETTINGS, rounds=1, cooldown_s=12.0)
    measure(device, [model_of("b")], settings, store)
    assert waits == [5.0, 5.0, 2.0]


def test_waits_in_vain_become_shorter(
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    device = fake_device(lambda name, visit: round_of(1.0))
    # Three rounds hot for good, then cold, then hot: patience is back.
    hot = [True] * (1 + 1) + [True] * (1 + 1) + [True] * (1 + 1) + [False, True, False]
    device.throttled = iter(hot)
    settings = dataclasses.replace(SETTINGS, rounds=5, cooldown_s=4.0)
    (row,) = measure(device, [model_of("a")], settings, store)
    assert waits == [4.0, 2.0, 1.0, 4.0]
    assert row.p50_ms == 0.001


@pytest.mark.parametrize(
    ("conditions", "runs", "flags"),
    [
        ({}, 10, ()),
        ({"throttled": True}, 10, ("throttled",)),
        ({"foreign_load": 0.9}, 10, ("disturbed",)),
        ({"foreign_load": 0.1}, 10, ()),
        ({}, 3, ("few_runs",)),
    ],
)
def test_doubtful_conditions_are_flagged(
    fake_device: Make,
    round_of: Make,
    model_of: Make,
    store: Store,
    conditions: dict[str, Any],
    runs: int,
    flags: tuple[str, ...],
) -> None:
    device = fake_device(lambda n, v: round_of(1.0, runs=runs, **conditions))
    (row,) = measure(device, [model_of("a")], SETTINGS, store)
    assert row.flags == flags
