"""The adb server that may already run on this computer, without ever starting one."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import adbutils
from adbutils._adb import AdbConnection

from android_bench.adb.device_list import AdbListed, parse_adb_devices
from android_bench.errors import BenchError, ParseError

ANSWER_S = 10.0


@dataclass(frozen=True)
class ServerAddress:
    """Where an adb server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def server_address(environ: Mapping[str, str] = os.environ) -> ServerAddress:
    """Where adb's environment variables say that the server listens.

    Raises:
        BenchError: they say something that cannot be.
    """
    text = environ.get("ADB_SERVER_SOCKET", "")
    if text:
        match = re.fullmatch(r"tcp:(?:(.+):)?(\d{1,5})", text)
        name, host, port = "ADB_SERVER_SOCKET", "", text
        if match:
            host, port = match[1] or "", match[2]
    else:
        name = "ANDROID_ADB_SERVER_PORT"
        host = environ.get("ANDROID_ADB_SERVER_ADDRESS", "")
        port = environ.get(name, "5037")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BenchError(
            f"{name} = {environ.get(name)!r} names no adb server; accepted: a port, or"
            " tcp:HOST:PORT for ADB_SERVER_SOCKET. Unset it for the usual 5037."
        )
    return ServerAddress(host.strip("[]") or "127.0.0.1", int(port))


class _Connection(AdbConnection):
    """adbutils' connection; it never starts a server where none runs."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        super().__init__(host, port)

    def _safe_connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=ANSWER_S)


class ServerClient(adbutils.AdbClient):
    """adbutils' client with bounded waits, for a server that runs already."""

    def __init__(self, address: ServerAddress) -> None:
        super().__init__(host=address.host, port=address.port)

    def make_connection(self, timeout: float | None = None) -> AdbConnection:
        connection = _Connection(self.host, self.port)
        connection.conn.settimeout(timeout or ANSWER_S)
        return connection


# What adbutils raises on a server that goes away or says something else.
SERVER_ERRORS: tuple[type[Exception], ...] = (
    adbutils.AdbError,
    EOFError,
    OSError,
    ValueError,
)
_LIST_ERRORS: tuple[type[Exception], ...] = (*SERVER_ERRORS, ParseError)


def server_runs(address: ServerAddress) -> bool:
    """Whether an adb server answers there."""
    try:
        return ServerClient(address).server_version() > 0
    except SERVER_ERRORS:
        return False


def listed_phones(address: ServerAddress) -> list[AdbListed] | None:
    """The phones the server lists, in whatever state; None where no server runs.

    Raises:
        BenchError: something answers there, but not as an adb server does.
    """
    if not server_runs(address):
        return None
    try:
        with ServerClient(address).make_connection() as connection:
            connection.send_command("host:devices-l")
            connection.check_okay()
            text = connection.read_string_block()
        return parse_adb_devices("List of devices attached\n" + text)
    except _LIST_ERRORS as error:
        raise BenchError(
            f"The adb server at {address} does not tell its phones ({error}); restart"
            " it with `adb kill-server`."
        ) from error


def connect_through_server(address: ServerAddress, phone: str) -> None:
    """Has a running server connect anew to a phone on the network.

    Raises:
        BenchError: the server is gone.
    """
    try:
        client = ServerClient(address)
        client.disconnect(phone)  # a phone that it does not know is no error here
        client.connect(phone, timeout=ANSWER_S)
    except SERVER_ERRORS as error:
        raise BenchError(
            f"The adb server at {address} does not answer ({error})."
        ) from error


def open_service(
    address: ServerAddress, phone: AdbListed, service: str, silence_s: float
) -> AdbConnection:
    """Opens a service of a phone, e.g. ``shell:ls``, through the server.

    Raises:
        SERVER_ERRORS: the server or the phone is gone, or does not know the service.
    """
    number = _transport_id(phone)
    chosen = f"transport-id:{number}" if number else f"transport:{phone.serial}"
    connection = ServerClient(address).make_connection(silence_s)
    try:
        for request in (f"host:{chosen}", service):
            data = request.encode()
            connection.conn.sendall(b"%04x" % len(data) + data)
            connection.check_okay()
    except SERVER_ERRORS:
        connection.close()
        raise
    return connection


def features(address: ServerAddress, phone: AdbListed) -> list[str]:
    """What the phone's adb daemon can do. Raises as ``open_service`` does."""
    number = _transport_id(phone)
    whose = f"host-transport-id:{number}" if number else f"host-serial:{phone.serial}"
    with ServerClient(address).make_connection() as connection:
        connection.send_command(f"{whose}:features")
        connection.check_okay()
        reported: str = connection.read_string_block()
    return reported.split(",")


def _transport_id(phone: AdbListed) -> str:
    """The server's number of the phone, because two may have one serial number; "" from
    servers that tell none."""
    number = phone.details.get("transport_id", "")
    return number if number.isdecimal() else ""
