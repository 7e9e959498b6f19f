"""Quantisation-aware fine-tuning of a network with early exits.

The float network is the teacher of every exit: early ones learn as in stage 2 of
training (positive filtering distillation), the final exit from the labels and its
float prediction. Early exits count together as much as the final one, as in stage 1.

In the first part of the steps batch normalisation uses and updates the batches'
statistics and ranges follow what they see: rounded weights shift what comes out of a
layer, and both have to catch up. Afterwards both stay as they are, and what is trained
is the deployed network to the last rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from mess_tf.core.segmentation_metrics import Areas
from mess_tf.quantising.fake_quantisation import FakeQuantised
from mess_tf.quantising.keras2 import tf_keras
from mess_tf.recipe.sections import ExitLoss
from mess_tf.training.losses import exit_loss, resize_to
from mess_tf.training.schedule import Optimisation, PolyDecay
from mess_tf.training.step_model import areas_on_grid, as_list


@dataclass(frozen=True)
class NetworkOutput:
    """An output of the network that is fine-tuned.

    Attributes:
        name: in logs, ``exit_<k>/<head>`` or ``final``.
        final: whether it is the final head, as the teacher's.
    """

    name: str
    final: bool


@dataclass(frozen=True)
class Distillation:
    """Loss of early exits, and the teacher's weight in all of them."""

    loss: ExitLoss = "pfd"
    alpha: float = 0.5


@dataclass(frozen=True)
class _CheckpointVariable:
    """A TensorFlow variable with the interface of Keras 3's, for checkpoints."""

    variable: tf.Variable

    @property
    def value(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.variable)

    def assign(self, value: tf.Tensor) -> None:
        self.variable.assign(value)


class FineTuning:
    """Trains a fake-quantised network; a ``mess_tf.training.loop.Stage``.

    Args:
        quantised: is trained in place.
        teacher: Keras 3 model from the image to the float final exit's logits.
        exits: of the network's outputs, in order.
        optimisation: rate, its decay, optimiser.
        class_weights: of pixels, float32 array of shape (C,).
        distillation: the losses.
        settled_after: steps after which statistics and ranges stay as they are.
    """

    name = "qat"

    def __init__(
        self,
        quantised: FakeQuantised,
        teacher: keras.Model,
        exits: Sequence[NetworkOutput],
        optimisation: Optimisation,
        class_weights: np.ndarray,
        distillation: Distillation,
        settled_after: int,
    ) -> None:
        self.quantised = quantised
        self.exits = list(exits)
        self._teacher = teacher
        self._class_weights = class_weights
        self._distillation = distillation
        self._settled_after = settled_after
        self._trained = quantised.trainable()
        self._schedule = PolyDecay(
            optimisation.learning_rate,
            optimisation.total_steps,
            optimisation.power,
            optimisation.warmup_steps,
        )
        self._optimizer = _optimizer(optimisation)
        self._optimizer.build(self._trained)
        # One trace per phase and image size.
        self._step = tf.function(self._train, autograph=False)
        self._predict = tf.function(
            lambda images: quantised.model(images, training=False), autograph=False
        )

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        """One update; returns the loss.

        Args:
            images: float32 (B, H, W, 3), normalised.
            labels: integers (B, h, w).
            step: number of this step since fine-tuning began.
        """
        self._optimizer.learning_rate = float(self._schedule(step))
        loss = self._step(
            tf.convert_to_tensor(images),
            tf.convert_to_tensor(labels.astype(np.int32)),
            tf.convert_to_tensor(self._teacher.predict_on_batch(images)),
            live=step < self._settled_after,
        )
        return float(loss)

    def _train(
        self, images: tf.Tensor, labels: tf.Tensor, teacher: tf.Tensor, live: bool
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = as_list(self.quantised.model(images, training=live))
            loss = self.loss(outputs, labels, teacher)
        gradients = tape.gradient(loss, self._trained)
        self._optimizer.apply_gradients(zip(gradients, self._trained, strict=True))
        return loss

    def loss(
        self, outputs: Sequence[tf.Tensor], labels: tf.Tensor, teacher: tf.Tensor
    ) -> tf.Tensor:
        """The final exit's loss and the mean of the early exits' losses.

        Args:
            outputs: logits per exit, each on its native grid.
            labels: int tensor (B, h, w).
            teacher: the float final exit's logits.
        """
        height, width = labels.shape[1:3]
        wanted = resize_to(teacher, height, width)
        early: list[tf.Tensor] = []
        final: list[tf.Tensor] = []
        for output, logits in zip(self.exits, outputs, strict=True):
            value = exit_loss(
                "kd" if output.final else self._distillation.loss,
                resize_to(logits, height, width),
                wanted,
                labels,
                self._distillation.alpha,
                self._class_weights,
            )
            (final if output.final else early).append(tf.reduce_mean(value))
        return sum(final) + sum(early) / max(1, len(early))

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        """Areas per exit on the label grid, of the network as it would be deployed."""
        logits = as_list(self._predict(tf.convert_to_tensor(images)))
        return {
            output.name: areas_on_grid(values.numpy(), labels)
            for output, values in zip(self.exits, logits, strict=True)
        }

    def variables(self) -> list[_CheckpointVariable]:
        """Everything a checkpoint has to hold, in a fixed order."""
        everything = [*self.quantised.variables(), *self._optimizer.variables]
        return [_CheckpointVariable(variable) for variable in everything]


def _optimizer(optimisation: Optimisation) -> tf_keras.optimizers.Optimizer:
    """The optimiser of ``mess_tf.training.schedule.make_optimizer``, in Keras 2."""
    if optimisation.optimizer == "sgd":
        return tf_keras.optimizers.SGD(
            optimisation.learning_rate,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay / (1.0 - optimisation.momentum),
        )
    return tf_keras.optimizers.AdamW(
        optimisation.learning_rate, weight_decay=optimisation.weight_decay
    )
