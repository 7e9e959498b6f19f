"""adb's messages, as the double sends and takes them."""

from __future__ import annotations

import pytest

from tests.phone_double.adbd.protocol import (
    CLSE,
    CNXN,
    MAX_PAYLOAD,
    OKAY,
    OPEN,
    VERSION_CHECKED,
    VERSION_UNCHECKED,
    WRTE,
    Message,
    byte_sum,
    pack,
)
from tests.phone_double.clients.client import Client
from tests.phone_double.double import PhoneDouble

TMP = "/data/local/tmp"


def test_a_message_on_the_wire() -> None:
    assert pack(Message(OKAY, 1, 2, b"ab"), True).hex() == (
        "4f4b4159 01000000 02000000 02000000 c3000000 b0b4bea6 6162".replace(" ", "")
    )
    assert pack(Message(OKAY, 1, 2, b"ab"), False)[16:20] == bytes(4)


def test_the_sum_is_of_bytes() -> None:
    content = bytes(range(256)) * 5000
    assert byte_sum(content) == sum(content)


@pytest.mark.parametrize("version", [VERSION_CHECKED, VERSION_UNCHECKED])
def test_both_versions_are_spoken(phone_double: PhoneDouble, version: int) -> None:
    phone_double.trust.required = False
    with Client(phone_double.address, version) as client:
        assert client.banner.startswith(b"device::ro.product.name=doublet;")
        assert b";features=shell_v2,cmd," in client.banner
        assert client.max_payload == MAX_PAYLOAD
        # A wrong sum would end the connection here.
        assert client.shell("echo x").out == b"x\n"


def test_a_small_payload_is_respected(phone_double: PhoneDouble) -> None:
    phone_double.trust.required = False
    with Client(phone_double.address) as client:
        client.send(Message(CNXN, VERSION_UNCHECKED, 4096, b"host::\0"))
        client.receive()
        stream = client.open("exec:seq 1 5000")
        sizes = []
        while (message := client.receive()).command != CLSE:
            sizes.append(len(message.payload))
            client.send(Message(OKAY, *stream))
        assert max(sizes) <= 4096 and sum(sizes) > 5000


def test_no_message_before_the_last_is_acknowledged(client: Client) -> None:
    stream = client.open("exec:seq 1 100000")
    first = client.receive()
    assert first.command == WRTE
    other = client.open("shell,v2,raw:true")
    assert other[1] != stream[1]
    # Everything that comes until the first stream may go on is of the second.
    seen: list[Message] = []
    while len(seen) < 2:
        message = client.receive()
        seen.append(message)
        if message.command == WRTE:
            client.send(Message(OKAY, *other))
    assert {message.arg1 for message in seen} == {other[0]}


def test_a_service_that_is_none_is_refused(client: Client) -> None:
    for service in ("jdwp", "track-jdwp", "tcp:80", "root:", "framebuffer:", ""):
        client.send(Message(OPEN, 9, 0, service.encode() + b"\0"))
        answer = client.receive()
        assert (answer.command, answer.arg0, answer.arg1) == (CLSE, 0, 9), service


def test_a_closed_stream_is_answered_once(client: Client) -> None:
    local, remote = client.open("exec:sleep 30")
    client.send(Message(CLSE, local, remote))
    answer = client.receive()
    assert (answer.command, answer.arg1) == (CLSE, local)
    client.send(Message(WRTE, local, remote, b"late"))
    late = client.receive()
    assert (late.command, late.arg0, late.arg1) == (CLSE, 0, local)


def test_what_is_no_message_ends_the_connection(client: Client) -> None:
    client._socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(ConnectionError):
        client.receive()


def test_nobody_opens_a_stream_without_permission(phone_double: PhoneDouble) -> None:
    phone_double.trust.required = False
    with Client(phone_double.address) as client:
        phone_double.trust.required = True
        client.send(Message(CNXN, VERSION_UNCHECKED, MAX_PAYLOAD, b"host::\0"))
        client.receive()
        client.send(Message(OPEN, 5, 0, b"exec:id\0"))
        with pytest.raises(ConnectionError):
            client.receive()
