"""Whom the double lets in: keys as adb makes them, signatures as adb signs."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_pythonrsa import PythonRSASigner

from tests.phone_double.adbd.auth import TOKEN_BYTES, Trust, parse_public_key
from tests.phone_double.clients.adb_binary import Adb
from tests.phone_double.double import PhoneDouble


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "adbkey"
    keygen(str(path))
    return path


def test_a_signature_of_the_token_is_accepted_and_of_no_other(key: Path) -> None:
    public = key.with_suffix(".pub").read_text()
    signer = PythonRSASigner(public, key.read_text())
    known = parse_public_key(public.encode())
    token, other = os.urandom(TOKEN_BYTES), os.urandom(TOKEN_BYTES)
    signature = bytes(signer.Sign(token))
    assert known.verifies(token, signature)
    assert not known.verifies(other, signature)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    assert not known.verifies(token, flipped)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: b"\x20" + raw[1:],
        lambda raw: raw[:8] + bytes([raw[8] ^ 2]) + raw[9:],
        lambda raw: raw[:-4] + b"\x05\0\0\0",
    ],
    ids=["short", "size", "modulus", "exponent"],
)
def test_what_is_no_key_is_refused(key: Path, spoil: Callable[[bytes], bytes]) -> None:
    raw = base64.b64decode(key.with_suffix(".pub").read_bytes().split()[0])
    with pytest.raises(ValueError):
        parse_public_key(base64.b64encode(spoil(raw)) + b" a@b\0")


def test_a_new_key_waits_for_the_owner(adb: Adb) -> None:
    with PhoneDouble(trust=Trust(tap_after_s=None)) as phone:
        adb("connect", phone.serial)
        adb.wait_until(
            lambda: adb.state(phone.serial) == "unauthorized", "unauthorised"
        )
        done = adb("shell", "true")
        assert done.returncode == 1 and b"device unauthorized" in done.stderr
        assert len(phone.trust.asked) == 1
        assert phone.connected == 0


def test_the_owner_may_take_his_time(adb: Adb) -> None:
    with PhoneDouble(trust=Trust(tap_after_s=1.5)) as phone:
        adb("connect", phone.serial)
        assert adb.state(phone.serial) == "unauthorized"
        adb.wait_until(lambda: adb.state(phone.serial) == "device", "tapped")


def test_a_known_key_is_not_asked_again(phone_double: PhoneDouble, adb: Adb) -> None:
    adb.connect(phone_double.serial)
    phone_double.trust.tap_after_s = None
    adb("disconnect", phone_double.serial)
    adb.connect(phone_double.serial)
    assert len(phone_double.trust.asked) == 1


def test_permission_can_be_taken_back_amid_a_command(
    phone_double: PhoneDouble, adb: Adb
) -> None:
    adb.connect(phone_double.serial)
    run = adb.start("shell", "echo begun; sleep 30; echo ended")
    assert run.stdout is not None and run.stdout.readline() == b"begun\n"
    phone_double.revoke()
    out, _ = run.communicate(timeout=20)
    assert b"ended" not in out and run.returncode != 0
    adb("connect", phone_double.serial)
    adb.wait_until(
        lambda: adb.state(phone_double.serial) == "unauthorized", "unauthorised"
    )


def test_a_phone_may_ask_for_no_key(adb: Adb) -> None:
    with PhoneDouble(trust=Trust(required=False)) as phone:
        begin = time.monotonic()
        adb.connect(phone.serial)
        assert adb("shell", "echo in").stdout == b"in\n"
        assert phone.trust.asked == [] and time.monotonic() - begin < 60
