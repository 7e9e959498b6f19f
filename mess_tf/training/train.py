"""Training of a recipe's supernet, into a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.files import sha256_of
from mess_tf.core.supernet_spec import OWN, Preprocessing, SupernetSpec
from mess_tf.data.assemble import BatchMaker
from mess_tf.data.augment import Augmentation
from mess_tf.data.dataset import Dataset, open_dataset
from mess_tf.data.prefetch import Prefetcher
from mess_tf.models.adoption import design_adopted
from mess_tf.models.backbones import get_backbone
from mess_tf.models.exit_placement import narrow_maps
from mess_tf.models.flatten import flatten
from mess_tf.models.imported_network import ADOPTED, network_options, open_model
from mess_tf.models.supernet import Supernet, build_supernet, design_supernet
from mess_tf.models.weights import load_backbone_weights
from mess_tf.recipe.recipe import Recipe
from mess_tf.recipe.sections import BUILT_IN_WEIGHTS, Training
from mess_tf.training.log import ScalarLog
from mess_tf.training.loop import Batch, EpochData, Progress, Stage, run_stage
from mess_tf.training.losses import class_weights
from mess_tf.training.schedule import Optimisation
from mess_tf.training.stage_one import ExitLossConfig, StageOne, stage_one_spec
from mess_tf.training.stage_two import (
    StageTwo,
    copy_trained,
    supernet_after_stage_one,
)
from mess_tf.training.teacher import load_teacher

OpenProgress = Callable[[str, int], AbstractContextManager[Progress]]
"""Called as f(what is done, total steps); returns a ``Progress``."""


def train_supernet(
    recipe: Recipe, folder: Path, work: Path, open_progress: OpenProgress
) -> Supernet:
    """Trains a recipe's supernet and writes ``supernet.keras`` and ``supernet.json``.

    Goes on from the checkpoints in ``work`` where there are any. Calling it again after
    it has finished changes nothing.

    Args:
        recipe: what to train.
        folder: of the run.
        work: folder of checkpoints and logs.
        open_progress: opens a progress display per stage.

    Raises:
        MessError: data, recipe or checkpoints cannot be used.
    """
    data = open_dataset(recipe.data)
    spec = design_from_recipe(recipe, data.train.classes)
    with _data_parallel(recipe.training.devices):
        if recipe.training.mixed_precision:
            with _in_bfloat16():
                trained = _train(recipe, spec, data, work, open_progress)
            supernet = build_supernet(spec)  # what is stored computes in float32
            supernet.model.set_weights(trained.model.get_weights())
        else:
            supernet = _train(recipe, spec, data, work, open_progress)
    supernet.save(folder)
    return supernet


def _data_parallel(devices: int) -> AbstractContextManager[Any]:
    """Scope of data-parallel models: each device takes a part of every batch, and has
    all weights.

    Raises:
        MessError: another backend than JAX, or fewer devices.
    """
    if devices == 1:
        return nullcontext()
    backend = keras.backend.backend()
    if backend != "jax":
        raise MessError(
            f"training.devices = {devices} needs Keras' JAX backend, this is {backend};"
            " set KERAS_BACKEND=jax, or training.devices = 1."
        )
    found = keras.distribution.list_devices()
    if len(found) < devices:
        raise MessError(
            f"training.devices = {devices}, but JAX sees {len(found)}:"
            f" {', '.join(found)}."
        )
    return keras.distribution.DataParallel(devices=found[:devices]).scope()


@contextmanager
def _in_bfloat16() -> Iterator[None]:
    """Layers made in here compute in bfloat16 and keep float32 weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _train(
    recipe: Recipe,
    spec: SupernetSpec,
    data: Dataset,
    work: Path,
    open_progress: OpenProgress,
) -> Supernet:
    """Both stages; see ``train_supernet``."""
    training = recipe.training
    teacher = None
    if training.teacher:
        with open_progress("Loading the teacher", 1) as step:
            teacher = load_teacher(Path(training.teacher), spec)
            step(1, "")
    weights = pixel_weights(recipe, data, open_progress)
    with ScalarLog(work / "tensorboard") as log:

        def run(stage: StageOne | StageTwo, epochs: StageBatches, title: str) -> None:
            display = open_progress(title, epochs.total_steps)
            fingerprint = _fingerprint(recipe, stage, data)
            epochs.run(stage, work, fingerprint, log, display)

        keras.utils.set_random_seed(training.seed)
        with open_progress("Building the network", 1) as step:
            supernet = build_supernet(_stage_one_layout(spec, training))
            load_backbone_weights(supernet, _weights(recipe))
            start = Supernet.load(Path(training.start)) if training.start else None
            if start is not None:
                _copy_layers(start, supernet)
            step(1, "")
        if training.scheme != "heads-only":
            one = stage_batches(recipe, spec, data, training.stage1_epochs)
            optimisation = _optimisation(
                training, one.total_steps, training.learning_rate
            )
            losses = _exit_loss_config(training)
            exit_teacher = teacher if losses.teacher_targets else None
            stage_one = StageOne(supernet, optimisation, weights, losses, exit_teacher)
            run(stage_one, one, "Stage 1")
        if training.scheme != "e2e":
            # Initial weights of the heads must not depend on where stage 1 was resumed.
            keras.utils.set_random_seed(training.seed + 1)
            with open_progress("Building all heads", 1) as step:
                supernet = supernet_after_stage_one(spec, supernet, start)
                step(1, "")
            two = dataclasses.replace(
                stage_batches(recipe, spec, data, training.stage2_epochs),
                min_gain=training.stage2_min_gain_pp / 100,
            )
            optimisation = _optimisation(
                training, two.total_steps, training.stage2_learning_rate
            )
            stage = StageTwo(
                supernet,
                optimisation,
                weights,
                loss=training.loss,
                alpha=training.alpha,
                teacher=teacher if "early" in training.taught else None,
            )
            if stage.groups:  # a network with the final exit alone has none
                run(stage, two, "Stage 2")
    return supernet


