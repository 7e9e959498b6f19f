"""A phone's state: heat, battery, power saving, screen, load, frequencies."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from android_bench.errors import ParseError
from android_bench.phones.cpu import CoreFrequency, parse_cpufreq, parse_files
from android_bench.phones.dumpsys_parsers import (
    Battery,
    Thermal,
    parse_battery,
    parse_thermal,
)
from android_bench.records import (
    CAPPED,
    LOW_BATTERY,
    POWER_SAVE,
    SCREEN_OFF,
    Conditions,
)

LOW_BATTERY_PERCENT = 20.0
# Vendors round their frequency tables; a real cut is larger.
CAP = 0.97

_TICKS_PER_S = 100.0  # of /proc/stat, on every Android
_SCALING_MAX = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/cpufreq/scaling_max_freq")
_NUMBER = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class QuickState:
    """What can be read in a few milliseconds; None is what is not reported.

    Attributes:
        uptime_s: seconds since boot; it never jumps.
        boot_s: when the phone was started, by its own clock: it moves when that clock
            is set.
        busy_s: seconds that each core was busy since boot, by number; offline cores are
            not reported.
        caps_khz: highest frequency that each core may take now.
    """

    uptime_s: float | None = None
    boot_s: float | None = None
    boot_id: str | None = None
    busy_s: Mapping[int, float] = field(default_factory=dict)
    load: float | None = None
    cores: tuple[CoreFrequency, ...] = ()
    caps_khz: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SlowState:
    """What the phone's services tell; asking them takes some hundredths of a second."""

    battery: Battery | None = None
    thermal: Thermal | None = None
    power_save: bool | None = None
    screen_on: bool | None = None


def parse_quick(text: str) -> QuickState:
    """Parses the output of ``shell_batch.STATE_COMMANDS["quick"]``."""
    files = parse_files(text)
    stat = files.get("/proc/stat", "")
    caps = {}
    for path, content in files.items():
        match = _SCALING_MAX.fullmatch(path)
        if match and content.strip().isdecimal():
            caps[int(match[1])] = int(content)
    return QuickState(
        uptime_s=_first_number(files.get("/proc/uptime", "")),
        boot_s=_first_number(stat, r"^btime "),
        boot_id=files.get("/proc/sys/kernel/random/boot_id", "").strip() or None,
        busy_s={
            int(core): busy_s
            for core, ticks in re.findall(r"^cpu(\d+) +(.+)$", stat, re.M)
            if (busy_s := _busy_s(ticks)) is not None
        },
        load=_first_number(files.get("/proc/loadavg", "")),
        cores=parse_cpufreq(files),
        caps_khz=caps,
    )


def parse_slow(answers: Mapping[str, str]) -> SlowState:
    """Parses the outputs of the other commands of ``shell_batch.STATE_COMMANDS``."""
    power = answers.get("power", "")
    saver = re.search(r"(?:SaverEnabled|LowPowerModeEnabled)=(true|false)", power)
    setting = answers.get("low_power", "").strip()
    power_save = None
    if setting in ("0", "1"):
        power_save = setting == "1"
    elif saver:
        power_save = saver[1] == "true"
    screen = re.search(r"Display Power: state=([A-Z_]+)|mWakefulness=(\w+)", power)
    try:
        battery = parse_battery(answers.get("battery", ""))
    except ParseError:  # a phone without battery: a board, an emulator
        battery = None
    try:
        thermal = parse_thermal(answers.get("thermal", ""))
    except ParseError:
        thermal = None
    return SlowState(
        battery=battery,
        thermal=thermal,
        power_save=power_save,
        screen_on=None if screen is None else (screen[1] or screen[2]) in _SCREEN_ON,
    )


_SCREEN_ON = ("ON", "VR", "Awake")


def as_conditions(
    slow: SlowState,
    quick: QuickState,
    used_cores: tuple[int, ...],
    best_caps_khz: Mapping[int, int],
    max_khz: Mapping[int, int | None],
) -> Conditions:
    """The record of it.

    Throttled is a phone that says so, or one of whose used cores may not go as fast any
    more as it could before. Cores that never could are ``capped``, which waiting does
    not change.

    Args:
        used_cores: those that models run on.
        best_caps_khz: the highest caps seen since the phone was opened.
        max_khz: the cores' highest frequencies.
    """
    battery, thermal = slow.battery, slow.thermal
    status = thermal.worst_status if thermal else None
    cut = [
        core
        for core in used_cores
        if quick.caps_khz.get(core, 0) < CAP * best_caps_khz.get(core, 0)
    ]
    throttled: bool | None = None
    if status is not None or quick.caps_khz:
        throttled = bool(status) or bool(cut)
    level = battery.level_percent if battery else None
    charging = battery.charging if battery else None
    governors = {c.number: c.governor for c in quick.cores if c.governor}
    shown = [governors[core] for core in used_cores if core in governors]
    flags = {
        POWER_SAVE: slow.power_save,
        SCREEN_OFF: slow.screen_on is False,
        LOW_BATTERY: level is not None and level < LOW_BATTERY_PERCENT and not charging,
        CAPPED: any(
            best_caps_khz.get(core, 0) < CAP * (max_khz.get(core) or 0)
            for core in used_cores
            if core in best_caps_khz
        ),
    }
    return Conditions(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        temperature_c=temperature_c(slow),
        throttled=throttled,
        battery_percent=level,
        charging=charging,
        load=quick.load,
        governor=shown[-1] if shown else next(iter(governors.values()), None),
        frequencies_khz=tuple(c.current_khz for c in quick.cores if c.current_khz),
        other={
            **{flag: "yes" for flag, reported in flags.items() if reported},
            **({} if status is None else {"thermal_status": str(status)}),
            **({} if quick.boot_id is None else {"boot": quick.boot_id}),
        },
    )


def temperature_c(slow: SlowState) -> float | None:
    """Temperature of the skin, else of the battery; the chip's varies by the second."""
    skin = slow.thermal.hottest_c("skin") if slow.thermal else None
    if skin is not None:
        return skin
    return slow.battery.temperature_c if slow.battery else None


def _busy_s(ticks: str) -> float | None:
    """User, nice, system, irq, softirq and steal of a ``cpu`` line."""
    fields = ticks.split()
    if len(fields) < 8 or not all(map(str.isdecimal, fields[:8])):
        return None
    user, nice, system, _idle, _iowait, irq, soft, steal = map(int, fields[:8])
    return (user + nice + system + irq + soft + steal) / _TICKS_PER_S


def _first_number(text: str, before: str = "^") -> float | None:
    match = re.search(before + _NUMBER, text, re.M)
    return float(match[1]) if match else None
