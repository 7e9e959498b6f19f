"""Advice for phones that cannot be used: one line for each of adb's states."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from android_bench.adb.device_list import AdbListed

USABLE = "device"

PLUG_IN = (
    "plug it in, switch on 'USB debugging' in its developer options, or name a phone on"
    " the network as HOST:PORT"
)
UDEV = (
    "let your user open it: install your system's android-udev-rules (on Debian:"
    " `apt install android-sdk-platform-tools-common`), join the group plugdev, plug"
    " the phone in again"
)

_ADVICE = {
    "unauthorized": (
        "unlock it and tap 'Allow' in the question whether to trust this computer; if"
        " none comes, revoke the USB debugging authorisations in its developer options"
        " and plug it in again"
    ),
    "authorizing": "wait a moment, or unlock it and tap 'Allow'",
    "connecting": "wait a moment and try again",
    "offline": (
        "plug it in again, or switch 'USB debugging' off and on; it may still be"
        " starting"
    ),
    "no permissions": UDEV,
    "busy": "another program holds it: `adb kill-server`, or start adb and use that",
    "bootloader": "start Android on it: `fastboot reboot`",
    "recovery": "start Android on it: choose 'Reboot system now'",
    "rescue": "start Android on it",
    "sideload": "end the update that it waits for: choose 'Reboot system now'",
    "host": "it is not a phone that takes adb connections",
    "detached": "attach it: `adb attach`",
    "unreachable": (
        "check that it is on, in this network, and listens (`adb tcpip 5555`)"
    ),
}


def advice_for(state: str) -> str:
    """What to do about a phone in this state."""
    return _ADVICE.get(
        state, "plug it in again and wait until adb lists it as 'device'"
    )


def refusal(name: str, listed: AdbListed) -> str:
    """One line for a phone that is listed in another state than ``device``."""
    reason = listed.details.get("reason", "")
    state = f"{listed.state} {reason}".strip()
    return f"Phone {name} is {state!r}: {advice_for(listed.state)}."


def unknown_phone(name: str, within_reach: Iterable[str]) -> str:
    """One line for a serial number that no phone within reach has."""
    names = list(within_reach)
    if not names:
        return f"Phone {name!r} is not there, nor is any other: {PLUG_IN}."
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"Phone {name!r} is not there; there are {', '.join(names)}.{hint}"