def design_from_recipe(recipe: Recipe, classes: tuple[str, ...]) -> SupernetSpec:
    """Lays out the supernet that a recipe asks for."""
    network, size = recipe.network, (recipe.network.height, recipe.network.width)
    common: dict[str, Any] = {
        "final_heads": recipe.heads.final_heads(),
        "early_heads": recipe.heads.early_heads(),
        "exits": network.exits,
        "exit_layers": network.exit_layers,
        "head_options": network.head_options(),
        "logits_stride": network.logits_stride,
    }
    if not network.is_imported:
        return design_supernet(
            network.backbone,
            classes,
            image_size=size,
            backbone_options=network.backbone_options(),
            output_stride=network.output_stride,
            **common,
        )
    flat = flatten(open_model(Path(network.backbone)), size)
    preprocessing = Preprocessing(_triple(network.mean), _triple(network.std))
    spec = design_adopted(flat, preprocessing, classes, **common)
    if spec.backbone_options["size"] and recipe.training.crop != 1:
        raise MessError(
            f"The network in {network.backbone} works only at {size[0]}x{size[1]}: a"
            f" layer of it has that size inside. Set training.crop to 1 (it is"
            f" {recipe.training.crop:g})."
        )
    return spec


def candidate_exit_layers(recipe: Recipe) -> tuple[str, ...]:
    """Layers of a recipe's network that may carry an early exit, in order of depth.

    Maps inside of an expansion are left out, and those on grids that are no multiple of
    the logits' stride.
    """
    network, size = recipe.network, (recipe.network.height, recipe.network.width)
    name, options = network.backbone, network.backbone_options()
    if network.is_imported:
        flat = flatten(open_model(Path(network.backbone)), size)
        name, options = (
            ADOPTED,
            network_options(
                flat,
                Preprocessing(_triple(network.mean), _triple(network.std)),
                own_end=OWN in [head.kind for head in recipe.heads.final_heads()],
                exits=None,
                logits_stride=network.logits_stride,
            ),
        )
    stride = network.output_stride
    backbone = get_backbone(name, stride, options)
    image = keras.Input((*size, 3))
    *ends, _ = backbone.build(image, stride, {**backbone.options, **options})
    ends = [end for end in ends if end.stride % network.logits_stride == 0]
    narrow = narrow_maps([tuple(end.tensor.shape[1:]) for end in ends])
    return tuple(ends[i].layer for i in narrow)


def _copy_layers(source: Supernet, target: Supernet) -> None:
    """Copies the weights of all layers that both have.

    Raises:
        MessError: the backbones differ.
    """
    layers = {layer.name: layer for layer in source.model.layers}
    for layer in target.backbone().layers:
        if not layer.weights:
            continue
        shapes = [tuple(w.shape) for w in layer.weights]
        theirs = layers.get(layer.name)
        if theirs is None or [tuple(w.shape) for w in theirs.weights] != shapes:
            raise MessError(
                f"training.start names a run of another network: it has no layer"
                f" {layer.name!r} of shapes {shapes}. Name a run of the same one."
            )
    copy_trained(source, target)


