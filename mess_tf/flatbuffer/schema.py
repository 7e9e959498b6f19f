"""Names of the TFLite schema's operators and tensor types."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as fb

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TFLite flatbuffer."""

OPERATOR_NAMES: dict[int, str] = {
    value: name
    for name, value in vars(fb.BuiltinOperator).items()
    if isinstance(value, int)
}
TYPE_NAMES: dict[int, str] = {
    value: name.lower()
    for name, value in vars(fb.TensorType).items()
    if isinstance(value, int)
}
NUMPY_TYPES: dict[int, str] = {
    fb.TensorType.FLOAT32: "float32",
    fb.TensorType.FLOAT16: "float16",
    fb.TensorType.INT32: "int32",
    fb.TensorType.INT64: "int64",
    fb.TensorType.INT8: "int8",
    fb.TensorType.UINT8: "uint8",
    fb.TensorType.BOOL: "bool",
}
"""The tensor types that pieces and exports have, by numpy's names."""
TYPE_CODES: dict[str, int] = {name: code for code, name in NUMPY_TYPES.items()}


def per_tensor_quantization(
    scale: float, zero_point: int
) -> fb.QuantizationParametersT:
    """Affine quantisation parameters of a whole tensor: scale (q - zero_point)."""
    return fb.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )
