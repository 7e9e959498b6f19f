"""What the phone says about itself: its answers at rest, changed by its state."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from tests.phone_double.phones.parts import CPU
from tests.phone_double.phones.phone import Phone
from tests.phone_double.phones.state import PhoneState, Uptime

_TEMPERATURE = re.compile(
    r"(Temperature\{mValue=)([^,]+)(.*mName=)(.*)(, mStatus=)(\d+)"
)


def getprop(phone: Phone) -> str:
    return "".join(f"[{k}]: [{v}]\n" for k, v in sorted(phone.properties.items()))


def battery(phone: Phone, state: PhoneState) -> str:
    """``dumpsys battery``."""
    told: dict[str, object] = {"level": state.battery_level}
    told["status"] = state.battery_status
    if state.battery_temperature_c is not None:
        told["temperature"] = round(10 * state.battery_temperature_c)
    if state.powered_by is not None:
        for source in ("AC", "USB", "Wireless", "Dock"):
            told[f"{source} powered"] = str(source in state.powered_by).lower()
    text = phone.battery
    for name, value in told.items():
        if value is not None:
            text = re.sub(rf"(?m)^(\s*{name}: ).*$", rf"\g<1>{value}", text, count=1)
    return text


def thermal(phone: Phone, state: PhoneState) -> str:
    """``dumpsys thermalservice``; what changes is the current block, not the cached."""
    text = phone.thermal
    if state.thermal_status is not None:
        text = re.sub(
            r"Thermal Status: \d+", f"Thermal Status: {state.thermal_status}", text
        )
    cached, heading, current = text.partition("Current temperatures from HAL:")

    def change(match: re.Match[str]) -> str:
        before, value, middle, name, after, status = match.groups()
        value = str(state.temperatures_c.get(name, value))
        status = str(state.sensor_status.get(name, status))
        return before + value + middle + name + after + status

    return cached + heading + _TEMPERATURE.sub(change, current)


def power(phone: Phone, state: PhoneState) -> str:
    """``dumpsys power``, as far as the screen and power saving are told in it."""
    saver = str(state.power_save).lower()
    # Before Android 9 the setting stands among the manager's own.
    old = phone.sdk < 28
    return (
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n"
        f"  mWakefulness={'Awake' if state.screen_on else 'Asleep'}\n"
        f"  mIsPowered={str(state.powered_by != ()).lower()}\n"
        + (f"  mLowPowerModeEnabled={saver}\n" if old else "")
        + f"Display Power: state={'ON' if state.screen_on else 'OFF'}\n"
        + (
            ""
            if old
            else f"\nBattery saver state machine:\n  mIsBatterySaverEnabled={saver}\n"
        )
    )


def changing_files(
    phone: Phone, state: PhoneState, uptime: Uptime, run_s: float
) -> Iterator[tuple[str, str]]:
    """Paths and contents of what changes in /proc and /sys, at this moment.

    Args:
        run_s: processor seconds that benchmark runs took since this was last asked.
    """
    busy = uptime.busy_seconds(state.foreign_load, run_s)
    seconds = uptime.seconds
    idle = max(0.0, seconds * phone.cores - busy)
    yield "/proc/uptime", f"{seconds:.2f} {idle:.2f}\n"
    yield "/proc/loadavg", f"{state.load:.2f} {state.load:.2f} 0.41 1/903 21504\n"
    yield "/proc/stat", _stat(phone.cores, busy, idle, seconds, state.clock_offset_s)
    yield "/proc/meminfo", _meminfo(phone.memory_kb)
    yield "/proc/sys/kernel/random/boot_id", f"{uptime.boot_id}\n"
    for number in range(phone.cores):
        folder = f"{CPU}/cpu{number}/cpufreq"
        changed = {
            f"{folder}/scaling_cur_freq": state.frequencies_khz.get(number),
            f"{folder}/scaling_max_freq": state.caps_khz.get(number),
            f"{folder}/scaling_governor": state.governor,
        }
        for path, value in changed.items():
            if path in phone.files:
                yield path, phone.files[path] if value is None else f"{value}\n"


def _stat(cores: int, busy: float, idle: float, uptime: float, offset: float) -> str:
    def fields(share: int) -> str:
        user, system = round(80 * busy / share), round(20 * busy / share)
        return f"{user} 0 {system} {round(100 * idle / share)} 0 0 0 0 0 0"

    each = "".join(f"cpu{n} {fields(cores)}\n" for n in range(cores))
    boot = round(time.time() + offset - uptime)
    return (
        f"cpu  {fields(1)}\n{each}intr 1\nctxt 1\nbtime {boot}\nprocesses 21504\n"
        "procs_running 1\nprocs_blocked 0\n"
    )


def _meminfo(total_kb: int) -> str:
    return (
        f"MemTotal:       {total_kb} kB\nMemFree:        {total_kb // 12} kB\n"
        f"MemAvailable:   {total_kb // 2} kB\nBuffers:            5120 kB\n"
        f"Cached:         {total_kb // 3} kB\nSwapTotal:             0 kB\n"
    )
