"""Which of a phone's cores a model runs on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.errors import BenchError

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class CoreChoice:
    """The cores to run on.

    Attributes:
        mask: for ``taskset``, hexadecimal; None leaves the choice to the phone.
        cores: their numbers; all of them where the phone chooses.
    """

    mask: str | None
    cores: tuple[int, ...]


def choose_cores(
    affinity: str, threads: int, max_khz: Mapping[int, int | None]
) -> CoreChoice:
    """Cores for a number of threads.

    ``auto`` takes the fastest cluster, then the next, until every thread has a core: a
    model that wanders between slow and fast cores has no single latency.

    Args:
        affinity: ``auto``, ``none`` or a mask in hexadecimal digits.
        max_khz: highest frequency of each core that is online, None where not reported.

    Raises:
        BenchError: no such affinity, a mask of absent cores, more threads than cores.
    """
    everything = tuple(sorted(max_khz))
    if affinity == NONE:
        choice = CoreChoice(None, everything)
    elif affinity == AUTO:
        choice = _fastest(threads, max_khz) or CoreChoice(None, everything)
    else:
        choice = _masked(affinity, max_khz)
    if threads > len(choice.cores):
        raise BenchError(
            f"{threads} threads were asked for, but affinity {affinity!r} gives them"
            f" {len(choice.cores)} cores; give 1 to {len(choice.cores)} threads or"
            " another affinity."
        )
    return choice


def mask_of(cores: tuple[int, ...]) -> str:
    """Hexadecimal mask of core numbers."""
    return f"{sum(1 << core for core in cores):x}"


def clusters(max_khz: Mapping[int, int | None]) -> list[tuple[int, ...]]:
    """Cores of equal highest frequency, fastest first; without those that hide it."""
    reported = sorted({khz for khz in max_khz.values() if khz}, reverse=True)
    return [
        tuple(sorted(c for c, khz in max_khz.items() if khz == k)) for k in reported
    ]


def _fastest(threads: int, max_khz: Mapping[int, int | None]) -> CoreChoice | None:
    chosen: tuple[int, ...] = ()
    for cluster in clusters(max_khz):
        chosen += cluster
        if len(chosen) >= threads:
            return CoreChoice(mask_of(chosen), tuple(sorted(chosen)))
    return None


def _masked(affinity: str, max_khz: Mapping[int, int | None]) -> CoreChoice:
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", affinity) or not int(affinity, 16):
        raise BenchError(
            f"Affinity {affinity!r} is none; accepted: 'auto', 'none', or a mask of"
            " cores in hexadecimal digits such as f0 (cores 4 to 7)."
        )
    number = int(affinity, 16)
    cores = tuple(core for core in range(number.bit_length()) if number >> core & 1)
    absent = [core for core in cores if core not in max_khz]
    if absent:
        raise BenchError(
            f"Affinity {affinity!r} names cores {absent}, which this phone has not (or"
            f" not switched on); its cores are {sorted(max_khz)}."
        )
    return CoreChoice(mask_of(cores), cores)
