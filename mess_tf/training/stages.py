"""The two stages as objects that take one step, evaluate, and expose their state.

Stage 1 trains the backbone, the final head and plain FCN heads at every early exit
point; per step only the final exit and *one* early exit (or a few) count, in
round-robin ("exit dropout"). Stage 2 freezes backbone and final head (their batch-norm
statistics too) and trains all other heads on one shared forward pass, with the final
exit as teacher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from mess_tf.metrics import Areas, count_areas
from mess_tf.records import HeadSpec, SupernetSpec
from mess_tf.supernet import Supernet, build_supernet
from mess_tf.training.losses import (
    cross_entropy,
    positive_filtering_distillation,
    resize_to,
)
from mess_tf.training.schedule import OptimizerName, PolyDecay, make_optimizer

# Tracing and JAX compilation grow faster than the graph: more heads than this at one
# exit point are trained by several small models on the same features.
HEADS_PER_GROUP = 16


@dataclass(frozen=True)
class Optimisation:
    """How a stage is optimised; defaults are the supplement's."""

    total_steps: int
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    power: float = 0.9
    warmup_steps: int = 0

    def make(self) -> keras.optimizers.Optimizer:
        schedule = PolyDecay(
            self.learning_rate, self.total_steps, self.power, self.warmup_steps
        )
        return make_optimizer(
            self.optimizer,
            schedule,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


class _Weighted(keras.Model):
    """A model with pixel weights by class, float32 array of shape (C,)."""

    class_weights: np.ndarray


class _Joint(_Weighted):
    """Final exit plus the early exits whose turn it is (stage 1).

    ``y`` is a dict: ``labels`` (B, h, w) int and ``turn`` (B, N-1) float, 1 where an
    early exit counts.
    """

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        height, width = y["labels"].shape[1:3]
        *early, final = [resize_to(p, height, width) for p in _as_list(y_pred)]
        loss = cross_entropy(final, y["labels"], self.class_weights)
        for i, logits in enumerate(early):
            own = cross_entropy(logits, y["labels"], self.class_weights)
            loss = loss + y["turn"][:, i] * own
        return ops.mean(loss)


class _Distilled(_Weighted):
    """Heads of one exit point on frozen features (stage 2).

    ``y`` is a dict: ``labels`` (B, h, w) int and ``teacher`` (B, h, w, C) logits. Heads
    share no weights, so the sum of their losses trains each as if it were alone.
    """

    alpha: float

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        height, width = y["labels"].shape[1:3]
        return sum(
            ops.mean(
                positive_filtering_distillation(
                    resize_to(logits, height, width),
                    y["teacher"],
                    y["labels"],
                    self.alpha,
                    self.class_weights,
                )
            )
            for logits in _as_list(y_pred)
        )


class StageOne:
    """Joint training of backbone, final head and one FCN head per early exit point."""

    name = "stage1"

    def __init__(
        self,
        supernet: Supernet,
        optimisation: Optimisation,
        class_weights: np.ndarray,
        early_exits_per_step: int = 1,
    ) -> None:
        """``supernet`` has the layout of ``stage_one_spec`` and any image size."""
        self.supernet = supernet
        self.early_exits = len(supernet.spec.exit_points) - 1
        self.early_exits_per_step = min(early_exits_per_step, self.early_exits)
        self.model = _Joint(supernet.model.input, supernet.model.outputs, name="joint")
        self.model.class_weights = class_weights
        _compile(self.model, optimisation)

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        """One update; returns the loss.

        Args:
            images: float32 (B, H, W, 3), normalised.
            labels: integers (B, h, w).
            step: number of this step since the stage began; decides whose turn it is.
        """
        turn = np.zeros((len(images), self.early_exits), np.float32)
        first = step * self.early_exits_per_step
        for place in range(first, first + self.early_exits_per_step):
            turn[:, place % self.early_exits] = 1.0
        y = {"labels": labels.astype(np.int32), "turn": turn}
        return float(self.model.train_on_batch(images, y))

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        """Areas per exit on the label grid, named ``exit_1`` … ``final``."""
        logits = _as_list(self.model.predict_on_batch(images))
        names = [f"exit_{i + 1}" for i in range(self.early_exits)] + ["final"]
        return {
            name: _areas(values, labels)
            for name, values in zip(names, logits, strict=True)
        }

    def variables(self) -> list[Any]:
        """Everything a checkpoint has to hold, in a fixed order."""
        return _state(self.model)


class StageTwo:
    """All candidate heads on the frozen backbone."""

    name = "stage2"

    def __init__(
        self,
        supernet: Supernet,
        optimisation: Optimisation,
        class_weights: np.ndarray,
        alpha: float,
    ) -> None:
        """``supernet`` carries stage 1's backbone and final head."""
        self.supernet = supernet
        spec = supernet.spec
        final = supernet.heads(len(spec.exit_points), [spec.final_head.id])
        tensors = supernet.exit_tensors()
        inputs = supernet.head_inputs(len(spec.exit_points), [spec.final_head.id])
        teacher = final([tensors[i - 1] for i in inputs])
        # One model per image size: TensorFlow would otherwise trace a function for
        # sizes that are not known, which Keras' upsampling cannot handle.
        self.frozen = {
            purpose: keras.Model(
                supernet.model.input, [*tensors, *_as_list(teacher)], name="frozen"
            )
            for purpose in ("train", "evaluate")
        }
        for model in self.frozen.values():
            model.trainable = False
        self.groups: list[tuple[tuple[int, ...], list[str], _Distilled]] = []
        for exit_index, ids in _groups(spec):
            # Inputs of a group are placeholders: gradients end at the features.
            graph = supernet.heads(exit_index, ids)
            model = _Distilled(graph.inputs, graph.outputs, name="distilled")
            model.trainable = True
            model.alpha, model.class_weights = alpha, class_weights
            _compile(model, optimisation)
            names = [f"exit_{exit_index}/{head_id}" for head_id in ids]
            self.groups.append((supernet.head_inputs(exit_index, ids), names, model))

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        """One update of every head; returns the sum of losses."""
        features, teacher = self._features("train", images, labels.shape[1:3])
        y = {"labels": labels.astype(np.int32), "teacher": teacher}
        return sum(
            float(model.train_on_batch([features[i - 1] for i in inputs], y))
            for inputs, _, model in self.groups
        )

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        """Areas per head on the label grid, ``exit_<k>/<id>``, and of ``final``."""
        features, teacher = self._features("evaluate", images, labels.shape[1:3])
        result = {"final": _areas(teacher, labels)}
        for inputs, names, model in self.groups:
            logits = _as_list(model.predict_on_batch([features[i - 1] for i in inputs]))
            for name, values in zip(names, logits, strict=True):
                result[name] = _areas(values, labels)
        return result

    def variables(self) -> list[Any]:
        """Everything a checkpoint has to hold, in a fixed order."""
        return [v for _, _, model in self.groups for v in _state(model)]

    def _features(
        self, purpose: str, images: np.ndarray, grid: Sequence[int]
    ) -> tuple[list[np.ndarray], np.ndarray]:
        *features, teacher = _as_list(self.frozen[purpose].predict_on_batch(images))
        return features, _resized(teacher, grid)


def stage_one_spec(spec: SupernetSpec) -> SupernetSpec:
    """Layout of stage 1: plain FCN heads at the early exits, the final head alone.

    Plain FCN heads are our choice where the paper's text is silent; they are thrown
    away after the stage.
    """
    early = len(spec.exit_points) - 1
    heads = ((HeadSpec(),),) * early + ((spec.final_head,),)
    return dataclasses.replace(spec, heads=heads)


def supernet_after_stage_one(spec: SupernetSpec, trained: Supernet) -> Supernet:
    """The full supernet with stage 1's backbone and final head, other heads random."""
    supernet = build_supernet(spec)
    names = {layer.name for layer in trained.backbone().layers}
    final = trained.heads(len(spec.exit_points), [spec.final_head.id])
    names |= {layer.name for layer in final.layers}
    for name in names:
        source = trained.model.get_layer(name) if _has(trained, name) else None
        if source is not None and source.weights:
            supernet.model.get_layer(name).set_weights(source.get_weights())
    return supernet


def _has(supernet: Supernet, name: str) -> bool:
    return any(layer.name == name for layer in supernet.model.layers)


def _groups(spec: SupernetSpec) -> list[tuple[int, list[str]]]:
    groups = []
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        ids = [head.id for head in heads]
        if point.index == len(spec.exit_points):
            ids = ids[1:]  # the final head is the teacher
        groups += [
            (point.index, ids[i : i + HEADS_PER_GROUP])
            for i in range(0, len(ids), HEADS_PER_GROUP)
        ]
    return groups


def _compile(model: keras.Model, optimisation: Optimisation) -> None:
    # XLA on a CPU slows depthwise gradients several times; on accelerators it pays.
    jit: Any = "auto"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        jit = "auto" if tf.config.list_physical_devices("GPU") else False
    model.compile(optimizer=optimisation.make(), jit_compile=jit)
    model.optimizer.build(model.trainable_variables)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _as_list(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _resized(logits: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(resize_to(logits, grid[0], grid[1])))


def _areas(logits: np.ndarray, labels: np.ndarray) -> Areas:
    predicted = _resized(np.asarray(logits), labels.shape[1:3]).argmax(axis=-1)
    return count_areas(labels, predicted, logits.shape[-1])


def total_areas(batches: Sequence[Mapping[str, Areas]]) -> dict[str, Areas]:
    """Sums the areas of several batches per name."""
    totals: dict[str, Areas] = {}
    for batch in batches:
        for name, areas in batch.items():
            totals[name] = totals[name] + areas if name in totals else areas
    return totals
