"""Precisions a graph is converted to, and how int8 ranges are calibrated."""

from __future__ import annotations

from typing import Literal, get_args

ConvertedPrecision = Literal["float32", "float16", "dynamic", "int8"]
"""What ``mess compile`` makes; int8-qat comes from training."""
Precision = Literal[ConvertedPrecision, "int8-qat"]
"""Weights and activations: both float32; float16 weights, float32 activations; int8
weights, float32 activations; both int8, ranges from calibration or from training."""
CalibrationMethod = Literal["minmax", "percentile", "mse"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""float32 first: the others are shown beside it."""
CONVERTED: tuple[ConvertedPrecision, ...] = get_args(ConvertedPrecision)
CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)


def has_int8_activations(precision: Precision) -> bool:
    """Whether values between operators are int8 (weights are int8 in more)."""
    return precision in ("int8", "int8-qat")
