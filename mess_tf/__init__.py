"""MESS for TensorFlow: multi-exit segmentation networks, from training to the phone."""

from __future__ import annotations

from typing import Any

_PUBLIC = {"adopt": "mess_tf.adoption", "flatten": "mess_tf.models.flat"}


def __getattr__(name: str) -> Any:
    """Loads what needs Keras when it is first asked for."""
    import importlib

    if name not in _PUBLIC:
        raise AttributeError(f"module 'mess_tf' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
