"""The training loop: an epoch of steps, then evaluation, log and checkpoint.

The loop is ours and not ``Model.fit``: stage 2 feeds many small models from one shared
forward pass, and a run that was killed must go on exactly where it stood.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mess_tf.core.segmentation_metrics import Areas, mean_iou
from mess_tf.training.checkpoint import load_checkpoint, save_checkpoint
from mess_tf.training.log import ScalarLog
from mess_tf.training.step_model import total_areas

FINAL = "final"
"""Name of the final exit among those of ``Stage.evaluate``."""

Batch = tuple[np.ndarray, np.ndarray]
Progress = Callable[[int, str], None]
"""Called as f(finished steps since the last call, a few words on how it goes)."""


class Stage(Protocol):
    """One stage of training."""

    @property
    def name(self) -> str: ...

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float: ...

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]: ...

    def variables(self) -> list[Any]: ...


@dataclass(frozen=True)
class EpochData:
    """Where a stage's batches come from.

    Attributes:
        train: epoch number (0-based) -> its batches, the same for the same number.
        evaluation: a function that gives the evaluation batches anew.
        steps: batches in an epoch.
        epochs: how many at most.
        min_gain: training ends after an epoch in which no exit but ``final`` gained as
            much mIoU (0..1) over its best before; 0 = never.
    """

    train: Callable[[int], Iterable[Batch]]
    evaluation: Callable[[], Iterable[Batch]]
    steps: int
    epochs: int
    min_gain: float = 0.0


def run_stage(
    stage: Stage,
    data: EpochData,
    folder: Path,
    fingerprint: str,
    log: ScalarLog,
    progress: Progress,
) -> None:
    """Trains a stage from its last checkpoint to its end.

    After every epoch a line is appended to ``<folder>/<stage>.jsonl``: epoch, mean
    loss, mIoU per exit (on the label grid), seconds, training images per second.

    Args:
        stage: what is trained.
        data: its batches.
        folder: of checkpoints and logs.
        fingerprint: of everything that decides the result; a checkpoint of another one
            is refused.
        log: scalars for TensorBoard.
        progress: called after every step.
    """
    checkpoint = folder / f"{stage.name}.npz"
    history = folder / f"{stage.name}.jsonl"
    done = load_checkpoint(checkpoint, stage.variables(), fingerprint)
    _drop_lines_after(history, done)
    progress(done * data.steps, "")
    for epoch in range(done, data.epochs):
        if _has_settled(history, data.min_gain):
            progress((data.epochs - epoch) * data.steps, f"settled at epoch {epoch}")
            break
        started = time.monotonic()
        losses: list[float] = []
        images = 0
        for number, batch in enumerate(data.train(epoch)):
            losses.append(stage.step(*batch, step=epoch * data.steps + number))
            images += len(batch[0])
            progress(1, f"epoch {epoch + 1}/{data.epochs}, loss {np.mean(losses):.3f}")
        seconds = time.monotonic() - started
        miou = {
            name: mean_iou(areas)
            for name, areas in total_areas(
                [stage.evaluate(*batch) for batch in data.evaluation()]
            ).items()
        }
        loss = float(np.mean(losses))
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            "miou": miou,
            "seconds": seconds,
            "images_per_s": images / seconds,
        }
        with history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        log.add(epoch + 1, {f"{stage.name}/loss": loss}, stage.name, miou)
        # The checkpoint comes last: a kill before it repeats this epoch, and the line
        # written for it is dropped when the stage goes on.
        save_checkpoint(checkpoint, stage.variables(), epoch + 1, fingerprint)


def _has_settled(history: Path, min_gain: float) -> bool:
    """Whether no exit but the final one gained ``min_gain`` in the last epoch."""
    if not min_gain or not history.is_file():
        return False
    lines = history.read_text(encoding="utf-8").splitlines()
    if len(lines) < 2:
        return False
    *before, last = (json.loads(line)["miou"] for line in lines)
    return all(
        value - max(row[name] for row in before) < min_gain
        for name, value in last.items()
        if name != FINAL
    )


def _drop_lines_after(path: Path, count: int) -> None:
    """Truncates the log to ``count`` lines: later epochs have no checkpoint."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:count]), encoding="utf-8")
