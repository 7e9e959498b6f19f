"""Phones that are within reach now, in whatever state, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["usb", "tcp", "server"]


@dataclass(frozen=True)
class PhoneListing:
    """One phone; None is what it does not tell, e.g. because it is not authorised.

    Attributes:
        name: what to type to reach it, e.g. ``server:0A1B`` or ``1.2.3.4:5555``.
        serial: its serial number; ``host:port`` where only that is known.
        transport: ``server`` (a running adb server holds it), ``usb`` or ``tcp``.
        state: ``device`` (usable) or what is wrong, in adb's own words: ``offline``,
            ``unauthorized``, ``no permissions``, ...
        core_max_khz: highest frequency of each core by number; None for cores that do
            not tell theirs.
        thermal_status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency,
            6 shutdown; the worst the phone or one of its sensors tells.
        advice: one line: what to do, or how to measure on it.
    """

    name: str
    serial: str
    transport: Way
    state: str
    advice: str
    model: str | None = None
    soc: str | None = None
    android: str | None = None
    abi: str | None = None
    cores: int | None = None
    core_max_khz: tuple[int | None, ...] = ()
    gpu: str | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    thermal_status: int | None = None


def list_phones() -> list[PhoneListing]:
    """Every phone within reach, by way and serial number.

    Looked at are the running adb server (none is started), the USB ports, and the
    addresses in the environment variable ``MESS_PHONES`` (``host:port``, separated by
    commas). A phone that a server and a USB port both show is listed once.
    """
    return []
