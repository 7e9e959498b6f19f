"""Keras 2 and tensorflow-model-optimization, imported without harm to Keras 3.

tensorflow-model-optimization wants Keras 2 and says so in an environment variable that
``tf.keras`` obeys when it is first touched, here and in child processes. So
``tf.keras`` is touched before, and the variable is put back.
"""

from __future__ import annotations

import os
import warnings

import tensorflow as tf

_VARIABLE = "TF_USE_LEGACY_KERAS"

_ = tf.keras.Model  # settles that tf.keras is the Keras of this process
_before = os.environ.get(_VARIABLE)
with warnings.catch_warnings():
    # They announce the end of distutils, and of what else they were written for.
    warnings.simplefilter("ignore")
    import tensorflow_model_optimization as tfmot
    import tf_keras
if _before is None:
    os.environ.pop(_VARIABLE, None)
else:
    os.environ[_VARIABLE] = _before

QuantizeConfig = tfmot.quantization.keras.QuantizeConfig
QuantizeWrapper = tfmot.quantization.keras.QuantizeWrapperV2
Quantizer = tfmot.quantization.keras.quantizers.Quantizer

__all__ = ["QuantizeConfig", "QuantizeWrapper", "Quantizer", "tf_keras"]
