"""Figures of ``mess check`` from measured latencies, without a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.records import Failure, MeasureSettings, ModelFile
from mess_tf.commands.check import _checked_part, _whole_ms

PROMISED = {"mean_ms": 6.0, "exit_rates": (0.5, 0.5), "miou": 0.7}


def test_the_measured_p90_is_the_latency_of_its_rank() -> None:
    taken = np.array([2] * 9 + [4] * 3)
    row = _checked_part(PROMISED, [2, 4], np.arange(1.0, 13.0), taken, 1.5, 0.6)
    # 11 of 12 images must not exceed it; interpolated it would be 10.9 ms.
    assert row.measured_p90_ms == 11.0
    assert row.measured_ms == 6.5
    assert row.promised_at_present_speed_ms == 9.0
    assert row.measured_exit_rates == (0.75, 0.25)
    assert (row.promised_miou, row.measured_miou) == (0.7, 0.6)


class _OneRoundAfterTheOther:
    """A device that takes 2, 1, 9, … ms and notes what it was asked to run."""

    def __init__(self, outcomes: Sequence[object]) -> None:
        self.outcomes = iter(outcomes)
        self.asked: list[str] = []

    def benchmark(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, object]]:
        for model in models:
            self.asked.append(model.name)
            yield model, next(self.outcomes)


class _Round:
    def __init__(self, median_us: float) -> None:
        self.median_us = median_us


def test_the_present_speed_is_measured_of_the_whole_network_alone() -> None:
    whole = ModelFile("whole", Path("whole.tflite"), "0")
    device = _OneRoundAfterTheOther([_Round(us) for us in (2e3, 1e3, 9e3)])
    settings = MeasureSettings(rounds=3)
    assert _whole_ms(cast(Device, device), whole, settings) == 2.0
    assert device.asked == ["whole"] * 3


def test_a_network_that_fails_on_the_device_is_an_error() -> None:
    whole = ModelFile("whole", Path("whole.tflite"), "0")
    device = _OneRoundAfterTheOther([Failure("invoke", "out of memory")])
    with pytest.raises(BenchError, match="out of memory"):
        _whole_ms(cast(Device, device), whole, MeasureSettings(rounds=1))
