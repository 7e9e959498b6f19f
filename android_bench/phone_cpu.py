"""Reads what a phone tells of its processor: ``/proc/cpuinfo`` and cpufreq files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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


def parse_cpuinfo(text: str) -> CpuInfo:
    """Raises AnswerError when no core is listed."""
    raise NotImplementedError


def parse_files(text: str) -> dict[str, str]:
    """Path to content, from ``grep -H '' PATH...``; refused files are left out."""
    raise NotImplementedError


def parse_core_list(text: str) -> tuple[int, ...]:
    """Core numbers of ``/sys/devices/system/cpu/online`` and the like: "0-3,6".

    Raises:
        AnswerError: it is no such list.
    """
    raise NotImplementedError


def parse_cpufreq(files: Mapping[str, str]) -> tuple[CoreFrequency, ...]:
    """Every core that has cpufreq files, by number.

    Args:
        files: content by path (``/sys/devices/system/cpu/cpuN/cpufreq/...``); others
            are ignored.
    """
    raise NotImplementedError
