"""Reads what a phone tells of its processor: ``/proc/cpuinfo`` and cpufreq files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.errors import ParseError


@dataclass(frozen=True)
class CpuCore:
    """One core of ``/proc/cpuinfo``; numbers as printed, e.g. part ``0xd05``."""

    number: int
    implementer: str | None
    part: str | None


@dataclass(frozen=True)
class CpuInfo:
    """``/proc/cpuinfo``: only cores that are online are listed there.

    Attributes:
        hardware: the "Hardware" line, which new phones lack.
    """

    cores: tuple[CpuCore, ...]
    hardware: str | None


@dataclass(frozen=True)
class CoreFrequency:
    """cpufreq of one core, kHz; None where the file is absent or refused."""

    number: int
    max_khz: int | None
    min_khz: int | None
    current_khz: int | None
    governor: str | None


_CPUFREQ = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/cpufreq/(\w+)")
_REFUSED = re.compile(r"(?:grep|cat): .*|.*: (?:Permission denied|No such file.*)")


def parse_cpuinfo(text: str) -> CpuInfo:
    """Raises ParseError when no core is listed.

    Old kernels tell implementer and part once, below the list: they hold for all cores.
    """
    cores: dict[int, dict[str, str]] = {}
    shared: dict[str, str] = {}
    current = shared
    for line in text.splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            # A blank line ends a core; what follows the last one is of all.
            current = shared
        elif key == "processor" and value.isdecimal():
            current = cores.setdefault(int(value), {})
        else:
            current[key] = value
    if not cores:
        raise ParseError(f"This is no /proc/cpuinfo: {text.strip()[:80]!r}.")
    return CpuInfo(
        cores=tuple(
            CpuCore(
                number,
                fields.get("CPU implementer", shared.get("CPU implementer")),
                fields.get("CPU part", shared.get("CPU part")),
            )
            for number, fields in sorted(cores.items())
        ),
        hardware=shared.get("Hardware"),
    )


def parse_files(text: str) -> dict[str, str]:
    """Path to content, from ``grep -H '' PATH...``; refused files are left out.

    Lines of one file are joined again.
    """
    files: dict[str, str] = {}
    for line in text.splitlines():
        path, colon, content = line.partition(":")
        if not colon or not path.startswith("/") or _REFUSED.fullmatch(line):
            continue
        files[path] = f"{files[path]}\n{content}" if path in files else content
    return files


def parse_core_list(text: str) -> tuple[int, ...]:
    """Core numbers of ``/sys/devices/system/cpu/online`` and the like: "0-3,6".

    Raises:
        ParseError: it is no such list.
    """
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match is None:
            raise ParseError(f"{text.strip()[:80]!r} is no list of cores like 0-3,6.")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(sorted(set(numbers)))


def parse_cpufreq(files: Mapping[str, str]) -> tuple[CoreFrequency, ...]:
    """Every core that has cpufreq files, by number.

    Args:
        files: content by path (``/sys/devices/system/cpu/cpuN/cpufreq/...``); others
            are ignored.
    """
    cores: dict[int, dict[str, str]] = {}
    for path, content in files.items():
        if match := _CPUFREQ.fullmatch(path):
            cores.setdefault(int(match[1]), {})[match[2]] = content.strip()
    return tuple(
        CoreFrequency(
            number=number,
            max_khz=_khz(found.get("cpuinfo_max_freq")),
            min_khz=_khz(found.get("cpuinfo_min_freq")),
            current_khz=_khz(found.get("scaling_cur_freq")),
            governor=found.get("scaling_governor") or None,
        )
        for number, found in sorted(cores.items())
    )


def _khz(text: str | None) -> int | None:
    """None for what can be no core's frequency in kHz: 10 MHz to 10 GHz can."""
    if text is None or not re.fullmatch(r"\d{5,8}", text):
        return None
    return int(text) if 10_000 <= int(text) <= 10_000_000 else None
