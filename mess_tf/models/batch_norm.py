"""Batch normalisation that trains on TensorFlow's fused kernel.

Keras 3 composes its batch normalisation from elementary operations; on a CPU these are
memory-bound and took more than half of a MobileNetV2 training step here. The fused
kernel computes the same numbers in a third of the time. Everything else (inference,
other backends, names and order of the weights) is Keras' own layer.
"""

from __future__ import annotations

import math
from typing import Any

import keras


@keras.saving.register_keras_serializable("mess_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """``keras.layers.BatchNormalization`` over the channels of (B, h, w, C)."""

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any | None = None
    ) -> Any:
        fused = (
            training
            and self.trainable
            and keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
        )
        return (
            self._train_fused(inputs)
            if fused
            else super().call(inputs, training=training, mask=mask)
        )

    def _train_fused(self, inputs: Any) -> Any:
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel reports the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // math.prod(mean.shape), variance.dtype)
        variance *= (count - 1) / count
        for moving, new in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return outputs
