"""From the name that a user types to the phone and the way to it.

A running adb server that lists the phone is used, because it holds the phone's USB
port; else the phone is reached directly. ``server:``, ``usb:`` and ``tcp:`` before the
name choose the way.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from android_bench.adb.advice import (
    PLUG_IN,
    USABLE,
    advice_for,
    refusal,
    unknown_phone,
)
from android_bench.adb.usb import UsbPhone, usb_phones
from android_bench.errors import BenchError
from android_bench.phones.answers import AdbListed

Way = Literal["usb", "tcp", "server"]

ANY_PHONE = "phone"
ADDRESSES = "MESS_PHONES"
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):(\d{1,5})")


class NotReached(BenchError):
    """A phone that is there but cannot be used as it is.

    Attributes:
        state: in adb's words; see ``phone_advice``.
    """

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True)
class Place:
    """A phone and the way to it.

    Attributes:
        serial: its serial number, or ``host:port``.
        state: in adb's words; ``device`` for those that are not asked yet.
        listed: the server's line about it.
        usb: its USB port.
    """

    way: Way
    serial: str
    state: str = USABLE
    listed: AdbListed | None = None
    usb: UsbPhone | None = None

    @property
    def name(self) -> str:
        """What a user types to reach it this way."""
        return f"{self.way}:{self.serial}"


def places(addresses: str | None = None) -> list[Place]:
    """Every phone within reach; one that a server holds is listed there only.

    Args:
        addresses: ``host:port`` of phones on the network, separated by commas; by
            default those of the environment variable ``MESS_PHONES``.
    """
    held = server_places()
    known = {place.serial for place in held}
    ports = [place for place in usb_places() if place.serial not in known]
    text = os.environ.get(ADDRESSES, "") if addresses is None else addresses
    named = [part.strip() for part in text.split(",") if part.strip()]
    network = [tcp_place(part) for part in named if part not in known]
    return [*held, *ports, *network]


def server_places() -> list[Place]:
    """What the running adb server lists; nothing where none runs."""
    from android_bench.adb.server import listed_phones, server_address

    listed = listed_phones(server_address()) or []
    return [Place("server", phone.serial, phone.state, phone) for phone in listed]


def usb_places() -> list[Place]:
    """Phones at USB ports."""
    return [
        Place("usb", phone.serial or phone.port, _usb_state(phone), usb=phone)
        for phone in usb_phones()
    ]


def tcp_place(address: str) -> Place:
    """A phone on the network. Raises BenchError when the address is none."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BenchError(
            f"Address {address!r} of a phone is none; accepted: HOST:PORT, e.g."
            " 192.168.1.5:5555."
        )
    return Place("tcp", address)


def find(name: str) -> Place:
    """The phone of that name.

    Raises:
        BenchError: there is none, there are several, or adb cannot use it.
    """
    way, _, rest = name.partition(":")
    if way == "server":
        return _of_server(rest)
    if way == "usb":
        return _pick(rest, usb_places())
    if way == "tcp":
        return tcp_place(rest)
    if name == ANY_PHONE:
        return _pick(os.environ.get("ANDROID_SERIAL", ""), places())
    if _ADDRESS.fullmatch(name):
        held = [place for place in server_places() if place.serial == name]
        return check_usable(held[0]) if held else tcp_place(name)
    return _pick(name, places())


def _running_server() -> list[Place]:
    from android_bench.adb.server import listed_phones, server_address

    address = server_address()
    if listed_phones(address) is None:
        raise BenchError(
            f"No adb server runs at {address}; start it with `adb start-server`, or"
            " leave 'server:' out of the name."
        )
    return server_places()


def _pick(serial: str, among: list[Place]) -> Place:
    """The one of that serial number, or the only one where none is named."""
    found = [place for place in among if serial in ("", place.serial)]
    if not found and serial:
        raise BenchError(unknown_phone(serial, [place.serial for place in among]))
    if not found:
        raise BenchError(f"No phone is there: {PLUG_IN}.")
    if len(found) > 1:
        names = ", ".join(place.name for place in found)
        raise BenchError(
            f"{len(found)} phones are there: {names}. Name one of them, or measure on"
            " all with 'all'."
        )
    return check_usable(found[0])


def check_usable(place: Place) -> Place:
    """The place itself. Raises NotReached when adb cannot use the phone as it is."""
    if place.state == USABLE:
        return place
    if place.listed is not None:
        raise NotReached(refusal(place.serial, place.listed), place.state)
    raise NotReached(
        f"Phone {place.name} is {place.state!r}: {advice_for(place.state)}.",
        place.state,
    )


def _usb_state(phone: UsbPhone) -> str:
    if phone.claimed:
        return "busy"
    return USABLE if phone.permitted else "no permissions"


def find_again(place: Place) -> Place:
    """The same phone after its connection was lost.

    Raises:
        BenchError: it is not there (yet).
    """
    if place.way == "server":
        return _of_server(place.serial)
    return find(place.name)


def _of_server(serial: str) -> Place:
    """A phone that the running server lists, or finds on the network when told to.

    A restarted server has forgotten phones on the network, and one that has lost such a
    phone looks for it only now and then.
    """
    listed = _running_server()
    states = {place.serial: place.state for place in listed}
    if _ADDRESS.fullmatch(serial) and states.get(serial, "offline") == "offline":
        from android_bench.adb.server import server_address, tell_server

        tell_server(server_address(), serial)
        listed = server_places()
    return _pick(serial, listed)
