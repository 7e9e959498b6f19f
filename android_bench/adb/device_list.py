"""Parses the output of ``adb devices``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from android_bench.errors import ParseError


@dataclass(frozen=True)
class AdbListed:
    """One line of ``adb devices`` or ``adb devices -l``.

    Attributes:
        state: ``device`` (usable), ``unauthorized``, ``offline``, ``no permissions``,
            ... as adb says it.
        details: ``model``, ``product``, ``usb``, ``transport_id``, ... as listed; for
            ``no permissions`` adb's reason under ``reason``.
    """

    serial: str
    state: str
    details: Mapping[str, str] = field(default_factory=dict)


_LISTED = re.compile(
    r"(?P<serial>\S.*?)\s+(?P<state>device|offline|bootloader|host|recovery|rescue"
    r"|sideload|unauthorized|authorizing|connecting|detached|unknown"
    r"|no permissions(?P<reason>.*))"
)
_DETAIL = re.compile(r"(.*\S)\s+([a-z_]+):(\S+)")


def parse_adb_devices(text: str) -> list[AdbListed]:
    """Devices in the order listed; lines about adb's server are skipped.

    Raises:
        ParseError: the heading is missing or a line cannot be read.
    """
    _, heading, listing = text.partition("List of devices attached")
    if not heading:
        raise ParseError(f"This is no list of adb devices: {text.strip()[:80]!r}.")
    return [
        _listed(line)
        for line in listing.splitlines()
        if line.strip() and not line.startswith(("*", "adb server", "adb: "))
    ]


def _listed(line: str) -> AdbListed:
    rest, details = line.strip(), dict[str, str]()
    while (match := _DETAIL.fullmatch(rest)) and not match[3].startswith("//"):
        rest = match[1]
        details = {match[2]: match[3]} | details
    found = _LISTED.fullmatch(rest)
    if found is None:
        # A state of a later adb: certain only where a tab shows where it begins.
        serial, tab, state = rest.partition("\t")
        if not tab:
            raise ParseError(f"Line {line!r} of the list of adb devices is unknown.")
        return AdbListed(serial.strip(), state.strip(), details)
    if found["reason"] is None:
        return AdbListed(found["serial"], found["state"], details)
    reason = found["reason"].strip()
    return AdbListed(
        found["serial"],
        "no permissions",
        details | ({"reason": reason} if reason else {}),
    )
