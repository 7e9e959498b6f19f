"""Paired comparisons: turns, ratios, intervals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.compare import compare, median_interval
from android_bench.errors import BenchError
from android_bench.records import Failure, MeasureSettings

Make = Callable[..., Any]

FOUR = dataclasses.replace(MeasureSettings.preset("compare"), rounds=4)


def test_models_take_turns_every_other_round_backwards(
    fake_device: Make, round_of: Make, model_of: Make
) -> None:
    device = fake_device(lambda name, visit: round_of(1.0))
    compare(device, [model_of(n) for n in "abc"], FOUR)
    assert device.visits == list("abccbaabccba")


def test_ratio_is_the_median_of_per_round_ratios(
    fake_device: Make, round_of: Make, model_of: Make
) -> None:
    medians = {"a": [2, 4, 40, 8], "b": [1, 2, 4, 8], "c": [3, 6, 12, 24]}
    device = fake_device(lambda name, visit: round_of(medians[name][visit]))
    result = compare(device, [model_of(n) for n in medians], FOUR)
    ratio = result.ratio("a", "b")  # 2, 2, 10, 1
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (2.0, 1.0, 10.0, 4)
    assert ratio.confidence == pytest.approx(1 - 2 / 16)
    assert result.ratio(["a", "b"], "c").median == 1.0  # 1, 1, 11/3, 2/3
    assert result.median_ms("a") == 0.006


def test_steady_drift_cancels(
    fake_device: Make, round_of: Make, model_of: Make
) -> None:
    clock = itertools.count(100)
    device = fake_device(lambda name, visit: round_of(float(next(clock))))
    settings = dataclasses.replace(FOUR, rounds=20)
    ratio = compare(device, [model_of("a"), model_of("b")], settings).ratio("b", "a")
    assert ratio.median == pytest.approx(1.0, abs=5e-4)  # unpaired: 1.007
    assert ratio.low < 1 < ratio.high


@pytest.mark.parametrize(
    ("n", "k", "confidence"),
    [(1, 1, 0.0), (5, 1, 0.9375), (6, 1, 0.96875), (20, 6, 0.9586)],
)
def test_interval_against_published_ranks(n: int, k: int, confidence: float) -> None:
    ratio = median_interval(np.arange(1.0, n + 1))
    assert (ratio.low, ratio.high) == (k, n + 1 - k)
    assert ratio.confidence == pytest.approx(confidence, abs=1e-4)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_interval_holds_the_median(values: list[float]) -> None:
    ratio = median_interval(np.array(values))
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.confidence >= 0.95 or len(values) < 6


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    draws = np.exp(generator.normal(0, 0.1, (4000, 20)))  # true median 1
    hits = [r.low <= 1 <= r.high for r in map(median_interval, draws)]
    assert np.mean(hits) == pytest.approx(0.9586, abs=0.012)


def test_a_comparison_needs_both_sides(
    fake_device: Make, round_of: Make, model_of: Make
) -> None:
    device = fake_device(
        lambda name, v: Failure("load", "boom") if name == "b" else round_of(1.0)
    )
    with pytest.raises(BenchError, match="b.tflite.*'load'.*boom"):
        compare(device, [model_of("a"), model_of("b")], FOUR)
    with pytest.raises(BenchError, match="at least two"):
        compare(device, [model_of("a")], FOUR)
    with pytest.raises(BenchError, match="different names"):
        compare(device, [model_of("a"), model_of("a")], FOUR)
    silent = fake_device(lambda name, v: None if name == "b" else round_of(1.0))
    with pytest.raises(BenchError, match="left out"):
        compare(silent, [model_of("a"), model_of("b")], FOUR)


def test_an_unknown_name_is_told(
    fake_device: Make, round_of: Make, model_of: Make
) -> None:
    device = fake_device(lambda name, visit: round_of(1.0))
    result = compare(device, [model_of("a"), model_of("b")], FOUR)
    with pytest.raises(BenchError, match="'c' was not compared; accepted: a, b"):
        result.ratio("a", "c")
