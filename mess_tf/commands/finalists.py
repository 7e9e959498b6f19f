"""Measures a search's finalists on the device, as the linked files they would be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.device import Device
from android_bench.devices import open_device
from mess_tf.commands.cards import Choice, Source
from mess_tf.commands.export import write_export
from mess_tf.commands.latencies import network_input, tensor_of
from mess_tf.commands.on_device import answers_on_device
from mess_tf.core.errors import MessError
from mess_tf.data.dataset import open_dataset
from mess_tf.exporting.options import ExportForm
from mess_tf.terminal.progress import Step, progress
from search.finalists import rerank_by_measurement
from search.result import SearchResult

ROUNDS = 3


def measure_finalists(
    source: Source, result: SearchResult, reached: Device, step: Step
) -> list[np.ndarray]:
    """Latencies of a result's finalists over the calibration images, run in turns.

    Args:
        source: what they are linked from.
        result: of a search for several finalists.
        reached: the opened device.
        step: called after every round of a finalist.

    Returns:
        Per finalist the median latency of each image, ms, float64 array of shape (I,).

    Raises:
        BenchError: the device cannot be used, or a file fails on it.
        MessError: the files cannot be written.
    """
    threads, form = source.latencies.threads, ExportForm()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folders, cards = [], []
        for number, finalist in enumerate(result.finalists):
            export = Path(folder, str(number))
            export.mkdir()
            name = f"{result.name}_{number}"
            folders.append(export)
            try:
                choice = Choice(result, finalist.outcome)
                card = write_export(source, choice, form, export, name)
            except OSError as error:
                raise MessError(
                    f"Finalists cannot be written to {folder} ({error.strerror}); free"
                    " some space, or set TMPDIR. The results by promise are stored."
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
    return [np.median(taken, axis=0) for taken in rounds]


def _images(source: Source, card: dict[str, Any]) -> list[np.ndarray]:
    """The calibration images as the files take them: what was chosen on is measured."""
    data = open_dataset(source.run.recipe.data)
    image_input = tensor_of(card["input"])
    return [
        network_input(
            data.evaluation.load(i).image, image_input, source.spec.preprocessing
        )
        for i, part in enumerate(data.parts)
        if part == "calibration"
    ]


def pick_by_measurement(
    source: Source, results: Sequence[SearchResult], device: str
) -> list[SearchResult]:
    """The results, those with several finalists reranked by measured latency."""
    several = sum(len(r.finalists) for r in results if len(r.finalists) > 1)
    if not several:
        return list(results)
    picked = []
    with (
        progress(f"Measuring finalists on {device}", several * ROUNDS) as step,
        open_device(device) as reached,
    ):
        for result in results:
            if len(result.finalists) > 1:
                latency_ms = measure_finalists(source, result, reached, step)
                result = rerank_by_measurement(result, latency_ms)
            picked.append(result)
    return picked
