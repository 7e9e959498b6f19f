"""Names of phones, USB ports as Linux lists them, adb's variables, and advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from android_bench.adb import reach
from android_bench.adb import server as adb_server
from android_bench.adb.advice import advice_for, unknown_phone
from android_bench.adb.device_list import AdbListed, parse_adb_devices
from android_bench.adb.reach import (
    UnreachableError,
    find,
    reachable_endpoints,
    tcp_endpoint,
)
from android_bench.adb.server import ServerAddress, server_address
from android_bench.adb.usb import UsbPhone, usb_phones
from android_bench.devices import open_device
from android_bench.errors import BenchError


def plug_in(sys: Path, dev: Path, port: str, serial: str, **files: str) -> None:
    device = sys / "bus/usb/devices" / port
    interface = sys / "bus/usb/devices" / f"{port}:1.0"
    for folder in (device, interface):
        folder.mkdir(parents=True)
    number = port.rpartition("-")[2]
    told = {"busnum": "1", "devnum": number, "serial": serial, "product": "Phone"}
    for name, content in told.items():
        (device / name).write_text(content + "\n")
    kind = {"Class": "ff", "SubClass": "42", "Protocol": "01", **files}
    for name, content in kind.items():
        (interface / f"bInterface{name}").write_text(content + "\n")
    node = dev / "bus/usb/001" / f"{int(number):03d}"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.write_bytes(b"")


def test_phones_at_usb_ports_are_seen_without_opening_them(tmp_path: Path) -> None:
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    plug_in(sys, dev, "1-2", "SER1")
    plug_in(sys, dev, "1-3", "MOUSE", Class="03")
    plug_in(sys, dev, "1-4", "SER2")
    (sys / "bus/usb/devices/1-4:1.0/driver").mkdir()
    first, second = usb_phones(sys, dev)
    assert (first.serial, first.port, first.claimed) == ("SER1", "1-2", False)
    assert first.permitted
    assert first.node == dev / "bus/usb/001/002"
    assert (second.serial, second.claimed) == ("SER2", True)


def test_a_node_that_cannot_be_opened_is_no_permission(tmp_path: Path) -> None:
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    plug_in(sys, dev, "1-2", "SER1")
    (dev / "bus/usb/001/002").unlink()
    (phone,) = usb_phones(sys, dev)
    assert not phone.permitted


@pytest.fixture
def within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with phones in several states, one of them also at a port."""
    listed = (
        "AAA1\tdevice product:x model:Pixel_8 device:y transport_id:3\n"
        "BBB2\tunauthorized transport_id:4\n"
        "CCC3\toffline transport_id:5\n"
        "192.168.1.7:5555\tdevice transport_id:6\n"
    )
    phones = parse_adb_devices("List of devices attached\n" + listed)
    monkeypatch.setattr(adb_server, "listed_phones", lambda address: phones)
    ports = [
        UsbPhone("AAA1", "1-1", Path("/dev/x"), "Phone", False, True),
        UsbPhone("DDD4", "1-2", Path("/dev/y"), "Phone", False, False),
        UsbPhone("EEE5", "1-3", Path("/dev/z"), "Phone", True, False),
    ]
    monkeypatch.setattr(reach, "usb_phones", lambda: ports)
    monkeypatch.delenv(reach.ADDRESSES, raising=False)


