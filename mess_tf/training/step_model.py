"""What the models of both stages share: compiling, state, and areas on a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mess_tf.core.segmentation_metrics import Areas, count_areas
from mess_tf.training.losses import resize_to
from mess_tf.training.schedule import Optimisation


class StepModel(keras.Model):
    """A model whose loss weighs pixels by class, float32 array of shape (C,)."""

    class_weights: np.ndarray


def compile_model(model: keras.Model, optimisation: Optimisation) -> None:
    """Compiles a model with an optimiser built for all of its variables."""
    # XLA on a CPU slows depthwise gradients several times; on accelerators it pays.
    jit: Any = "auto"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        jit = "auto" if tf.config.list_physical_devices("GPU") else False
    model.compile(optimizer=optimisation.make(), jit_compile=jit)
    model.optimizer.build(model.trainable_variables)


def state(model: keras.Model) -> list[Any]:
    """Everything of a model that a checkpoint has to hold, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def as_list(values: Any) -> list[Any]:
    """A model's outputs as a list, also where there is one."""
    return list(values) if isinstance(values, (list, tuple)) else [values]


def predicted(
    model: Any, tensors: np.ndarray | Sequence[np.ndarray]
) -> list[np.ndarray]:
    """A model's outputs for a batch of any length.

    Several devices share a batch evenly, so it is filled up with copies of its last
    image, which are cut off again.
    """
    distribution = keras.distribution.distribution()
    devices = 1 if distribution is None else distribution.device_mesh.shape[0]
    count = len(as_list(tensors)[0])
    if missing := -count % devices:
        tensors = keras.tree.map_structure(
            lambda x: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]), tensors
        )
    outputs = as_list(model.predict_on_batch(tensors))
    return [np.asarray(output)[:count] for output in outputs]


def resized(logits: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Logits (B, h, w, C) on another grid (height, width)."""
    return np.asarray(ops.convert_to_numpy(resize_to(logits, grid[0], grid[1])))


def areas_on_grid(logits: np.ndarray, labels: np.ndarray) -> Areas:
    """Areas of logits (B, h, w, C) on the grid of labels (B, H, W)."""
    predicted = resized(np.asarray(logits), labels.shape[1:3]).argmax(axis=-1)
    return count_areas(labels, predicted, logits.shape[-1])


def total_areas(batches: Sequence[Mapping[str, Areas]]) -> dict[str, Areas]:
    """Sums the areas of several batches per name."""
    totals: dict[str, Areas] = {}
    for batch in batches:
        for name, areas in batch.items():
            totals[name] = totals[name] + areas if name in totals else areas
    return totals
