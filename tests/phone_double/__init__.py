"""A phone to develop against: an adb daemon on loopback with a real shell behind it.

All that its users need is here; nothing is imported before it is used, since the
double's programs start anew for each command.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.phone_double.adbd.auth import Trust as Trust
    from tests.phone_double.benchmark.tool import write_tool as write_tool
    from tests.phone_double.clients.adb_binary import Adb as Adb
    from tests.phone_double.clients.tiny_model import convolutions as convolutions
    from tests.phone_double.double import PhoneDouble as PhoneDouble
    from tests.phone_double.phones.phone import BIG_LITTLE as BIG_LITTLE
    from tests.phone_double.phones.phone import OLD as OLD
    from tests.phone_double.phones.phone import Phone as Phone
    from tests.phone_double.phones.recorded import RECORDINGS as RECORDINGS
    from tests.phone_double.phones.recorded import load_recorded as load_recorded
    from tests.phone_double.phones.state import Heating as Heating
    from tests.phone_double.phones.state import PhoneState as PhoneState

_PUBLIC = {
    "Adb": "clients.adb_binary",
    "BIG_LITTLE": "phones.phone",
    "Heating": "phones.state",
    "OLD": "phones.phone",
    "Phone": "phones.phone",
    "PhoneDouble": "double",
    "PhoneState": "phones.state",
    "RECORDINGS": "phones.recorded",
    "Trust": "adbd.auth",
    "convolutions": "clients.tiny_model",
    "load_recorded": "phones.recorded",
    "write_tool": "benchmark.tool",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
