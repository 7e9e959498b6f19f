"""Running an export over images: who is counted, for the display of what is left."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.commands.on_device import answers_on_device

INPUT = {
    "name": "image",
    "shape": (1, 4, 4, 3),
    "dtype": "uint8",
    "scale": 0.0,
    "zero_point": 0,
}
CARD = {
    "form": {"form": "linked"},
    "model": "model.tflite",
    "input": INPUT,
    "outputs": {},
    "thresholds": {"input": False, "default": []},
}


def test_every_image_is_counted_once_per_round_and_keeps_its_median(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter(([5000.0, 1000.0], [3000.0, 2000.0], [4000.0, 9000.0]))

    def run_inference(_: Any, file: Any, inputs: Any, settings: Any) -> Any:
        given = list(inputs)
        assert [item["image"].shape for item in given] == [(1, 4, 4, 3)] * 2
        outputs = [{"exit": np.array([item["image"].max()])} for item in given]
        return types.SimpleNamespace(
            latencies_us=np.array(next(rounds)), outputs=outputs
        )

    monkeypatch.setattr("mess_tf.commands.on_device.run_inference", run_inference)
    (tmp_path / "model.tflite").write_bytes(b"x")
    images = [np.full((4, 4, 3), exit_point, np.uint8) for exit_point in (1, 2)]
    counted: list[int] = []
    unused: Any = None
    latency_ms, answers = answers_on_device(
        tmp_path, CARD, images, unused, 1, passes=3, step=lambda: counted.append(1)
    )
    assert len(counted) == 2 * 3
    assert latency_ms.tolist() == [4.0, 2.0]
    assert [answer.exit for answer in answers] == [1, 2]
