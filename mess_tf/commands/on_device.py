"""Runs an export on a device over images, as one file or stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from android_bench.device import Device
from android_bench.measure import run_inference
from android_bench.records import MeasureSettings, ModelFile
from mess_tf.commands.latencies import tensor_of

if TYPE_CHECKING:
    from mess_tf.runtime.linked_model import Prediction

PASSES = 2
"""Rounds over all images; an image's latency is the median of its rounds."""


def answers_on_device(
    folder: Path,
    card: dict[str, Any],
    images: Sequence[np.ndarray],
    reached: Device,
    threads: int,
    passes: int = PASSES,
    step: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, list[Prediction]]:
    """Runs an export over images.

    Args:
        folder: of the export.
        card: of the export.
        images: as the export takes them, each of shape (H, W, 3).
        reached: the opened device.
        threads: CPU threads.
        passes: rounds over all images.
        step: called once per image and round, for a progress display.

    Returns:
        Median latency per image, float64 array of shape (n,), milliseconds (of stages:
        the sum over the files that an image needs); and per image its ``Prediction``.

    Raises:
        BenchError: the device cannot be used, or a file fails on it.
    """
    from mess_tf.runtime.linked_model import as_input

    info = tensor_of(card["input"])
    given = [as_input(image, info, folder) for image in images]
    latencies = []
    runner = _DeviceRunner(reached, folder, threads)
    for _ in range(passes):
        if card["form"]["form"] == "stages":
            latency_ms, answers = _follow_plan(runner, folder, given, step)
        else:
            latency_ms, answers = _run_file(runner, card, given, step)
        latencies.append(latency_ms)
    return np.median(latencies, axis=0), answers


def anytime_answers_on_device(
    folder: Path,
    card: dict[str, Any],
    images: Sequence[np.ndarray],
    reached: Device,
    threads: int,
    passes: int = PASSES,
    step: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, list[list[Prediction]]]:
    """Runs a progressive export over images, every stage on every image.

    Arguments and errors as of ``answers_on_device``.

    Returns:
        Milliseconds from the image to each answer, float64 array of shape (stages, n):
        the sum over the files up to the stage, median over the rounds; earlier stages'
        answer files are paid too. And per stage the ``Prediction`` of each image.
    """
    from mess_tf.runtime.linked_model import as_input
    from mess_tf.runtime.stage_plan import StagedModel

    info = tensor_of(card["input"])
    model = StagedModel(folder)
    runner = _DeviceRunner(reached, folder, threads)
    ready_ms: list[list[np.ndarray]] = []
    answers: list[list[Prediction]] = []
    for _ in range(passes):
        tensors = [
            {model.image.name: as_input(image, info, folder)} for image in images
        ]
        spent_ms = np.zeros(len(images))
        ready, answers = [], []
        for stage in model.plan.stages:
            read = [tensor.name for tensor in stage.inputs]
            taken_ms, made = runner.run(
                stage.file, [{name: row[name] for name in read} for row in tensors]
            )
            spent_ms = spent_ms + taken_ms
            for row, new in zip(tensors, made, strict=True):
                row.update(new)
            outputs = [{"logits": row[stage.logits]} for row in tensors]
            if stage.answer is not None:
                given = [{stage.logits: row[stage.logits]} for row in tensors]
                taken_ms, outputs = runner.run(stage.answer, given)
                spent_ms = spent_ms + taken_ms
            ready.append(spent_ms)
            answers.append([model.read(output, stage) for output in outputs])
        ready_ms.append(ready)
        for _ in images:
            step()
    return np.median(ready_ms, axis=0), answers


class _DeviceRunner:
    """Runs files of one folder on an opened device."""

    def __init__(self, reached: Device, folder: Path, threads: int) -> None:
        self._reached = reached
        self._folder = folder
        self._settings = MeasureSettings.preset("quick", threads)

    def run(
        self, name: str, inputs: Iterable[dict[str, np.ndarray]]
    ) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """(latencies in ms, outputs by name) per item of inputs by name."""
        file = ModelFile.read(self._folder / name)
        answer = run_inference(self._reached, file, iter(inputs), self._settings)
        return answer.latencies_us / 1000, [dict(outputs) for outputs in answer.outputs]


def _run_file(
    runner: _DeviceRunner,
    card: dict[str, Any],
    images: Sequence[np.ndarray],
    step: Callable[[], object],
) -> tuple[np.ndarray, list[Prediction]]:
    from mess_tf.runtime.linked_model import read_prediction
    from mess_tf.runtime.signature_names import EXIT, THRESHOLDS

    row = card["outputs"].get("logits")
    logits = None if row is None else tensor_of(row)
    fixed = {}
    if card["thresholds"]["input"]:
        fixed[THRESHOLDS] = np.array(card["thresholds"]["default"], np.float32)
    name = card["input"]["name"]

    def inputs() -> Iterator[dict[str, np.ndarray]]:
        for image in images:
            yield {name: image, **fixed}
            step()

    latency_ms, outputs = runner.run(card["model"], inputs())
    return latency_ms, [read_prediction(o, logits, int(o[EXIT][0])) for o in outputs]


def _follow_plan(
    runner: _DeviceRunner,
    folder: Path,
    images: Sequence[np.ndarray],
    step: Callable[[], object],
) -> tuple[np.ndarray, list[Prediction]]:
    """Every stage on all images that are still under way."""
    from mess_tf.runtime.signature_names import CONFIDENCE
    from mess_tf.runtime.stage_plan import StagedModel

    model = StagedModel(folder)
    tensors = [{model.image.name: image} for image in images]
    latency_ms = np.zeros(len(images))
    predictions: dict[int, Prediction] = {}
    going = list(range(len(images)))

    def run(
        name: str, inputs: Sequence[str], on: list[int]
    ) -> list[dict[str, np.ndarray]]:
        given = [{key: tensors[i][key] for key in inputs} for i in on]
        taken_ms, outputs = runner.run(name, given)
        latency_ms[on] += taken_ms
        return outputs

    for stage in model.plan.stages:
        if not going:
            break
        read = [info.name for info in stage.inputs]
        for i, made in zip(going, run(stage.file, read, going), strict=True):
            tensors[i].update(made)
        leaving = going
        if stage.decision is not None and stage.threshold is not None:
            read = [stage.logits, *stage.compares]
            decided = run(stage.decision, read, going)
            limit = np.float32(stage.threshold)
            sure = [float(made[CONFIDENCE][0]) >= limit for made in decided]
            leaving = [i for i, leaves in zip(going, sure, strict=True) if leaves]
        if leaving and stage.answer is not None:
            last = run(stage.answer, [stage.logits], leaving)
        else:
            last = [{"logits": tensors[i][stage.logits]} for i in leaving]
        for i, outputs in zip(leaving, last, strict=True):
            predictions[i] = model.read(outputs, stage)
            step()
        going = [i for i in going if i not in predictions]
    return latency_ms, [predictions[i] for i in range(len(images))]
