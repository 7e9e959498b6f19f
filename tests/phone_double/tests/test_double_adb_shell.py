"""The double before adb_shell, the client library that measuring uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from adb_shell.adb_device import AdbDeviceTcp
from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_pythonrsa import PythonRSASigner
from adb_shell.exceptions import PushFailedError, TcpTimeoutException

from tests.phone_double.adbd.auth import Trust
from tests.phone_double.double import PhoneDouble

TMP = "/data/local/tmp"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> PythonRSASigner:
    path = tmp_path_factory.mktemp("key") / "adbkey"
    keygen(str(path))
    return PythonRSASigner(path.with_suffix(".pub").read_text(), path.read_text())


def open_device(double: PhoneDouble, signer: PythonRSASigner) -> AdbDeviceTcp:
    device = AdbDeviceTcp(*double.address, default_transport_timeout_s=20.0)
    device.connect(rsa_keys=[signer], auth_timeout_s=10.0)
    return device


@pytest.fixture(params=["phone_double", "old_phone"])
def device(
    request: pytest.FixtureRequest, signer: PythonRSASigner
) -> Iterator[AdbDeviceTcp]:
    device = open_device(request.getfixturevalue(request.param), signer)
    yield device
    device.close()


def test_shell(device: AdbDeviceTcp) -> None:
    answer = device.shell("echo one; echo two >&2; sh -c 'exit 3'; echo $?")
    assert answer.replace("\r\n", "\n") == "one\ntwo\n3\n"


def test_lines_come_as_they_are_printed(
    phone_double: PhoneDouble, signer: PythonRSASigner
) -> None:
    device = open_device(phone_double, signer)
    fifo = phone_double.host_path(f"{TMP}/fifo")
    os.mkfifo(fifo)
    lines = device.streaming_shell(f"echo first; cat {TMP}/fifo; echo last")
    assert next(lines) == "first\n"
    # Only now can the command go on.
    fifo.write_text("second\n")
    assert "".join(lines) == "second\nlast\n"
    device.close()


def test_push_stat_list_and_pull(device: AdbDeviceTcp, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    device.push(str(tmp_path / "there"), f"{TMP}/folder/file", st_mode=0o100755)
    mode, size, _ = device.stat(f"{TMP}/folder/file")
    assert (mode, size) == (0o100777, len(content))
    names = {bytes(entry.filename) for entry in device.list(f"{TMP}/folder")}
    assert names == {b".", b"..", b"file"}
    device.pull(f"{TMP}/folder/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_what_is_not_there_has_no_mode(device: AdbDeviceTcp) -> None:
    assert device.stat(f"{TMP}/nothing") == (0, 0, 0)


def test_a_push_that_fails_says_so(device: AdbDeviceTcp, tool_file: Path) -> None:
    with pytest.raises(PushFailedError, match="Read-only file system"):
        device.push(str(tool_file), "/system/tool")


def test_who_has_no_permission_is_not_let_in(signer: PythonRSASigner) -> None:
    with PhoneDouble(trust=Trust(tap_after_s=None)) as double:
        device = AdbDeviceTcp(*double.address, default_transport_timeout_s=5.0)
        with pytest.raises(TcpTimeoutException):
            device.connect(rsa_keys=[signer], auth_timeout_s=0.5)
        device.close()
        assert double.connected == 0


def test_two_clients_at_once(
    phone_double: PhoneDouble, signer: PythonRSASigner
) -> None:
    first, second = (open_device(phone_double, signer) for _ in range(2))
    assert first.shell("echo 1") == "1\n" and second.shell("echo 2") == "2\n"
    first.close()
    assert second.shell("echo still") == "still\n"
    second.close()
