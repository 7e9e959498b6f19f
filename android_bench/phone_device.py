"""A phone as a device."""

from __future__ import annotations

from android_bench.device import Device
from android_bench.errors import BenchError


def open_phone(name: str) -> Device:
    """Reaches the phone of that name; see ``open_device``."""
    raise BenchError(f"Device {name!r} is unknown; accepted: 'host' (this computer).")
