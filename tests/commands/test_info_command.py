"""`mess info`: enough for a bug report, also where the backend is what is broken."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import mess_tf
from mess_tf.commands import info as module

HOST: dict[str, Any] = {
    "name": "host",
    "state": "device",
    "advice": "measure on it",
    "model": "this computer",
    "soc": "A processor",
    "system": "Linux",
    "abi": "x86_64",
    "cores": 2,
    "core_max_khz": [],
    "gpu": None,
    "battery_percent": None,
    "charging": None,
    "temperature_c": None,
    "thermal_status": None,
}


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mess_tf.commands.info.list_devices", lambda: [HOST])
    keras = types.SimpleNamespace(
        backend=types.SimpleNamespace(backend=lambda: "jax"),
        distribution=types.SimpleNamespace(list_devices=lambda: ["gpu:0", "gpu:1"]),
    )
    monkeypatch.setitem(sys.modules, "keras", keras)


def test_versions_backend_and_devices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.delenv("MESS_PHONES", raising=False)
    result = module.info()
    assert result["version"] == mess_tf.__version__
    assert result["python"] == sys.version.split()[0]
    assert result["libraries"]["numpy"] == __import__("numpy").__version__
    assert result["environment"]["KERAS_BACKEND"] == "jax"
    assert "MESS_PHONES" not in result["environment"]
    text = module.render(result)
    assert "Keras runs on jax: gpu:0, gpu:1" in text
    assert "\nhost (device)\n  this computer, A processor" in text


def test_a_backend_that_does_not_load_is_told_not_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not there
    result = module.info()
    assert result["backend"]["name"] is None
    assert "Keras does not load: import of keras halted" in module.render(result)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARIES", ("no-such-library",))
    result = module.info()
    assert result["libraries"] == {"no-such-library": None}
    assert "no-such-library (not installed)" in module.render(result)
