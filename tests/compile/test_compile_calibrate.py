from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mess_tf.compiling.pieces import compile_supernet
from mess_tf.converting.calibrate import (
    CLIPPED_FRACTION,
    HISTOGRAM_BINS,
    Calibration,
    mse_range,
    percentile_range,
    pixel_range,
)
from mess_tf.converting.convert import InputSpec, convert_function
from mess_tf.core.precisions import CalibrationMethod, Precision
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.models.supernet import Supernet
from mess_tf.runtime.interpreter import LiteRTFile, dequantise, quantise
from tests.support.tiers import sampled

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]


def _counts(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = float(values.min()), float(values.max())
    return np.histogram(values, HISTOGRAM_BINS, (low, high))[0], low, high


def test_percentile_cuts_the_outermost_values_at_either_end() -> None:
    values = np.linspace(-1, 1, 100_000)
    values[:5], values[-5:] = -50.0, 80.0
    low, high = percentile_range(*_counts(values))
    width = 130 / HISTOGRAM_BINS
    assert (
        -1 - width <= low <= -1 + 2 * CLIPPED_FRACTION
        and 1 - 2 * CLIPPED_FRACTION <= high <= 1 + width
    )


def test_ranges_never_lose_zero() -> None:
    for choose in (percentile_range, mse_range):
        low, high = choose(*_counts(np.linspace(3, 5, 1000)))
        assert low == 0 and high >= 4.9
        low, high = choose(*_counts(np.linspace(-5, -3, 1000)))
        assert high == 0 and low <= -4.9
        low, high = choose(np.array([1] + [0] * (HISTOGRAM_BINS - 1)), 2.0, 2.0)
        assert low == 0 and high >= 2


def _loss(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of int8 with this range, by doing it."""
    scale = (high - low) / 255
    zero = np.round(-128 - low / scale)
    steps = np.clip(np.round(values / scale) + zero, -128, 127)
    return float(np.mean(((steps - zero) * scale - values) ** 2))


@pytest.mark.parametrize("seed", range(4))
def test_mse_loses_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(2 + seed, 50_000)
    if seed % 2:
        values = np.maximum(values, 0)
    counts, low, high = _counts(values)
    ours = _loss(values, *mse_range(counts, low, high))
    grid = np.linspace(1, 0.2, 21)
    lows = np.unique(min(low, 0.0) * grid)
    best = min(_loss(values, a, high * b) for a in lows for b in grid)
    assert ours <= 1.05 * best


def test_mse_gives_up_a_value_in_ten_million() -> None:
    counts = np.zeros(HISTOGRAM_BINS, np.int64)
    counts[: HISTOGRAM_BINS // 8] = 10_000_000 * 8 // HISTOGRAM_BINS
    counts[-1] = 1
    low, high = mse_range(counts, 0.0, 8.0)
    assert low == 0 and 1 <= high <= 1.7
    counts[-1] = 10_000
    assert mse_range(counts, 0.0, 8.0) == (0.0, 8.0)


def test_known_pixels_give_one_step_of_int8_each(compile_at: CompileAt) -> None:
    # The calibration images of conftest.py need not hold black or white.
    info = compile_at("int8").pieces["segment_1"].inputs[0]
    assert info.scale == pytest.approx(1 / 127.5, rel=1e-6)
    assert info.zero_point in (-1, 0)
    low, high = pixel_range(Preprocessing((120.0, 110.0, 100.0), (1.0, 1.0, 1.0)))
    assert (low, high) == (-120.0, 155.0)


def test_an_inputs_range_is_the_known_one(compile_at: CompileAt) -> None:
    spec = InputSpec("x", (1, 4, 4, 2))
    sample = np.full((1, 4, 4, 2), 0.25, np.float32)
    content = convert_function(
        lambda x: [x * 2.0],
        [spec],
        ["y"],
        "int8",
        Calibration([[sample]], known={"x": (-1.0, 1.0)}),
    )
    graph = Graph(read_model(content, "test"))
    assert graph.info(graph.inputs[0]).scale == pytest.approx(2 / 255)


def _error(method: CalibrationMethod, samples: list[np.ndarray]) -> float:
    """Mean squared error of an int8 graph on the values it was calibrated with."""
    spec = InputSpec("x", samples[0].shape)
    content = convert_function(
        lambda x: [tf.nn.relu(x + 0.1)],
        [spec],
        ["y"],
        "int8",
        Calibration([[sample] for sample in samples], method),
    )
    file = LiteRTFile(content)
    error = []
    for x in samples:
        y = file.run({"x": quantise(x, file.inputs["x"][1])})["y"]
        got = dequantise(y, file.outputs["y"][1])
        error.append(np.mean((got - np.maximum(x + 0.1, 0)) ** 2))
    return float(np.mean(error))


def test_mse_serves_values_with_a_rare_large_one_better() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.uniform(-1, 1, (1, 64, 64, 8)).astype(np.float32) for _ in range(40)]
    samples[7][0, 3, 3, 3] = 4.0
    assert _error("mse", samples) < 0.6 * _error("minmax", samples)


@pytest.mark.slow
@pytest.mark.parametrize("method", sampled(["percentile", "mse"], 1))
def test_pieces_calibrated_otherwise_fit_together_and_say_so(
    supernet: Supernet,
    compile_at: CompileAt,
    method: CalibrationMethod,
    tmp_path: Path,
) -> None:
    plain = compile_at("int8")
    pieces = compile_supernet(
        supernet,
        tmp_path / "pieces",
        "int8",
        plain.images(12, seed=0),
        ["mean"],
        method=method,
    )
    assert pieces.made == {"calibration": method, "calibration_images": 12}
    assert plain.pieces.made == {"calibration": "minmax", "calibration_images": 12}
    made = {info.name: info for piece in pieces.pieces for info in piece.outputs}
    narrower = 0
    for piece in pieces.pieces:
        for info in piece.inputs:
            if info.name.startswith("exit_"):
                assert info == made[info.name], piece.name
        if piece.kind in ("segment", "head"):
            before = plain.pieces[piece.name].outputs[0].scale
            assert piece.outputs[0].scale <= before * 1.0001
            narrower += piece.outputs[0].scale < before * 0.999
    assert narrower >= 3
