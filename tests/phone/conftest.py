"""The phone double, reached as a user's phone is: directly and through a server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.adb.reach import find
from android_bench.phones.device import AdbDevice
from android_bench.phones.session import ReconnectTimeouts
from tests.phone_double import Adb, PhoneDouble

PATIENCE = ReconnectTimeouts(total_s=10.0, pause_s=0.1, close_s=3.0)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's keys, adb server or cache."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with socket.socket() as probe:  # a port where no server runs
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    for name in ("ADB_SERVER_SOCKET", "ANDROID_SERIAL", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MESS_PHONES", "MESS_BENCHMARK_MODEL", "ADB_VENDOR_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return home


# What has to do with the way to the phone, or stands for the rest of the faults.
BOTH_WAYS = ("test_cable_pulled_mid_run", "test_adb_server_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Most faults and figures are tried directly; by way of a server they are slow."""
    for item in items:
        by_server = "[server" in item.name or "-server" in item.name
        long_file = item.path.name in ("test_phone_faults.py", "test_phone_device.py")
        if by_server and long_file and not item.name.startswith(BOTH_WAYS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared_adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    """A server for many tests: its start takes seconds."""
    with Adb(tmp_path_factory.mktemp("adb")) as adb:
        yield adb


@pytest.fixture(params=["direct", "server"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways to a phone: without and through an adb server."""
    way: str = request.param
    return way


@pytest.fixture
def phone_name(
    way: str,
    phone_double: PhoneDouble,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """What a user types to reach the double that way."""
    if way == "direct":
        yield f"tcp:{phone_double.serial}"
        return
    adb: Adb = request.getfixturevalue("shared_adb")
    adb.connect(phone_double.serial)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
    yield f"server:{phone_double.serial}"
    adb("disconnect", phone_double.serial)


@pytest.fixture
def open_phone(phone_name: str, tool_file: Path) -> Iterator[Callable[..., AdbDevice]]:
    """Opens the double as a device; closed at the end."""
    opened: list[AdbDevice] = []

    def open_phone(timeouts: ReconnectTimeouts = PATIENCE) -> AdbDevice:
        opened.append(AdbDevice(find(phone_name), tool_file, timeouts=timeouts))
        return opened[-1]

    yield open_phone
    for device in opened:
        device.close()