def test_a_phone_that_the_server_holds_is_listed_once(within_reach: None) -> None:
    found = [(p.kind, p.serial, p.state) for p in reachable_endpoints("10.0.0.1:5555")]
    assert found == [
        ("server", "AAA1", "device"),
        ("server", "BBB2", "unauthorized"),
        ("server", "CCC3", "offline"),
        ("server", "192.168.1.7:5555", "device"),
        ("usb", "DDD4", "no permissions"),
        ("usb", "EEE5", "device"),
        ("tcp", "10.0.0.1:5555", "device"),
    ]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("AAA1", "server"),
        ("server:AAA1", "server"),
        ("EEE5", "usb"),
        ("usb:EEE5", "usb"),
        ("192.168.1.7:5555", "server"),
        ("tcp:192.168.1.7:5555", "tcp"),
        ("10.0.0.1:5555", "tcp"),
        ("[fe80::1]:5555", "tcp"),
    ],
)
def test_the_way_is_chosen_by_itself_or_by_the_user(
    within_reach: None, name: str, way: str
) -> None:
    assert find(name).kind == way


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("BBB2", "Phone BBB2 is 'unauthorized': unlock it and tap 'Allow'"),
        ("CCC3", "Phone CCC3 is 'offline': plug it in again"),
        ("DDD4", "Phone usb:DDD4 is 'no permissions': let your user open it"),
        ("usb:AAA1", "Phone usb:AAA1 is 'busy': another program holds it"),
        ("phone", "phones are there: server:AAA1, server:BBB2, server:CCC3"),
        ("AAA", "Phone 'AAA' is not there; there are AAA1, BBB2"),
        ("EEES5", "Did you mean EEE5?"),
        ("tcp:nowhere", "Address 'nowhere' of a phone is none; accepted: HOST:PORT"),
        ("tcp:nowhere:99999", "accepted: HOST:PORT"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    within_reach: None, name: str, told: str
) -> None:
    with pytest.raises(BenchError) as error:
        find(name)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_state_of_a_phone_goes_with_its_error(within_reach: None) -> None:
    with pytest.raises(UnreachableError) as error:
        find("BBB2")
    assert error.value.state == "unauthorized"


def test_without_any_phone_the_way_to_one_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adb_server, "listed_phones", lambda address: None)
    monkeypatch.setattr(reach, "usb_phones", list)
    monkeypatch.delenv(reach.ADDRESSES, raising=False)
    with pytest.raises(BenchError, match="No phone is there: plug it in"):
        open_device("phone")
    with pytest.raises(BenchError, match="'XYZ' is not there, nor is any other"):
        open_device("XYZ")
    with pytest.raises(BenchError, match=r"No adb server runs at .*adb start-server"):
        open_device("server:XYZ")


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "127.0.0.1:5037"),
        ({"ANDROID_ADB_SERVER_PORT": "6000"}, "127.0.0.1:6000"),
        ({"ANDROID_ADB_SERVER_ADDRESS": "box"}, "box:5037"),
        ({"ADB_SERVER_SOCKET": "tcp:box:6001"}, "box:6001"),
        ({"ADB_SERVER_SOCKET": "tcp:6001"}, "127.0.0.1:6001"),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:6001"}, "::1:6001"),
    ],
)
def test_adbs_own_variables_tell_where_its_server_is(
    environ: dict[str, str], address: str
) -> None:
    assert str(server_address(environ)) == address


@pytest.mark.parametrize(
    "environ",
    [
        {"ANDROID_ADB_SERVER_PORT": "x"},
        {"ANDROID_ADB_SERVER_PORT": "70000"},
        {"ADB_SERVER_SOCKET": "localfilesystem:/x"},
    ],
)
def test_a_server_that_cannot_be_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(BenchError, match="names no adb server"):
        server_address(environ)


def test_no_server_is_started_to_list_phones() -> None:
    assert adb_server.listed_phones(ServerAddress("127.0.0.1", 1)) is None


def test_every_state_has_advice_and_unknown_ones_too() -> None:
    assert "revoke" in advice_for("unauthorized")
    assert "udev" in advice_for("no permissions")
    assert advice_for("a state of tomorrow")
    assert "nor is any other" in unknown_phone("x", [])


def test_an_address_is_its_own_serial() -> None:
    endpoint = tcp_endpoint("box:5555")
    assert (endpoint.name, endpoint.serial) == ("tcp:box:5555", "box:5555")


def test_reasons_of_adb_reach_the_user() -> None:
    listed = AdbListed("X", "no permissions", {"reason": "(missing udev rules?)"})
    endpoint = reach.Endpoint("server", "X", listed.state, listed)
    with pytest.raises(UnreachableError, match=r"missing udev rules\?.*plugdev"):
        reach.check_usable(endpoint)
