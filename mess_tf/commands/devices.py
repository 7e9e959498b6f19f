"""``mess devices``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from android_bench.devices import list_devices
from mess_tf.terminal.progress import progress

THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's words for its thermal status."""


def devices() -> dict[str, Any]:
    """Lists the devices that can be measured: this computer and phones within reach.

    Says of each what it is, how it is, and what to do where it cannot be used. Phones
    are looked for at a running adb server, at the USB ports, and at the addresses in
    the environment variable MESS_PHONES (HOST:PORT, separated by commas).

    Returns:
        ``devices``: per device ``name`` (what to type to measure on it), ``serial``,
        ``transport``, ``state`` (``device`` where it can be used), ``advice``,
        ``model``, ``soc``, ``system``, ``android``, ``abi``, ``cores``,
        ``core_max_khz``, ``gpu``, ``battery_percent``, ``charging``,
        ``temperature_c`` and ``thermal_status``; None is what it does not tell.

    Raises:
        BenchError: a setting for adb's server that cannot be.
    """
    with progress("Looking for phones") as step:
        found = list(list_devices())
        step()
    return {"devices": found}


def render(result: dict[str, Any]) -> str:
    """Per device what it is, how it is, and what to do."""
    lines = []
    for device in result["devices"]:
        lines.append(f"{device['name']} ({device['state']})")
        lines += [f"  {line}" for line in (_what(device), _how(device)) if line]
        lines.append(f"  {device['advice']}")
    return "\n".join(lines)


def _what(device: dict[str, Any]) -> str:
    cores = device["cores"]
    parts = [
        device["model"],
        device["soc"],
        device["system"],
        device["abi"],
        None if cores is None else f"{cores} cores{_clusters(device['core_max_khz'])}",
        None if device["gpu"] is None else f"GPU {device['gpu']}",
    ]
    return ", ".join(part for part in parts if part)


def _clusters(core_max_khz: Sequence[int | None]) -> str:
    """`` (4x1.70, 4x2.36 GHz)``: how many cores reach which frequency."""
    reported = [khz for khz in core_max_khz if khz is not None]
    if not reported:
        return ""
    parts = [f"{reported.count(khz)}x{khz / 1e6:.2f}" for khz in sorted(set(reported))]
    return f" ({', '.join(parts)} GHz)"


def _how(device: dict[str, Any]) -> str:
    battery = device["battery_percent"]
    power = {True: ", charging", False: ", not charging", None: ""}[device["charging"]]
    heat, status = device["temperature_c"], device["thermal_status"]
    parts = [
        None if battery is None else f"battery {battery:.0f} %{power}",
        None if heat is None else f"{heat:.1f} degrees Celsius",
        None if status is None else f"thermal status {_thermal(status)}",
    ]
    return ", ".join(part for part in parts if part)


def _thermal(status: int) -> str:
    return THERMAL[status] if 0 <= status < len(THERMAL) else str(status)
