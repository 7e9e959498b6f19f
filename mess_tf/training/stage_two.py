"""Stage 2: every candidate head on the frozen backbone, one shared forward pass.

Backbone and final head are frozen, their batch-norm statistics too. The final exit is
the teacher, unless another run's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mess_tf.core.segmentation_metrics import Areas
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.models.supernet import Supernet, build_supernet
from mess_tf.recipe.sections import ExitLoss
from mess_tf.training.losses import exit_loss, resize_to
from mess_tf.training.schedule import Optimisation
from mess_tf.training.step_model import (
    StepModel,
    areas_on_grid,
    as_list,
    compile_model,
    predicted,
    resized,
    state,
)
from mess_tf.training.teacher import Teacher

# Tracing and JAX compilation grow faster than the graph: more heads than this at one
# exit point are trained by several small models on the same features.
HEADS_PER_GROUP = 16


class _DistilledHeads(StepModel):
    """Heads of one exit point on frozen features (stage 2).

    ``y`` is a dict: ``labels`` (B, h, w) int and ``teacher`` (B, h, w, C) logits. Heads
    share no weights, so the sum of their losses trains each as if it were alone.
    """

    loss_name: ExitLoss
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
                exit_loss(
                    self.loss_name,
                    resize_to(logits, height, width),
                    y["teacher"],
                    y["labels"],
                    self.alpha,
                    self.class_weights,
                )
            )
            for logits in as_list(y_pred)
        )


class StageTwo:
    """All candidate heads on the frozen backbone."""

    name = "stage2"

    def __init__(
        self,
        supernet: Supernet,
        optimisation: Optimisation,
        class_weights: np.ndarray,
        *,
        loss: ExitLoss = "pfd",
        alpha: float = 0.5,
        teacher: Teacher | None = None,
    ) -> None:
        """``supernet`` carries stage 1's backbone and final head; ``teacher`` teaches
        in place of the latter."""
        self.supernet = supernet
        self.teacher = teacher
        spec = supernet.spec
        final = supernet.heads(len(spec.exit_points), [spec.final_head.id])
        tensors = supernet.exit_tensors()
        inputs = supernet.head_inputs(len(spec.exit_points), [spec.final_head.id])
        logits = final([tensors[i - 1] for i in inputs])
        # One model per image size: TensorFlow would otherwise trace a function for
        # sizes that are not known, which Keras' upsampling cannot handle.
        self.frozen = {
            purpose: keras.Model(
                supernet.model.input, [*tensors, *as_list(logits)], name="frozen"
            )
            for purpose in ("train", "evaluate")
        }
        for model in self.frozen.values():
            model.trainable = False
        self.groups: list[tuple[tuple[int, ...], list[str], _DistilledHeads]] = []
        for exit_index, ids in _head_groups(spec):
            # Inputs of a group are placeholders: gradients end at the features.
            graph = supernet.heads(exit_index, ids)
            model = _DistilledHeads(graph.inputs, graph.outputs, name="distilled")
            model.trainable = True
            model.class_weights = class_weights
            model.loss_name, model.alpha = loss, alpha
            compile_model(model, optimisation)
            names = [f"exit_{exit_index}/{head_id}" for head_id in ids]
            self.groups.append((supernet.head_inputs(exit_index, ids), names, model))

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        """One update of every head; returns the sum of losses."""
        features, teacher = self._features("train", images, labels.shape[1:3])
        if self.teacher is not None:  # in the final exit's place
            teacher = self.teacher.answer(images, labels.shape[1:3])
        y = {"labels": labels.astype(np.int32), "teacher": teacher}
        return sum(
            float(model.train_on_batch([features[i - 1] for i in inputs], y))
            for inputs, _, model in self.groups
        )

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        """Areas per head on the label grid, ``exit_<k>/<id>``, and of ``final``."""
        features, final = self._features("evaluate", images, labels.shape[1:3])
        result = {"final": areas_on_grid(final, labels)}
        for inputs, names, model in self.groups:
            logits = predicted(model, [features[i - 1] for i in inputs])
            for name, values in zip(names, logits, strict=True):
                result[name] = areas_on_grid(values, labels)
        return result

    def variables(self) -> list[Any]:
        """Everything a checkpoint has to hold, in a fixed order."""
        return [v for _, _, model in self.groups for v in state(model)]

    def _features(
        self, purpose: str, images: np.ndarray, grid: Sequence[int]
    ) -> tuple[list[np.ndarray], np.ndarray]:
        *features, final = predicted(self.frozen[purpose], images)
        return features, resized(final, grid)


def supernet_after_stage_one(
    spec: SupernetSpec, trained: Supernet, start: Supernet | None = None
) -> Supernet:
    """The full supernet with all that stage 1 trained.

    Its other heads are those of ``start``, where it has them, or random.
    """
    supernet = build_supernet(spec)
    for source in (start, trained):
        if source is not None:
            copy_trained(source, supernet)
    return supernet


def copy_trained(source: Supernet, target: Supernet) -> None:
    """Copies the weights of all layers of one name and of the same shapes."""
    layers = {layer.name: layer for layer in target.model.layers}
    for layer in source.model.layers:
        twin = layers.get(layer.name)
        if layer.weights and twin is not None:
            values = layer.get_weights()
            if [v.shape for v in values] == [tuple(w.shape) for w in twin.weights]:
                twin.set_weights(values)


def _head_groups(spec: SupernetSpec) -> list[tuple[int, list[str]]]:
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
