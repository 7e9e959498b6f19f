"""Finds the endpoint of a phone (transport and serial number) by the name typed.

A running adb server that lists the phone is used, because it holds the phone's USB
port; else the phone is reached directly. ``server:``, ``usb:`` and ``tcp:`` before the
name choose the transport.
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
from android_bench.adb.device_list import AdbListed
from android_bench.adb.usb import UsbPhone, usb_phones
from android_bench.errors import BenchError

TransportKind = Literal["usb", "tcp", "server"]

ANY_PHONE = "phone"
ADDRESSES = "MESS_PHONES"
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):(\d{1,5})")


class UnreachableError(BenchError):
    """A phone that is there but cannot be used as it is.

    Attributes:
        state: in adb's words; see ``android_bench.adb.advice``.
    """

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True)
class Endpoint:
    """A phone and the transport that reaches it.

    Attributes:
        serial: its serial number, or ``host:port``.
        state: in adb's words; ``device`` for those that are not asked yet.
        listed: the server's line about it.
        usb: its USB port.
    """

    kind: TransportKind
    serial: str
    state: str = USABLE
    listed: AdbListed | None = None
    usb: UsbPhone | None = None

    @property
    def name(self) -> str:
        """What a user types to reach it over this transport."""
        return f"{self.kind}:{self.serial}"


def reachable_endpoints(addresses: str | None = None) -> list[Endpoint]:
    """Every phone within reach; one that a server holds is listed there only.

    Args:
        addresses: ``host:port`` of phones on the network, separated by commas; by
            default those of the environment variable ``MESS_PHONES``.
    """
    held = server_endpoints()
    known = {endpoint.serial for endpoint in held}
    ports = [endpoint for endpoint in usb_endpoints() if endpoint.serial not in known]
    text = os.environ.get(ADDRESSES, "") if addresses is None else addresses
    named = [part.strip() for part in text.split(",") if part.strip()]
    network = [tcp_endpoint(part) for part in named if part not in known]
    return [*held, *ports, *network]


def server_endpoints() -> list[Endpoint]:
    """What the running adb server lists; nothing where none runs."""
    from android_bench.adb.server import listed_phones, server_address

    listed = listed_phones(server_address()) or []
    return [Endpoint("server", phone.serial, phone.state, phone) for phone in listed]


def usb_endpoints() -> list[Endpoint]:
    """Phones at USB ports."""
    return [
        Endpoint("usb", phone.serial or phone.port, _usb_state(phone), usb=phone)
        for phone in usb_phones()
    ]


def tcp_endpoint(address: str) -> Endpoint:
    """A phone on the network. Raises BenchError when the address is none."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BenchError(
            f"Address {address!r} of a phone is none; accepted: HOST:PORT, e.g."
            " 192.168.1.5:5555."
        )
    return Endpoint("tcp", address)


def find(name: str) -> Endpoint:
    """The phone of that name.

    Raises:
        BenchError: there is none, there are several, or adb cannot use it.
    """
    kind, _, rest = name.partition(":")
    if kind == "server":
        return _of_server(rest)
    if kind == "usb":
        return _pick(rest, usb_endpoints())
    if kind == "tcp":
        return tcp_endpoint(rest)
    if name == ANY_PHONE:
        return _pick(os.environ.get("ANDROID_SERIAL", ""), reachable_endpoints())
    if _ADDRESS.fullmatch(name):
        held = [endpoint for endpoint in server_endpoints() if endpoint.serial == name]
        return check_usable(held[0]) if held else tcp_endpoint(name)
    return _pick(name, reachable_endpoints())


def _running_server() -> list[Endpoint]:
    from android_bench.adb.server import listed_phones, server_address

    address = server_address()
    if listed_phones(address) is None:
        raise BenchError(
            f"No adb server runs at {address}; start it with `adb start-server`, or"
            " leave 'server:' out of the name."
        )
    return server_endpoints()


def _pick(serial: str, among: list[Endpoint]) -> Endpoint:
    """The one of that serial number, or the only one where none is named."""
    found = [endpoint for endpoint in among if serial in ("", endpoint.serial)]
    if not found and serial:
        raise BenchError(unknown_phone(serial, [endpoint.serial for endpoint in among]))
    if not found:
        raise BenchError(f"No phone is there: {PLUG_IN}.")
    if len(found) > 1:
        names = ", ".join(endpoint.name for endpoint in found)
        raise BenchError(
            f"{len(found)} phones are there: {names}. Name one of them, or measure on"
            " all with 'all'."
        )
    return check_usable(found[0])


def check_usable(endpoint: Endpoint) -> Endpoint:
    """Returns the endpoint. Raises UnreachableError when adb cannot use the phone."""
    if endpoint.state == USABLE:
        return endpoint
    if endpoint.listed is not None:
        raise UnreachableError(
            refusal(endpoint.serial, endpoint.listed), endpoint.state
        )
    raise UnreachableError(
        f"Phone {endpoint.name} is {endpoint.state!r}: {advice_for(endpoint.state)}.",
        endpoint.state,
    )


def _usb_state(phone: UsbPhone) -> str:
    if phone.claimed:
        return "busy"
    return USABLE if phone.permitted else "no permissions"


def find_again(endpoint: Endpoint) -> Endpoint:
    """The same phone after its connection was lost.

    Raises:
        BenchError: it is not there (yet).
    """
    if endpoint.kind == "server":
        return _of_server(endpoint.serial)
    return find(endpoint.name)


def _of_server(serial: str) -> Endpoint:
    """A phone that the running server lists, or finds on the network when asked to.

    A restarted server has forgotten phones on the network, and one that has lost such a
    phone looks for it only now and then.
    """
    listed = _running_server()
    states = {endpoint.serial: endpoint.state for endpoint in listed}
    if _ADDRESS.fullmatch(serial) and states.get(serial, "offline") == "offline":
        from android_bench.adb.server import connect_through_server, server_address

        connect_through_server(server_address(), serial)
        listed = server_endpoints()
    return _pick(serial, listed)
