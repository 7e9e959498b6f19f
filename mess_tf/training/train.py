"""Two-stage training of a recipe's supernet, into a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mess_tf.data.assemble import BatchMaker
from mess_tf.data.augment import Augmentation
from mess_tf.data.open import OpenedData, open_data
from mess_tf.data.prefetch import Prefetcher
from mess_tf.models.weights import load_backbone_weights
from mess_tf.recipe import Recipe
from mess_tf.records import SupernetSpec
from mess_tf.supernet import Supernet, build_supernet, design_supernet
from mess_tf.training.log import ScalarLog
from mess_tf.training.loop import Batch, EpochData, Progress, run_stage
from mess_tf.training.losses import class_weights
from mess_tf.training.stages import (
    Optimisation,
    StageOne,
    StageTwo,
    stage_one_spec,
    supernet_after_stage_one,
)

OpenProgress = Callable[[str, int], AbstractContextManager[Progress]]
"""Called as f(what is done, total steps); gives a ``Progress``."""


def train_supernet(
    recipe: Recipe, folder: Path, work: Path, open_progress: OpenProgress
) -> Supernet:
    """Trains a supernet and writes ``supernet.keras`` and ``supernet.json``.

    Goes on from the checkpoints in ``work`` where there are any. Calling it again after
    it has finished changes nothing.

    Args:
        recipe: what to train.
        folder: of the run.
        work: folder of checkpoints and logs.
        open_progress: gives a progress display per stage.

    Raises:
        MessError: data, recipe or checkpoints cannot be used.
    """
    data = open_data(recipe.data)
    spec = design_from_recipe(recipe, data.train.classes)
    fingerprint = _fingerprint(recipe, data)
    weights = _class_weights(recipe, data)
    training = recipe.training
    with ScalarLog(work / "tensorboard") as log:
        trained = _stage_one(
            recipe, spec, data, weights, work, fingerprint, log, open_progress
        )
        # Initial weights of the heads must not depend on where stage 1 was resumed.
        keras.utils.set_random_seed(training.seed + 1)
        supernet = supernet_after_stage_one(spec, trained)
        two = _epochs(recipe, spec, data, training.stage2_epochs)
        stage = StageTwo(
            supernet,
            _optimisation(recipe, two.total_steps, training.stage2_learning_rate),
            weights,
            training.alpha,
        )
        two.run(
            stage, work, fingerprint, log, open_progress("Stage 2", two.total_steps)
        )
    supernet.save(folder)
    return supernet


def design_from_recipe(recipe: Recipe, classes: tuple[str, ...]) -> SupernetSpec:
    """Lays out the supernet that a recipe asks for."""
    network = recipe.network
    return design_supernet(
        network.backbone,
        classes,
        image_size=(network.height, network.width),
        final_heads=recipe.heads.final_heads(),
        early_heads=recipe.heads.early_heads(),
        backbone_options=network.backbone_options(),
        output_stride=network.output_stride,
        exits=network.exits,
        exit_layers=network.exit_layers,
        head_options=network.head_options(),
        logits_stride=network.logits_stride,
    )


def _stage_one(
    recipe: Recipe,
    spec: SupernetSpec,
    data: OpenedData,
    weights: np.ndarray,
    work: Path,
    fingerprint: str,
    log: ScalarLog,
    open_progress: OpenProgress,
) -> Supernet:
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    supernet = build_supernet(stage_one_spec(spec))
    load_backbone_weights(supernet, recipe.network.weights)
    one = _epochs(recipe, spec, data, training.stage1_epochs)
    stage = StageOne(
        supernet,
        _optimisation(recipe, one.total_steps, training.learning_rate),
        weights,
        training.early_exits_per_step,
    )
    one.run(stage, work, fingerprint, log, open_progress("Stage 1", one.total_steps))
    return supernet


def _class_weights(recipe: Recipe, data: OpenedData) -> np.ndarray:
    """Pixel weights by class; the training labels are only read where they count."""
    classes = len(data.train.classes)
    pixels = np.ones(classes)
    if recipe.training.class_balance:
        labels = (data.train.load(i).labels.ravel() for i in range(len(data.train)))
        counts = [np.bincount(own, minlength=256)[:classes] for own in labels]
        pixels = np.sum(counts, axis=0)
    return class_weights(pixels, recipe.training.class_balance)


def _optimisation(recipe: Recipe, total_steps: int, rate: float) -> Optimisation:
    training = recipe.training
    return Optimisation(
        total_steps=total_steps,
        optimizer=training.optimizer,
        learning_rate=rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        power=training.power,
        warmup_steps=training.warmup_steps,
    )


@dataclasses.dataclass(frozen=True)
class _Epochs:
    """Batches of a stage: for training, and for the mIoU after each epoch."""

    train: BatchMaker
    evaluation: BatchMaker
    epochs: int
    workers: int
    processes: bool

    @property
    def total_steps(self) -> int:
        return self.epochs * len(self.train)

    def run(
        self,
        stage: StageOne | StageTwo,
        work: Path,
        fingerprint: str,
        log: ScalarLog,
        open_progress: AbstractContextManager[Progress],
    ) -> None:
        workers = max(1, self.workers)
        with (
            Prefetcher(self.train, workers, processes=self.processes) as train,
            Prefetcher(self.evaluation, workers) as evaluation,
            open_progress as progress,
        ):

            def evaluate() -> Iterator[Batch]:
                return evaluation.epoch(0)

            data = EpochData(train.epoch, evaluate, len(self.train), self.epochs)
            run_stage(stage, data, work, fingerprint, log, progress)


def _epochs(
    recipe: Recipe, spec: SupernetSpec, data: OpenedData, epochs: int
) -> _Epochs:
    training = recipe.training
    augmentation = Augmentation(
        scale_min=training.scale_min,
        scale_max=training.scale_max,
        crop=training.crop,
        multiple=max(spec.output_stride, training.loss_stride),
        flip=training.flip,
        jitter=training.jitter,
    )
    common: dict[str, Any] = {
        "batch": training.batch,
        "height": spec.image_height,
        "width": spec.image_width,
        "preprocessing": spec.preprocessing,
        "seed": training.seed,
    }
    calibration = data.calibration()
    train = BatchMaker(
        data.train,
        range(len(data.train)),
        augmentation=augmentation,
        label_stride=training.loss_stride,
        **common,
    )
    # The grid on which logits leave is exact enough to watch training by; `mess
    # evaluate` measures at the labels' own resolution.
    evaluation = BatchMaker(
        calibration,
        range(len(calibration)),
        label_stride=spec.output_stride_of_logits,
        **common,
    )
    return _Epochs(
        train, evaluation, epochs, recipe.data.workers, recipe.data.multiprocessing
    )


def _fingerprint(recipe: Recipe, data: OpenedData) -> str:
    """Of everything that decides the trained weights; places and workers do not."""
    table = recipe.to_table()
    decisive = {name: table[name] for name in ("network", "heads", "training")}
    decisive["network"] = {
        key: value
        for key, value in table["network"].items()
        if key != "weights" or value in ("imagenet", "random")
    }
    text = json.dumps(
        [decisive, data.train.names, data.train.classes], sort_keys=True, default=list
    )
    return hashlib.sha256(text.encode()).hexdigest()
