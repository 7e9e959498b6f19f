"""Opens the transport of a phone, or explains in one line why it does not open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.adb.advice import UDEV, advice_for
from android_bench.adb.keys import key_files, load_signers
from android_bench.adb.reach import Endpoint, UnreachableError, check_usable
from android_bench.adb.transport import Transport
from android_bench.errors import BenchError

if TYPE_CHECKING:
    from android_bench.adb.direct_transport import CheckedTransport

TRUST_S = 30.0


def connect(endpoint: Endpoint, key: Path | None = None, ask: bool = True) -> Transport:
    """Opens the transport of a phone.

    Args:
        key: adb's private key to use instead of the usual ones.
        ask: let the phone ask its user whether to trust this computer, and wait.

    Raises:
        BenchError: it does not answer, or not to us; an ``UnreachableError`` has its
            state.
    """
    if endpoint.listed is not None:
        from android_bench.adb.server import server_address
        from android_bench.adb.server_transport import ServerTransport

        return ServerTransport(server_address(), endpoint.listed)
    return _direct(endpoint, key, ask)


def _direct(endpoint: Endpoint, key: Path | None, ask: bool) -> Transport:
    from android_bench.adb.direct_transport import LINK_ERRORS, DirectTransport

    check_usable(endpoint)
    signers = load_signers(key_files(key))
    wire = _usb_wire(endpoint) if endpoint.usb else _tcp_wire(endpoint.serial)
    label = f"phone {endpoint.serial} ({'USB' if endpoint.usb else 'network'})"
    try:
        return DirectTransport(wire, signers, label, TRUST_S if ask else 0.0)
    except LINK_ERRORS as error:
        raise _explained(endpoint, error) from error


def _tcp_wire(address: str) -> CheckedTransport:
    from android_bench.adb.direct_transport import CheckedTransport, NoDelayTcp

    return CheckedTransport(NoDelayTcp(*_host_port(address)))


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _usb_wire(endpoint: Endpoint) -> CheckedTransport:
    try:
        import usb1
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise BenchError(
            f"Phone {endpoint.name} cannot be reached by USB without libusb ({error});"
            " `pip install mess-tf[usb]`, or start adb: `adb start-server`."
        ) from error
    from adb_shell.exceptions import UsbDeviceNotFoundError

    port = endpoint.usb.port if endpoint.usb else None
    from android_bench.adb.direct_transport import CheckedTransport

    try:
        # The last two: how it fails on a port without endpoints, or without a driver.
        errors = (usb1.USBError, AssertionError, TypeError)
        return CheckedTransport(UsbTransport.find_adb(port_path=port), errors)
    except (UsbDeviceNotFoundError, usb1.USBError) as error:
        raise UnreachableError(
            f"Phone {endpoint.name} cannot be opened ({error}):"
            f" {advice_for('offline')}.",
            "offline",
        ) from error


def _explained(endpoint: Endpoint, error: Exception) -> BenchError:
    """The error of one line for a connection that failed."""
    from android_bench.adb.direct_transport import Unauthorized

    said = str(error).strip() or type(error).__name__
    if isinstance(error, Unauthorized):
        return UnreachableError(
            f"Phone {endpoint.name} is 'unauthorized' ({said}):"
            f" {advice_for('unauthorized')}.",
            "unauthorized",
        )
    if endpoint.usb is not None:
        state = "busy" if "BUSY" in said.upper() else "offline"
        if "ACCESS" in said.upper():
            return UnreachableError(
                f"Phone {endpoint.name} may not be opened: {UDEV}.", state
            )
        return UnreachableError(
            f"Phone {endpoint.name} does not answer ({said}): {advice_for(state)}.",
            state,
        )
    return _network_explained(endpoint.serial, said)


def _network_explained(address: str, said: str) -> BenchError:
    from android_bench.adb.server import ServerAddress, server_runs

    if server_runs(ServerAddress(*_host_port(address))):
        return UnreachableError(
            f"At {address} an adb server listens, not a phone; leave the address out"
            " and name a phone that the server lists (see `mess devices`).",
            "host",
        )
    if "STLS" in said:
        return UnreachableError(
            f"Phone {address} wants an encrypted connection (wireless debugging), which"
            f" only adb itself makes: `adb pair`, then `adb connect {address}`.",
            "offline",
        )
    return UnreachableError(
        f"Phone {address} does not answer as a phone does ({said}):"
        f" {advice_for('unreachable')}.",
        "unreachable",
    )
