"""A phone double, Google's own adb beside it, and a small model to push."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
