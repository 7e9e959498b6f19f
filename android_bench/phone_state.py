"""Reads what a phone answers about itself: properties, battery, heat, adb's list.

Text in, frozen records out. Phones differ: what one does not tell, or tells in no
plausible number of the documented unit, is None; only an answer that is of another
kind altogether is an ``AnswerError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from android_bench.errors import BenchError


class AnswerError(BenchError):
    """An answer that is not of the kind asked for."""


@dataclass(frozen=True)
class Battery:
    """``dumpsys battery``.

    Attributes:
        level_percent: 0 to 100, whatever the phone's own scale is.
        status: ``charging``, ``discharging``, ``not charging``, ``full``, ``unknown``.
        powered_by: of ``ac``, ``usb``, ``wireless``, ``dock``, those that supply it.
        temperature_c, voltage_v: None where not told (0 V is not told).
    """

    level_percent: float | None
    status: str
    powered_by: tuple[str, ...]
    temperature_c: float | None
    voltage_v: float | None

    @property
    def charging(self) -> bool | None:
        """True also when full; None when unknown."""
        raise NotImplementedError


@dataclass(frozen=True)
class Temperature:
    """One sensor.

    Attributes:
        kind: ``cpu``, ``gpu``, ``battery``, ``skin``, ... or ``type N`` for others.
        value_c: None for what is no temperature (battery current limits) or not told.
        status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 off.
    """

    name: str
    kind: str
    value_c: float | None
    status: int


@dataclass(frozen=True)
class Thermal:
    """``dumpsys thermalservice``.

    Attributes:
        status: the phone's overall one (scale of ``Temperature``), None where the
            phone has no such service (before Android 10) or does not tell.
        temperatures: the current ones; the service's stale copies are left out.
    """

    status: int | None
    temperatures: tuple[Temperature, ...]

    @property
    def worst_status(self) -> int | None:
        """Worst of the overall and the sensors' own: some phones say 0 overall."""
        raise NotImplementedError

    def hottest_c(self, *kinds: str) -> float | None:
        """Highest temperature of these kinds (of all without), None where unknown."""
        raise NotImplementedError


@dataclass(frozen=True)
class AdbListed:
    """One line of ``adb devices`` or ``adb devices -l``.

    Attributes:
        state: ``device`` (usable), ``unauthorized``, ``offline``, ``no permissions``,
            ... as adb says it.
        details: ``model``, ``product``, ``usb``, ``transport_id``, ... as listed; for
            ``no permissions`` adb's own reason under ``reason``.
    """

    serial: str
    state: str
    details: Mapping[str, str] = field(default_factory=dict)


def parse_getprop(text: str) -> dict[str, str]:
    """Properties of ``getprop``; values may be empty or of several lines.

    Raises:
        AnswerError: it holds no property, or ends inside one.
    """
    raise NotImplementedError


def parse_battery(text: str) -> Battery:
    """Raises AnswerError when it is no ``dumpsys battery``."""
    raise NotImplementedError


def parse_thermal(text: str) -> Thermal:
    """A phone without the service gives a Thermal that tells nothing.

    Raises:
        AnswerError: it is no ``dumpsys thermalservice``.
    """
    raise NotImplementedError


def parse_adb_devices(text: str) -> list[AdbListed]:
    """Devices in the order listed; lines about adb's own server are skipped.

    Raises:
        AnswerError: the heading is missing or a line cannot be read.
    """
    raise NotImplementedError
