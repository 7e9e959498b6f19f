"""Measures a search's finalists on the device, as the linked files they would be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.devices import open_device
from mess_tf.commands.cards import Source
from mess_tf.commands.export import write_export
from mess_tf.commands.latencies import network_input, tensor_of
from mess_tf.commands.on_device import answers_on_device
from mess_tf.core.errors import MessError
from mess_tf.data.open import open_data
from mess_tf.exporting.options import ExportForm
from mess_tf.terminal.progress import Step, progress
from search.finalists import pick

ROUNDS = 3


def measured(
    source: Source, result: Any, reached: Any, step: Step
) -> list[tuple[float, float]]:
    """Runs a result's finalists over the calibration images, in turns.

    Args:
        source: what they are linked from.
        result: of a search for several finalists.
        reached: the opened device.
        step: told after every round of a finalist.

    Returns:
        Per finalist its latency over the images, ms: mean and 90th percentile.

    Raises:
        BenchError: the device cannot be used, or a file fails on it.
        MessError: the files cannot be written.
    """
    threads, form = source.latencies.threads, ExportForm()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folders, cards = [], []
        for number, finalist in enumerate(result.finalists):
            own = Path(folder, str(number))
            own.mkdir()
            name = f"{result.name}_{number}"
            folders.append(own)
            try:
                card = write_export(source, result, finalist.outcome, form, own, name)
            except OSError as error:
                raise MessError(
                    f"Finalists cannot be written to {folder} ({error.strerror}); free"
                    " some space, or set TMPDIR. The answers by promise are kept."
                ) from error
            cards.append(card)
        images = _images(source, cards[0])
        rounds: list[list[np.ndarray]] = [[] for _ in cards]
        for _ in range(ROUNDS):
            for number in rng.permutation(len(cards)):
                latency_ms, _ = answers_on_device(
                    folders[number], cards[number], images, reached, threads, passes=1
                )
                rounds[number].append(latency_ms)
                step()
    per_image = [np.median(own, axis=0) for own in rounds]
    return [(float(ms.mean()), float(np.quantile(ms, 0.9))) for ms in per_image]


def _images(source: Source, card: dict[str, Any]) -> list[np.ndarray]:
    """The calibration images as the files take them: what was chosen on is measured."""
    data = open_data(source.run.recipe.data)
    image_input = tensor_of(card["input"])
    return [
        network_input(
            data.evaluation.load(i).image, image_input, source.spec.preprocessing
        )
        for i, part in enumerate(data.parts)
        if part == "calibration"
    ]


def pick_by_measurement(source: Source, results: list[Any], device: str) -> list[Any]:
    """Results with several finalists are answered by the one that measures best."""
    several = sum(len(r.finalists) for r in results if len(r.finalists) > 1)
    if not several:
        return results
    picked = []
    with (
        progress(f"Measuring finalists on {device}", several * ROUNDS) as step,
        open_device(device) as reached,
    ):
        for result in results:
            if len(result.finalists) > 1:
                seen = measured(source, result, reached, step)
                result = pick(result, seen)
            picked.append(result)
    return picked
