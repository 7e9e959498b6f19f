"""Phone doubles, Google's own adb beside them, and small files to push."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.phone_double import OLD, Adb, PhoneDouble, convolutions, write_tool
from tests.phone_double.clients.client import Client

TMP = "/data/local/tmp"


@pytest.fixture
def phone_double() -> Iterator[PhoneDouble]:
    """A new big.LITTLE phone that lets any key in."""
    with PhoneDouble() as double:
        yield double


@pytest.fixture
def old_phone() -> Iterator[PhoneDouble]:
    """An old one: no shell v2, no sha256sum, no thermalservice, 32-bit programs."""
    with PhoneDouble(OLD) as double:
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


@pytest.fixture
def put(phone_double: PhoneDouble) -> Callable[..., str]:
    """Puts a file below the phone's /data/local/tmp, as a push does; gives its path."""

    def put(source: Path | bytes, name: str, mode: int = 0o777) -> str:
        target = phone_double.host_path(f"{TMP}/{name}")
        target.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
        target.chmod(mode)
        return f"{TMP}/{name}"

    return put


@pytest.fixture
def client(phone_double: PhoneDouble) -> Iterator[Client]:
    """The least client there is, let in without a key."""
    phone_double.trust.required = False
    with Client(phone_double.address) as client:
        yield client
