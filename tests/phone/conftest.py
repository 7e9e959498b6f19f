"""A phone double, Google's own adb beside it, and a small model to push."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.phone_device import AdbDevice
from android_bench.phone_session import Patience
from android_bench.reach import find

# The package beside this folder (importlib mode puts nothing on the path).
sys.path.append(str(Path(__file__).parents[1]))

from phone_double.adb_binary import Adb  # noqa: E402
from phone_double.benchmark_tool import write_tool  # noqa: E402
from phone_double.double import PhoneDouble  # noqa: E402
from phone_double.tiny_model import convolutions  # noqa: E402


@pytest.fixture
def phone_double() -> Iterator[PhoneDouble]:
    """A new big.LITTLE phone that lets any key in."""
    with PhoneDouble() as double:
        yield double


@pytest.fixture
def adb(tmp_path: Path) -> Iterator[Adb]:
    """Google's adb with a server and a key of its own."""
    with Adb(tmp_path / "adb") as adb:
        yield adb


@pytest.fixture
def tool_file(tmp_path: Path) -> Path:
    """What to push as ``benchmark_model``."""
    return write_tool(tmp_path / "benchmark_model")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model of two small convolutions."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convolutions())
    return path


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
    for name in ("MESS_PHONES", "MESS_BENCHMARK_MODEL", "ANDROID_VENDOR_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return home


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
) -> str:
    """What a user types to reach the double that way."""
    if way == "direct":
        return f"tcp:{phone_double.serial}"
    adb: Adb = request.getfixturevalue("adb")
    adb.connect(phone_double.serial)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
    return f"server:{phone_double.serial}"


@pytest.fixture
def open_phone(phone_name: str, tool_file: Path) -> Iterator[Callable[[], AdbDevice]]:
    """Opens the double as a device; closed at the end."""
    opened: list[AdbDevice] = []

    def open_phone() -> AdbDevice:
        patience = Patience(in_all_s=10.0, pause_s=0.1, farewell_s=3.0)
        opened.append(AdbDevice(find(phone_name), tool_file, patience=patience))
        return opened[-1]

    yield open_phone
    for device in opened:
        device.close()
