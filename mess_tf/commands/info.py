"""``mess info``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import mess_tf
from android_bench.devices import list_devices
from mess_tf.commands.devices import render as render_devices
from mess_tf.terminal.progress import progress

_LIBRARIES = (
    "tensorflow",
    "keras",
    "jax",
    "ai-edge-litert",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "SQLAlchemy",
    "adb-shell",
    "adbutils",
)
_VARIABLES = (
    "KERAS_BACKEND",
    "CUDA_VISIBLE_DEVICES",
    "MESS_PHONES",
    "MESS_BENCHMARK_MODEL",
    "ANDROID_ADB_SERVER_PORT",
)


def info() -> dict[str, Any]:
    """Lists versions, devices and backends, for a bug report.

    Look through it before you publish it: phones are listed with their serial numbers.

    Returns:
        ``version`` (of this program), ``python``, ``system`` (with ``memory_gib`` and
        ``cores`` that can be used), ``libraries`` (version by name; None where it is
        not installed), ``backend`` (of Keras: its ``name``, the ``devices`` that it
        trains on, and the ``error`` where it cannot be loaded), ``environment``
        (variables that change what the program does, where they are set) and
        ``devices`` (as ``mess devices`` lists them).

    Raises:
        BenchError: a setting for adb's server that cannot be.
    """
    with progress("Looking around", 2) as step:
        backend = _backend()
        step(note="phones")
        devices = list(list_devices())
        step()
    return {
        "version": mess_tf.__version__,
        "python": platform.python_version(),
        "system": _system(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "backend": backend,
        "environment": {k: os.environ[k] for k in _VARIABLES if k in os.environ},
        "devices": devices,
    }


def _backend() -> dict[str, Any]:
    try:
        import keras
    except ImportError as error:  # the very thing that the report may be about
        return {"name": None, "devices": [], "error": str(error)}
    return {
        "name": keras.backend.backend(),
        "devices": [str(device) for device in keras.distribution.list_devices()],
        "error": None,
    }


def _system() -> dict[str, Any]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "name": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def render(result: dict[str, Any]) -> str:
    """Text to paste into a bug report."""
    system, backend = result["system"], result["backend"]
    lines = [
        f"mess {result['version']}, Python {result['python']}",
        f"{system['name']}, {system['cores']} cores, {system['memory_gib']} GiB",
        f"Keras runs on {backend['name']}: {', '.join(backend['devices'])}"
        if backend["error"] is None
        else f"Keras does not load: {backend['error']}",
        *(f"{k}={value}" for k, value in result["environment"].items()),
        "",
        *(
            f"{name} {version or '(not installed)'}"
            for name, version in result["libraries"].items()
        ),
        "",
        render_devices({"devices": result["devices"]}),
    ]
    return "\n".join(lines)
