"""Phones at this computer's USB ports, as Linux lists them.

Reading the list needs neither libusb nor permission, so a phone that cannot be opened
is seen, too, with the reason.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
DEV = Path("/dev")

# Class, subclass and protocol of adb's USB interface.
_ADB_INTERFACE = ("ff", "42", "01")


@dataclass(frozen=True)
class UsbPhone:
    """A USB device with adb's interface.

    Attributes:
        port: bus and ports on the way to it, e.g. ``1-2.3``.
        node: the file that must be opened to talk to it.
        permitted: this user may open it.
        claimed: another program, as a rule an adb server, holds the interface.
    """

    serial: str
    port: str
    node: Path
    product: str
    permitted: bool
    claimed: bool


def usb_phones(sys: Path = SYS, dev: Path = DEV) -> list[UsbPhone]:
    """Every phone with USB debugging switched on, in order of port."""
    found = []
    for interface in sorted((sys / "bus/usb/devices").glob("*:*")):
        if _interface_kind(interface) == _ADB_INTERFACE:
            phone = _phone(interface, sys, dev)
            if phone is not None:
                found.append(phone)
    return found


def _phone(interface: Path, sys: Path, dev: Path) -> UsbPhone | None:
    port = interface.name.partition(":")[0]
    device = sys / "bus/usb/devices" / port
    bus, number = _text(device / "busnum"), _text(device / "devnum")
    if not (bus.isdecimal() and number.isdecimal()):
        return None  # it was pulled out this moment
    node = dev / "bus/usb" / f"{int(bus):03d}" / f"{int(number):03d}"
    return UsbPhone(
        serial=_text(device / "serial"),
        port=port,
        node=node,
        product=_text(device / "product"),
        permitted=os.access(node, os.R_OK | os.W_OK),
        claimed=(interface / "driver").exists(),
    )


def _interface_kind(interface: Path) -> tuple[str, str, str]:
    return (
        _text(interface / "bInterfaceClass"),
        _text(interface / "bInterfaceSubClass"),
        _text(interface / "bInterfaceProtocol"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # pulled out, or a device without this text
        return ""
