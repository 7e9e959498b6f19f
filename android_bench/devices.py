"""Opens and lists devices by the names that a user types."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from android_bench.adb.reach import find
from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.host.device import HostDevice
from android_bench.host.state import max_frequencies_khz
from android_bench.phones.device import AdbDevice
from android_bench.phones.listing import list_phones

HOST = "host"
ALL = "all"

OPENABLE = ("device", "unauthorized")
"""States in which a phone of ``all`` is opened; the second asks its user for trust."""


def open_device(name: str, benchmark_model: Path | None = None) -> Device:
    """Opens a device by the name that a user types.

    Args:
        name: ``host`` (this computer); a phone's serial number, reached through a
            running adb server that lists it, else by USB; ``host:port`` of a phone that
            listens on the network; ``usb:SERIAL`` or ``server:SERIAL`` to choose the
            way; ``phone`` for the only phone there is.
        benchmark_model: Google's tool for phones; None looks for it.

    Raises:
        BenchError: no device of that name, or it cannot be used as it is.
    """
    if name == HOST:
        return HostDevice()
    return AdbDevice(find(name), benchmark_model)


def refuse_unused_tool(names: Sequence[str], benchmark_model: Path | None) -> None:
    """Raises BenchError for a benchmark tool for phones where no phone is measured."""
    if benchmark_model is not None and set(names) == {HOST}:
        raise BenchError(
            f"The benchmark tool {benchmark_model} is for phones, and only {HOST!r} is"
            " measured; leave --benchmark-model out, or name a phone with --device."
        )


def resolve_names(devices: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the devices to open, with ``all`` resolved and repetitions dropped.

    Args:
        devices: names as for ``open_device``, or ``all``: every phone within reach.

    Returns:
        Names to open, each once; and why, by name, phones of ``all`` cannot be used.

    Raises:
        BenchError: ``all`` finds no phone.
    """
    names: dict[str, None] = {}
    unusable = {}
    for device in devices:
        if device != ALL:
            names[device] = None
            continue
        phones = list_phones()
        if not phones:
            raise BenchError(
                "No phone is within reach for 'all'; `mess devices` shows what is. Plug"
                " one in and allow USB debugging on it."
            )
        for phone in phones:
            if phone.state in OPENABLE:
                names[phone.name] = None
            else:
                unusable[phone.name] = f"it is {phone.state!r}: {phone.advice}"
    return list(names), unusable


def list_devices() -> list[dict[str, object]]:
    """This computer and every phone within reach, in whatever state.

    Returns:
        Per device the fields of ``PhoneListing``.
    """
    with open_device(HOST) as host:
        info, state = host.describe(), host.state()
    computer: dict[str, object] = {
        "name": HOST,
        "serial": "",
        "transport": HOST,
        "state": "device",
        "advice": f"measure on it: mess profile ... --device {HOST}",
        "model": info.model,
        "soc": info.soc,
        "android": None,
        "system": info.os_version,
        "abi": info.abi,
        "cores": info.cores,
        "core_max_khz": max_frequencies_khz(),
        "gpu": None,
        "battery_percent": state.battery_percent,
        "charging": state.charging,
        "temperature_c": state.temperature_c,
        "thermal_status": None,
    }
    phones = [dataclasses.asdict(phone) for phone in list_phones()]
    for phone in phones:
        android = phone["android"]
        phone["system"] = None if android is None else f"Android {android}"
    return [computer, *phones]
