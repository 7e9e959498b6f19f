"""Quantisation-aware fine-tuning of a run's chosen heads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from mess_tf.core.files import sha256_of
from mess_tf.core.piece_names import head_name
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.dataset import Dataset, open_dataset
from mess_tf.models.supernet import Supernet
from mess_tf.quantising.fake_quantisation import FakeQuantised, fake_quantise, unrounded
from mess_tf.quantising.network_graph import read_network
from mess_tf.quantising.qat_training import Distillation, FineTuning, NetworkOutput
from mess_tf.recipe.recipe import Recipe
from mess_tf.training.log import ScalarLog
from mess_tf.training.schedule import Optimisation
from mess_tf.training.train import OpenProgress, pixel_weights, stage_batches

CALIBRATION_BATCH = 8
_KEY_LENGTH = 12


def fine_tune(
    recipe: Recipe,
    folder: Path,
    work: Path,
    spec: SupernetSpec,
    calibration: Sequence[np.ndarray],
    open_progress: OpenProgress,
    *,
    rounded: bool = True,
) -> FakeQuantised:
    """Fine-tunes chosen heads and the backbone; goes on from the last finished epoch.

    Checkpoints and the log of every epoch lie in a folder of ``work`` that is named
    after all that decides the result, so that another choice of heads or another number
    of epochs starts anew and spoils nothing.

    Args:
        recipe: of the run; ``recipe.quantise`` says how.
        folder: of the run, with the trained supernet.
        work: folder for checkpoints and logs.
        spec: the supernet's structure with the chosen heads only, the final one among
            them.
        calibration: normalised float32 images (H, W, 3) of the training part.
        open_progress: gives a progress display.
        rounded: False trains alike without rounding: the control that tells what more
            training does by itself.

    Raises:
        MessError: not trained yet, data that cannot be used, or a layer that fake
            quantisation cannot follow.
    """
    data = open_dataset(recipe.data)
    supernet = Supernet.load(folder)
    batches = [
        np.stack(calibration[start : start + CALIBRATION_BATCH])
        for start in range(0, len(calibration), CALIBRATION_BATCH)
    ]
    network = read_network(chosen_model(supernet, spec))
    quantised = (
        fake_quantise(network, batches, spec.preprocessing)
        if rounded
        else unrounded(network)
    )
    settings, training = recipe.quantise, recipe.training
    epochs = stage_batches(recipe, spec, data, settings.epochs)
    steps = epochs.total_steps
    optimisation = Optimisation(
        total_steps=steps,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate * settings.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        power=training.power,
        warmup_steps=min(training.warmup_steps, steps // 10),
    )
    stage = FineTuning(
        quantised,
        _teacher(supernet),
        exits_of(spec),
        optimisation,
        pixel_weights(recipe, data, open_progress),
        Distillation(training.loss, training.alpha),
        settled_after=round(steps * settings.settled),
    )
    fingerprint = _fingerprint(recipe, folder, spec, rounded, data)
    checkpoints = work / fingerprint[:_KEY_LENGTH]
    with ScalarLog(checkpoints / "tensorboard") as log:
        display = open_progress("Fine-tuning", steps)
        epochs.run(stage, checkpoints, fingerprint, log, display)
    return quantised


def chosen_model(supernet: Supernet, spec: SupernetSpec) -> keras.Model:
    """The supernet's layers up to the heads of ``spec``, in their order."""
    layers = [f"{head_name(*name)}_logits" for name in spec.head_names()]
    outputs = [supernet.model.get_layer(layer).output for layer in layers]
    return keras.Model(supernet.model.input, outputs, name="chosen")


def exits_of(spec: SupernetSpec) -> list[NetworkOutput]:
    """The outputs of ``chosen_model``, as fine-tuning and its log call them."""
    final = (spec.exit_points[-1].index, spec.final_head.id)
    return [
        NetworkOutput("final", True)
        if name == final
        else NetworkOutput(f"exit_{name[0]}/{name[1]}", False)
        for name in spec.head_names()
    ]


def _teacher(supernet: Supernet) -> keras.Model:
    model = keras.Model(supernet.model.input, supernet.final_logits(), name="teacher")
    model.trainable = False
    return model


def _fingerprint(
    recipe: Recipe,
    folder: Path,
    spec: SupernetSpec,
    rounded: bool,
    data: Dataset,
) -> str:
    """SHA-256 of all that decides the fine-tuned weights."""
    decisive = [
        sha256_of(folder / "supernet.keras"),
        spec.head_names(),
        dataclasses.asdict(recipe.quantise),
        dataclasses.asdict(recipe.training),
        recipe.compile.calibration_images,
        data.train.names,
        rounded,
    ]
    text = json.dumps(decisive, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()
