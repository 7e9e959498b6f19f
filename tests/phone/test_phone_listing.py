"""Phones within reach, whatever their state, and why some do not open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from android_bench.adb.connect import connect
from android_bench.adb.reach import UnreachableError, find
from android_bench.errors import BenchError
from android_bench.phones.listing import list_phones
from tests.phone_double import Adb, PhoneDouble, Trust


def test_a_phone_that_the_server_holds_tells_everything(
    phone_double: PhoneDouble, shared_adb: Adb, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_adb.connect(phone_double.serial)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(shared_adb.port))
    phone_double.state.sensor_status["skin-therm"] = 2
    listed = {phone.serial: phone for phone in list_phones()}
    phone = listed[phone_double.serial]
    shared_adb("disconnect", phone_double.serial)
    assert (phone.transport, phone.state) == ("server", "device")
    assert phone.name == f"server:{phone_double.serial}"
    assert (phone.model, phone.soc, phone.abi) == (
        "Mess Doublet 8",
        "Mess MS8400",
        "arm64-v8a",
    )
    assert (phone.android, phone.cores) == ("14", 8)
    assert phone.core_max_khz[0] == 1_804_000 and phone.core_max_khz[7] == 2_850_000
    assert phone.gpu is not None and "Pixel Mill" in phone.gpu
    assert (phone.battery_percent, phone.charging) == (87.0, True)
    assert (phone.temperature_c, phone.thermal_status) == (30.6, 2)
    assert f"--device {phone.name}" in phone.advice


def test_looking_asks_no_phones_owner_for_trust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with PhoneDouble(trust=Trust(tap_after_s=None)) as stranger, PhoneDouble() as other:
        other.trust.required = False
        phones = list_phones(f"{stranger.serial},{other.serial},127.0.0.1:1")
        assert stranger.trust.asked == []
    assert [phone.state for phone in phones] == [
        "unauthorized",
        "device",
        "unreachable",
    ]
    assert "tap 'Allow'" in phones[0].advice and phones[0].model is None
    assert "Connection refused" in phones[2].advice


def test_an_owner_who_taps_too_late_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("android_bench.adb.connect.TRUST_S", 0.5)
    with PhoneDouble(trust=Trust(tap_after_s=None)) as phone:
        with pytest.raises(
            UnreachableError, match="nobody allowed it within 0.5 s"
        ) as error:
            connect(find(f"tcp:{phone.serial}"))
        assert len(phone.trust.asked) == 1
    assert error.value.state == "unauthorized"


def test_a_tap_lets_us_in_and_is_remembered() -> None:
    with PhoneDouble(trust=Trust(tap_after_s=0.2)) as phone:
        for _ in range(2):
            opened = connect(find(f"tcp:{phone.serial}"))
            assert opened.shell(["echo", "in"]).stdout == b"in\n"
            opened.close()
        assert len(phone.trust.asked) == 1


def test_a_servers_port_is_not_a_phones(shared_adb: Adb) -> None:
    shared_adb("start-server")
    with pytest.raises(BenchError, match="an adb server listens, not a phone"):
        connect(find(f"tcp:127.0.0.1:{shared_adb.port}"))


@pytest.fixture
def says(request: pytest.FixtureRequest) -> Iterator[str]:
    """Something that listens and answers so; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(24)
                client.sendall(request.param)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


STLS = b"STLS" + bytes(16) + bytes(b ^ 0xFF for b in b"STLS")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"", "does not answer as a phone does"),
        (b"Android Console: Authentication required\r\n", "does not answer as a phone"),
        (STLS, "wants an encrypted connection.*adb pair"),
    ],
    indirect=["says"],
)
def test_what_is_no_phone_is_told(says: str, told: str) -> None:
    with pytest.raises(UnreachableError, match=told) as error:
        connect(find(f"tcp:{says}"))
    assert "\n" not in str(error.value)


def test_a_key_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No adb key at"), PhoneDouble() as phone:
        connect(find(f"tcp:{phone.serial}"), key=tmp_path / "absent")
