"""What the user asks of a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mess_tf.core.errors import MessError

Objective = Literal["latency", "accuracy"]
Robust = Literal["worst-group", "left-out", "upper-bound"]
# An image has one answer in the first two settings, and one per stage in the third.
OneAnswerSetting = Literal["input-dependent", "budgeted"]
Setting = Literal[OneAnswerSetting, "anytime"]

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
ROBUST: tuple[Robust, ...] = get_args(Robust)
ONE_ANSWER_SETTINGS: tuple[OneAnswerSetting, ...] = get_args(OneAnswerSetting)

# Two sums of the same milliseconds in another order differ by less than this, and no
# user cares for less. The same for mIoU as a fraction.
LATENCY_TOLERANCE_MS = 1e-9
MIOU_TOLERANCE = 1e-11


# Range of every limit.
_LIMITS = {
    "max_drop_pp": (-100.0, 100.0),
    "min_miou": (0.0, 1.0),
    "max_latency_ms": (0.0, math.inf),
    "max_p90_ms": (0.0, math.inf),
    "max_size_mb": (0.0, math.inf),
    "max_memory_mb": (0.0, math.inf),
}


@dataclass(frozen=True)
class Requirement:
    """Limits, in any mix, and what to do best within them.

    Attributes:
        max_drop_pp: largest loss of the data set's mIoU against the final exit,
            absolute points (negative: it must be higher).
        min_miou: least mIoU of the data set, 0..1.
        max_latency_ms: largest mean latency over the images.
        max_p90_ms: largest latency of 90 % of the images.
        max_size_mb: most that the files of the used pieces may take, millions of bytes.
        max_memory_mb: ceiling of the memory that the hungriest kept piece takes at its
            peak, millions of bytes.
        objective: ``latency`` (lowest mean latency) or ``accuracy`` (highest mIoU);
            None takes ``accuracy`` where only latencies are limited, else ``latency``.
        robust: measure by which limits of drop, mIoU and mean latency are to hold on
            other scenes too (default: they hold on the calibration images).
    """

    max_drop_pp: float | None = None
    min_miou: float | None = None
    max_latency_ms: float | None = None
    max_p90_ms: float | None = None
    max_size_mb: float | None = None
    max_memory_mb: float | None = None
    objective: Objective | None = None
    robust: Robust | None = None

    def __post_init__(self) -> None:
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise MessError(
                f"Objective {self.objective!r} is unknown; accepted: {OBJECTIVES}."
            )
        if self.robust is not None and self.robust not in ROBUST:
            raise MessError(f"robust is {self.robust!r}; accepted: {ROBUST}.")
        for name, value in self.limits.items():
            low, high = _LIMITS[name]
            if not low <= value <= high:
                raise MessError(
                    f"Requirement {name} is {value}; it must lie in {low:g}..{high:g}."
                )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the name of their field."""
        return {
            name: value
            for name in _LIMITS
            if (value := getattr(self, name)) is not None
        }

    @property
    def goal(self) -> Objective:
        """The objective, with the default filled in."""
        if self.objective is not None:
            return self.objective
        limits_accuracy = self.max_drop_pp is not None or self.min_miou is not None
        limits_latency = self.max_latency_ms is not None or self.max_p90_ms is not None
        return "accuracy" if limits_latency and not limits_accuracy else "latency"

    def lowest_miou_allowed(self, reference_miou: float) -> float:
        """The lowest mIoU allowed when the final head alone reaches ``reference_miou``.

        Returns:
            a fraction; 0 where nothing limits the accuracy.
        """
        floor = 0.0 if self.min_miou is None else self.min_miou
        if self.max_drop_pp is not None:
            floor = max(floor, reference_miou - self.max_drop_pp / 100)
        return floor

    def met(
        self,
        miou: float,
        reference_miou: float,
        latency_ms: float,
        p90_ms: float,
        size_mb: float = 0.0,
        memory_mb: float = 0.0,
    ) -> dict[str, bool]:
        """Per limit that was set, whether figures keep it."""
        flags = {}
        if self.max_drop_pp is not None:
            floor = reference_miou - self.max_drop_pp / 100
            flags["max_drop_pp"] = miou >= floor - MIOU_TOLERANCE
        if self.min_miou is not None:
            flags["min_miou"] = miou >= self.min_miou - MIOU_TOLERANCE
        if self.max_latency_ms is not None:
            flags["max_latency_ms"] = (
                latency_ms <= self.max_latency_ms + LATENCY_TOLERANCE_MS
            )
        if self.max_p90_ms is not None:
            flags["max_p90_ms"] = p90_ms <= self.max_p90_ms + LATENCY_TOLERANCE_MS
        if self.max_size_mb is not None:
            flags["max_size_mb"] = size_mb <= self.max_size_mb
        if self.max_memory_mb is not None:
            flags["max_memory_mb"] = memory_mb <= self.max_memory_mb
        return flags

    def __str__(self) -> str:
        units = {
            "max_drop_pp": ("mIoU drop <=", " pp"),
            "min_miou": ("mIoU >=", ""),
            "max_latency_ms": ("mean latency <=", " ms"),
            "max_p90_ms": ("p90 latency <=", " ms"),
            "max_size_mb": ("size <=", " MB"),
            "max_memory_mb": ("peak memory <=", " MB"),
        }
        limits = []
        for name, value in self.limits.items():
            words, unit = units[name]
            limits.append(f"{words} {value:g}{unit}")
        best = "lowest latency" if self.goal == "latency" else "highest mIoU"
        return f"{best} with {' and '.join(limits)}" if limits else best