def _triple(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _weights(recipe: Recipe) -> str:
    network = recipe.network
    return network.backbone if network.weights == "own" else network.weights


def _stage_one_layout(spec: SupernetSpec, training: Training) -> SupernetSpec:
    if training.scheme == "e2e":
        return spec
    return stage_one_spec(spec, early=training.scheme == "two-stage")


def _exit_loss_config(training: Training) -> ExitLossConfig:
    taught = training.taught if training.teacher else ()
    if training.scheme == "e2e":
        return ExitLossConfig(sys.maxsize, training.loss, training.alpha, taught)
    # Early exits learn from labels alone here; stage 2 is where they are taught.
    taught = ("final",) if "final" in taught else ()
    return ExitLossConfig(
        training.early_exits_per_step, alpha=training.alpha, teacher_targets=taught
    )


def pixel_weights(
    recipe: Recipe, data: Dataset, open_progress: OpenProgress
) -> np.ndarray:
    """Pixel weights by class; the training labels are only read where they count."""
    classes = len(data.train.classes)
    pixels = np.ones(classes)
    if recipe.training.class_balance:
        pixels = np.zeros(classes)
        with open_progress("Counting pixels of each class", len(data.train)) as step:
            for index in range(len(data.train)):
                labels = data.train.load(index).labels.ravel()
                pixels += np.bincount(labels, minlength=256)[:classes]
                step(1, "")
    return class_weights(pixels, recipe.training.class_balance)


def _optimisation(training: Training, total_steps: int, rate: float) -> Optimisation:
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
class StageBatches:
    """Batches of a stage: for training, and for the mIoU after each epoch."""

    train: BatchMaker
    evaluation: BatchMaker
    epochs: int
    workers: int
    processes: bool
    min_gain: float = 0.0

    @property
    def total_steps(self) -> int:
        return self.epochs * len(self.train)

    def run(
        self,
        stage: Stage,
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

            data = EpochData(
                train.epoch, evaluate, len(self.train), self.epochs, self.min_gain
            )
            run_stage(stage, data, work, fingerprint, log, progress)


def stage_batches(
    recipe: Recipe, spec: SupernetSpec, data: Dataset, epochs: int
) -> StageBatches:
    """A recipe's batches for ``epochs`` epochs, augmented as it says."""
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
    # evaluate` measures at the resolution of the labels.
    evaluation = BatchMaker(
        calibration,
        range(len(calibration)),
        label_stride=spec.output_stride_of_logits,
        **common,
    )
    return StageBatches(
        train, evaluation, epochs, recipe.data.workers, recipe.data.multiprocessing
    )


def _fingerprint(recipe: Recipe, stage: StageOne | StageTwo, data: Dataset) -> str:
    """Of all that decides the weights after a stage; places and workers do not.

    What stage 2 alone reads is no part of stage 1's, so that its checkpoint serves
    trainings with other candidate heads or another second stage.
    """
    table = recipe.to_table()
    network, training = dict(table["network"]), dict(table["training"])
    del network["exit_placement"]  # the exits that it led to are in the spec
    if recipe.network.is_imported:
        network["backbone"] = sha256_of(Path(network["backbone"]))
    else:
        del network["mean"], network["std"]
    if network["weights"] not in BUILT_IN_WEIGHTS:
        del network["weights"]
    if start := training.pop("start"):
        training["start"] = sha256_of(Path(start) / "supernet.keras")
    teacher, taught = training.pop("teacher"), training.pop("taught")
    if not training["stage2_min_gain_pp"]:  # as before there was such a setting
        del training["stage2_min_gain_pp"]
    if stage.name == StageOne.name:
        taught = _exit_loss_config(recipe.training).teacher_targets
        late = {"stage2_epochs", "stage2_learning_rate", "stage2_min_gain_pp"}
        if training["scheme"] != "e2e":
            late |= {"loss"} if taught else {"loss", "alpha"}
        training = {key: value for key, value in training.items() if key not in late}
    if teacher and taught:
        training["taught"] = taught
        training["teacher"] = sha256_of(Path(teacher) / "supernet.keras")
    heads = stage.supernet.spec.head_names()
    decisive = [network, heads, training, data.train.names, data.train.classes]
    text = json.dumps(decisive, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()
