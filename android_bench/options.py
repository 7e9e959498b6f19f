"""How to measure, as a user of a command states it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from android_bench.records import MeasureSettings

Preset = Literal["quick", "report"]
Delegate = Literal["cpu", "gpu", "nnapi", "xnnpack-off"]


@dataclass(frozen=True)
class MeasureOptions:
    """What a user may change about measuring; None is left to a recipe or a preset.

    Attributes:
        preset: how long to measure: ``quick`` or ``report``.
        threads: CPU threads of the interpreter.
        fresh: measure again what is stored, too.
        delegate: what runs the model: ``cpu``; on phones also ``gpu``, ``nnapi`` and
            ``xnnpack-off``.
        affinity: cores of a phone to run on: ``auto``, ``none`` or a hexadecimal mask.
        extra: further flags of the phone's benchmark tool, e.g. ``--allow_fp16=true``.
        cooldown_s: longest wait before a round while the device is hot, seconds.
        benchmark_model: Google's benchmark_model for phones; None looks for it.
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
            BenchError: the preset is unknown or a value cannot be.
        """
        from android_bench.records import MeasureSettings

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
