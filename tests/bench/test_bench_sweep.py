"""Settings in turns, the fastest of them, and failures on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from android_bench.errors import BenchError
from android_bench.records import Failure, MeasureSettings, ModelFile, Round
from android_bench.sweep import fastest, sweep

Make = Callable[..., Any]
SETTINGS = dataclasses.replace(MeasureSettings(), rounds=4)


@pytest.fixture
def device(fake_device: Make, round_of: Make) -> Any:
    """Two cores; twice as fast with two threads; the GPU fails on model ``odd``."""
    made = fake_device(lambda name, visit: round_of(1.0))
    made.order = []

    def benchmark(
        models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, Round | Failure]]:
        made.order.append((settings.threads, settings.delegate))
        for model in models:
            if settings.delegate == "gpu" and model.name == "odd":
                yield model, Failure("delegate", "took nothing")
            else:
                yield model, round_of(1000.0 / settings.threads)

    made.benchmark = benchmark
    return made


def test_settings_take_turns_and_the_fastest_is_told(
    device: Any, model_of: Make
) -> None:
    seen: list[tuple[int, int, str]] = []
    found = sweep(
        device,
        [model_of("m"), model_of("odd")],
        SETTINGS,
        threads=(1, 2, 4),
        delegates=("cpu", "gpu"),
        progress=lambda *step: seen.append(step),
    )
    assert [(s.settings.threads, s.settings.delegate) for s in found] == [
        (1, "cpu"),
        (2, "cpu"),
        (1, "gpu"),
        (2, "gpu"),
    ]
    turns = [device.order[i : i + 4] for i in range(0, 16, 4)]
    assert all(len(set(turn)) == 4 for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert fastest(found).settings.threads == 2
    assert fastest(found).total_ms == 1.0
    assert len(found[0].rounds["m"]) == 4
    assert seen[-1][:2] == (32, 32)


def test_a_failure_takes_a_combination_out(device: Any, model_of: Make) -> None:
    found = sweep(device, [model_of("odd")], SETTINGS, (2,), ("auto",), ("gpu", "cpu"))
    assert found[0].failures["odd"].stage == "delegate"
    assert found[0].rounds == {}
    assert fastest(found).settings.delegate == "cpu"
    with pytest.raises(BenchError, match="1 models failed with delegate 'gpu'"):
        _ = found[0].total_ms
    with pytest.raises(BenchError, match="failed under all settings swept: gpu, 2"):
        fastest(found[:1])


def test_nothing_to_sweep_is_told(device: Any, model_of: Make) -> None:
    with pytest.raises(BenchError, match=r"Nothing to sweep: 1 models, threads \[8\]"):
        sweep(device, [model_of("m")], SETTINGS, threads=(8,))
