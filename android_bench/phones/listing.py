"""Lists the phones within reach, their state, and advice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from android_bench.adb.advice import USABLE, advice_for
from android_bench.adb.connect import connect
from android_bench.adb.reach import (
    Endpoint,
    TransportKind,
    UnreachableError,
    reachable_endpoints,
)
from android_bench.errors import BenchError
from android_bench.phones.conditions import SlowState, parse_slow, temperature_c
from android_bench.phones.facts import PhoneFacts, parse_facts
from android_bench.phones.shell_batch import FACT_COMMANDS, STATE_COMMANDS, run_batch

MOST_AT_ONCE = 16


@dataclass(frozen=True)
class PhoneListing:
    """One phone; None is what it does not tell, e.g. because it is not authorised.

    Attributes:
        name: what to type to reach it over this transport, e.g. ``server:0A1B``.
        serial: its serial number; ``host:port`` where only that is known.
        transport: ``server`` (a running adb server holds it), ``usb`` or ``tcp``.
        state: ``device`` (usable) or what is wrong, as adb says it: ``offline``,
            ``unauthorized``, ``no permissions``, ...
        core_max_khz: highest frequency of each core by number; None for cores that do
            not tell theirs.
        thermal_status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency,
            6 shutdown; the worst the phone or one of its sensors tells.
        advice: one line: what to do, or how to measure on it.
    """

    name: str
    serial: str
    transport: TransportKind
    state: str
    advice: str
    model: str | None = None
    soc: str | None = None
    android: str | None = None
    abi: str | None = None
    cores: int | None = None
    core_max_khz: tuple[int | None, ...] = ()
    gpu: str | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    thermal_status: int | None = None


def list_phones(addresses: str | None = None) -> list[PhoneListing]:
    """Every phone within reach, in whatever state; all are asked at the same time.

    Looked at are the running adb server (none is started), the USB ports, and phones on
    the network that are named. A phone that a server holds is listed there only.

    Args:
        addresses: ``host:port`` of phones on the network, separated by commas; by
            default those of the environment variable ``MESS_PHONES``.

    Raises:
        BenchError: an address or a setting of adb's server that cannot be.
    """
    found = reachable_endpoints(addresses)
    if not found:
        return []
    with ThreadPoolExecutor(max_workers=min(len(found), MOST_AT_ONCE)) as pool:
        return list(pool.map(_look_at, found))


def _look_at(endpoint: Endpoint) -> PhoneListing:
    bare = PhoneListing(
        name=endpoint.name,
        serial=endpoint.serial,
        transport=endpoint.kind,
        state=endpoint.state,
        advice=advice_for(endpoint.state),
        model=_known_model(endpoint),
    )
    if endpoint.state != USABLE:
        return bare
    try:
        transport = connect(endpoint, ask=False)
    except UnreachableError as error:
        return replace(bare, state=error.state, advice=str(error))
    except BenchError as error:
        return replace(bare, state="offline", advice=str(error))
    try:
        answers = run_batch(transport, {**FACT_COMMANDS, **STATE_COMMANDS})
        facts = parse_facts(answers, transport.label)
    except BenchError as error:
        return replace(bare, state="offline", advice=str(error))
    finally:
        transport.close()
    return _described(bare, facts, parse_slow(answers))


def _described(bare: PhoneListing, facts: PhoneFacts, slow: SlowState) -> PhoneListing:
    battery, thermal = slow.battery, slow.thermal
    return replace(
        bare,
        advice=f"measure on it: mess profile ... --device {bare.name}",
        model=facts.model,
        soc=facts.soc,
        android=facts.android,
        abi=facts.abi,
        cores=len(facts.core_max_khz),
        core_max_khz=tuple(facts.core_max_khz.values()),
        gpu=facts.gpu,
        battery_percent=battery.level_percent if battery else None,
        charging=battery.charging if battery else None,
        temperature_c=temperature_c(slow),
        thermal_status=thermal.worst_status if thermal else None,
    )


def _known_model(endpoint: Endpoint) -> str | None:
    """What is known of a phone without asking it."""
    if endpoint.usb is not None:
        return endpoint.usb.product or None
    reported = endpoint.listed.details.get("model") if endpoint.listed else None
    return reported.replace("_", " ") if reported else None
