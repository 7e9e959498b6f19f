"""Optimisers and the poly learning-rate schedule of the supplement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from mess_tf.recipe.sections import OptimizerName


class PolyDecay(keras.optimizers.schedules.LearningRateSchedule):
    """lr(i) = lr0 (1 - i / total)^power, after a linear warm-up from zero."""

    def __init__(
        self, initial: float, total_steps: int, power: float, warmup_steps: int = 0
    ) -> None:
        self.initial = initial
        self.total_steps = total_steps
        self.power = power
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        left = ops.maximum(1.0 - step / self.total_steps, 0.0)
        rate = self.initial * ops.power(left, self.power)
        if self.warmup_steps:
            rate = rate * ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            "initial": self.initial,
            "total_steps": self.total_steps,
            "power": self.power,
            "warmup_steps": self.warmup_steps,
        }


def make_optimizer(
    name: OptimizerName,
    schedule: PolyDecay,
    *,
    momentum: float,
    weight_decay: float,
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or AdamW.

    The supplement's weight decay acts through the gradient (and so through momentum),
    Keras' acts on the weights directly. In the steady state the first is the second
    divided by (1 - momentum), which is what SGD gets here.
    """
    if name == "sgd":
        return keras.optimizers.SGD(
            schedule, momentum=momentum, weight_decay=weight_decay / (1.0 - momentum)
        )
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay)


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
