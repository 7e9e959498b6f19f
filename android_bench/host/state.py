"""Reads a computer's description and state from ``/proc`` and ``/sys``.

Files that are absent (containers, virtual machines, other systems) give None or
nothing; the roots of ``/proc`` and ``/sys`` are arguments so that recorded trees can
be read.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import re
from pathlib import Path

from android_bench.records import Conditions, DeviceInfo

PROC = Path("/proc")
SYS = Path("/sys")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # a file that is not there or not ours tells nothing
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def temperature_c(sys: Path = SYS) -> float | None:
    """The hottest thermal zone in degrees Celsius, None where there is none."""
    zones = [_number(p) for p in sys.glob("class/thermal/thermal_zone*/temp")]
    degrees = [zone / 1000 for zone in zones if zone is not None]
    # Zones without a sensor say 0, -274 or worse.
    return max((d for d in degrees if 0 < d < 150), default=None)


def frequencies_khz(sys: Path = SYS) -> tuple[int, ...]:
    """Current frequency of each core in kHz, in order of core number."""
    return _of_cores(sys, "scaling_cur_freq")


def max_frequencies_khz(sys: Path = SYS) -> tuple[int, ...]:
    """Highest frequency of each core that tells it, in order of core number."""
    return _of_cores(sys, "cpuinfo_max_freq")


def _of_cores(sys: Path, file: str) -> tuple[int, ...]:
    folders = sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq")
    ordered = sorted(folders, key=lambda p: int(p.parent.name.removeprefix("cpu")))
    values = [_number(p / file) for p in ordered]
    return tuple(int(value) for value in values if value is not None)


def host_conditions(sys: Path = SYS) -> Conditions:
    """The computer's state now."""
    batteries = sorted(sys.glob("class/power_supply/BAT*"))
    status = _text(batteries[0] / "status") if batteries else None
    return Conditions(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        temperature_c=temperature_c(sys),
        battery_percent=_number(batteries[0] / "capacity") if batteries else None,
        charging=None if status is None else status.lower() in ("charging", "full"),
        load=os.getloadavg()[0],
        governor=_text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequencies_khz=frequencies_khz(sys),
    )


def _processor(proc: Path) -> str:
    text = _text(proc / "cpuinfo") or ""
    match = re.search(r"^(?:model name|Hardware|Processor)\s*:\s*(.+)$", text, re.M)
    return match[1].strip() if match else platform.processor() or "unknown processor"


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_host(proc: Path = PROC) -> DeviceInfo:
    """This computer; its make, cores and kernel make the fingerprint."""
    soc, cores, abi = _processor(proc), usable_cores(), platform.machine()
    os_version = f"{platform.system()} {platform.release()}"
    identity = "\n".join(("host", soc, str(cores), abi, os_version))
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _text(proc / "meminfo") or "", re.M)
    details = {"memory_gib": f"{int(memory[1]) / 2**20:.1f}"} if memory else {}
    return DeviceInfo(
        kind="host",
        name="host",
        fingerprint="host-" + hashlib.sha256(identity.encode()).hexdigest()[:16],
        model="this computer",
        soc=soc,
        abi=abi,
        os_version=os_version,
        cores=cores,
        details=details,
    )
