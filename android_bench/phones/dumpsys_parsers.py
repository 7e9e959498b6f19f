"""Parses what a phone prints about itself: ``getprop`` and ``dumpsys`` services.

Text in, frozen records out. Phones differ: what one does not print, or prints as no
plausible number of the documented unit, is None; only text that is of another kind
altogether is an ``ParseError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.errors import ParseError


@dataclass(frozen=True)
class Battery:
    """``dumpsys battery``.

    Attributes:
        level_percent: 0 to 100, whatever the phone's scale is.
        status: ``charging``, ``discharging``, ``not charging``, ``full``, ``unknown``.
        powered_by: of ``ac``, ``usb``, ``wireless``, ``dock``, those that supply it.
        temperature_c, voltage_v: None where not reported (0 V is not reported).
    """

    level_percent: float | None
    status: str
    powered_by: tuple[str, ...]
    temperature_c: float | None
    voltage_v: float | None

    @property
    def charging(self) -> bool | None:
        """True also when full; None when unknown."""
        known = {"charging": True, "full": True, "unknown": None}
        return known.get(self.status, False)


@dataclass(frozen=True)
class Temperature:
    """One sensor.

    Attributes:
        kind: ``cpu``, ``gpu``, ``battery``, ``skin``, ... or ``type N`` for others.
        value_c: None where not reported, and for battery current limits.
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
        """Worst of the overall status and the sensors': some phones say 0 overall."""
        reported = [t.status for t in self.temperatures]
        if self.status is not None:
            reported.append(self.status)
        return max(reported, default=None)

    def hottest_c(self, *kinds: str) -> float | None:
        """Highest temperature of these kinds (of all without), None where unknown."""
        values = [
            t.value_c
            for t in self.temperatures
            if t.value_c is not None and (not kinds or t.kind in kinds)
        ]
        return max(values, default=None)


_STATUSES = {
    1: "unknown",
    2: "charging",
    3: "discharging",
    4: "not charging",
    5: "full",
}
_KINDS = {
    0: "cpu",
    1: "gpu",
    2: "battery",
    3: "skin",
    4: "usb port",
    5: "power amplifier",
    6: "bcl voltage",
    7: "bcl current",
    8: "bcl percentage",
    9: "npu",
}
_NO_TEMPERATURE = (6, 7, 8)
_PROPERTY = re.compile(r"\[([^\[\]]+)\]: \[(.*)")
_BATTERY_LINE = re.compile(r"\s*([A-Za-z ]+?)\s*[:=]\s*(\S.*?)\s*")
_TEMPERATURE = re.compile(
    r"Temperature\{mValue=(\S+), mType=(-?\d+), mName=(.*), mStatus=(-?\d+)\}"
)
_STATUS = re.compile(r"Thermal Status: (\d+)")
_NO_SERVICE = re.compile(r"Can't find service|Permission Denial|unknown service", re.I)


def parse_getprop(text: str) -> dict[str, str]:
    """Properties of ``getprop``; values may be empty or of several lines.

    Raises:
        ParseError: it holds no property, or ends inside one.
    """
    found: dict[str, str] = {}
    key = ""
    for line in _lines(text):
        if match := _PROPERTY.fullmatch(line):
            _check_closed(found, key)
            key, found[match[1]] = match[1], match[2]
        elif key:
            found[key] += "\n" + line
    found = {name: value.rstrip() for name, value in found.items()}
    _check_closed(found, key)
    if not found:
        raise ParseError(f"getprop's answer holds no property: {_start(text)}.")
    return {name: value.removesuffix("]") for name, value in found.items()}


def parse_battery(text: str) -> Battery:
    """Raises ParseError when it is no ``dumpsys battery``."""
    fields: dict[str, str] = {}
    for line in _lines(text):
        if match := _BATTERY_LINE.fullmatch(line):
            # Makers append further sections, which repeat names.
            fields.setdefault(match[1].lower(), match[2])
    status = _integer(fields.get("status"))
    if status is None or "level" not in fields:
        raise ParseError(f"This is no dumpsys battery: {_start(text)}.")
    present = fields.get("present") != "false"
    level, scale = _integer(fields["level"]), _integer(fields.get("scale", "100"))
    percent = None
    if present and level is not None and scale and 0 <= level <= scale:
        percent = 100 * level / scale
    tenths_c = _integer(fields.get("temperature"))
    millivolts = _integer(fields.get("voltage"))
    sources = ("ac", "usb", "wireless", "dock")
    return Battery(
        level_percent=percent,
        status=_STATUSES.get(status, "unknown"),
        powered_by=tuple(s for s in sources if fields.get(f"{s} powered") == "true"),
        temperature_c=_celsius(tenths_c / 10) if present and tenths_c else None,
        # One cell has some 4 V, two in a row 9: anything else is another unit.
        voltage_v=millivolts / 1000
        if millivolts is not None and 2000 <= millivolts <= 20000
        else None,
    )


def parse_thermal(text: str) -> Thermal:
    """Thermal state; nothing is known of a phone without the service.

    Raises:
        ParseError: it is no ``dumpsys thermalservice``.
    """
    status: int | None = None
    sections: dict[str, list[Temperature]] = {}
    section = ""
    for line in map(str.strip, _lines(text)):
        if match := _STATUS.fullmatch(line):
            status = int(match[1])
        elif match := _TEMPERATURE.fullmatch(line):
            sections.setdefault(section, []).append(_temperature(*match.groups()))
        elif line.endswith(":"):
            section = line
    reported = status is not None or sections
    if not reported and text.strip() and not _NO_SERVICE.search(text):
        raise ParseError(f"This is no dumpsys thermalservice: {_start(text)}.")
    return Thermal(status, tuple(sections.get("Current temperatures from HAL:", ())))


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.split("\n")]


def _start(text: str) -> str:
    return repr(text.strip()[:80])


def _check_closed(found: Mapping[str, str], key: str) -> None:
    if key and not found[key].rstrip().endswith("]"):
        raise ParseError(f"getprop's answer ends inside property {key!r}.")


def _integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"-?\d{1,12}", text):
        return None
    return int(text)


def _celsius(value: float) -> float | None:
    """None for what sensors say when they have none: 0, NaN, -40, -274, ..."""
    return value if -40 < value < 150 and value != 0 else None


def _temperature(value: str, kind: str, name: str, status: str) -> Temperature:
    number = int(kind)
    value_c = None
    if number not in _NO_TEMPERATURE and re.fullmatch(r"-?\d+(\.\d+)?", value):
        value_c = _celsius(float(value))
    return Temperature(name, _KINDS.get(number, f"type {number}"), value_c, int(status))
