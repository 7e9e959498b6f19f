"""How to measure, as a user of a command states it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from android_bench.errors import BenchError

if TYPE_CHECKING:
    from android_bench.records import MeasureSettings

_PROFILING = re.compile(r"--\w*profil\w*(?:=.*)?", re.S)

Preset = Literal["quick", "report"]
Delegate = Literal["cpu", "gpu", "nnapi", "xnnpack-off"]


@dataclass(frozen=True)
class MeasureOptions:
    """What a user may change about measuring; None is left to a recipe or a preset.

    Attributes:
        preset: how long to measure (default: the recipe's).
        threads: CPU threads (default: the recipe's).
        fresh: measure again what is stored.
        delegate: what runs the model; others than cpu on phones only. A model that
            falls back to the CPU is a failure, not a figure.
        affinity: a phone's cores to run on: auto (the fastest that suffice), none (the
            phone chooses), or a mask like f0 (cores 4 to 7).
        extra: further flag of the phone's benchmark tool, e.g.
            --extra=--allow_fp16=true; may be repeated.
        cooldown_s: longest wait for a hot device to cool down before a round, seconds
            (default: the preset's).
        benchmark_model: Google's benchmark_model for Android to measure phones with
            (default: MESS_BENCHMARK_MODEL, else downloaded once).
    """

    preset: Preset | None = None
    threads: int | None = None
    fresh: bool = False
    delegate: Delegate = "cpu"
    affinity: str = "auto"
    extra: tuple[str, ...] = ()
    cooldown_s: float | None = None
    benchmark_model: Path | None = None

    def settings(self, preset: str = "quick", threads: int = 1) -> MeasureSettings:
        """The settings of the measuring loop.

        Args:
            preset: where the options name none.
            threads: where the options name none.

        Raises:
            BenchError: the preset is unknown, a value cannot be, or an extra flag
                switches profiling on.
        """
        from android_bench.records import MeasureSettings

        refuse_profiling(self.extra)
        chosen = MeasureSettings.preset(self.preset or preset, self.threads or threads)
        return dataclasses.replace(
            chosen,
            delegate=self.delegate,
            affinity=self.affinity,
            extra=tuple(self.extra),
            cooldown_s=(
                chosen.cooldown_s if self.cooldown_s is None else self.cooldown_s
            ),
        )


def refuse_profiling(extra: Iterable[str]) -> None:
    """Raises BenchError for flags that have the tool profile what it times."""
    for flag in extra:
        if _PROFILING.fullmatch(flag):
            raise BenchError(
                f"Extra flag {flag!r} would store a latency taken under profiling, and"
                " drop the table of operators; leave it out and give --operators."
            )
