"""Statistics survive their file whole, and parts are those that were asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics, part_images
from tests.support.search_problems import tiny_spec, tiny_statistics


@pytest.fixture
def statistics() -> Statistics:
    made = tiny_statistics(tiny_spec((2, 3, 1)), np.random.default_rng(0))
    numbers = np.arange(12, dtype=np.float32).reshape(6, 2)
    return dataclasses.replace(made, parameters={"gate": numbers})


def test_a_file_gives_back_what_was_written(
    statistics: Statistics, tmp_path: Path
) -> None:
    statistics.save(tmp_path / "int8.npz")
    back = Statistics.load(tmp_path / "int8.npz")
    for name in ("images", "groups", "parts", "heads", "classes", "source", "schema"):
        assert getattr(back, name) == getattr(statistics, name), name
    for name in ("true_area", "predicted_area", "intersection"):
        np.testing.assert_array_equal(getattr(back, name), getattr(statistics, name))
    assert list(back.confidence) == list(statistics.confidence)
    for key, values in statistics.confidence.items():
        np.testing.assert_array_equal(back.confidence[key], values)
    assert back.parameters_of("gate@0.9", 1) == (2.0, 3.0)
    assert back.parameters_of("mean", 1) == ()


def test_parts_are_indices_of_their_images(statistics: Statistics) -> None:
    both = [part_images(statistics, part) for part in ("calibration", "report")]
    assert sorted(np.concatenate(both).tolist()) == list(range(len(statistics.images)))
    assert all(statistics.parts[i] == "report" for i in both[1])


def test_a_broken_file_and_a_missing_one_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MessError, match="No statistics at .*Run `mess evaluate"):
        Statistics.load(tmp_path / "run" / "statistics" / "int8.npz")
    (tmp_path / "int8.npz").write_bytes(b"no archive")
    with pytest.raises(MessError, match="cannot be read .* `mess evaluate` again"):
        Statistics.load(tmp_path / "int8.npz")
