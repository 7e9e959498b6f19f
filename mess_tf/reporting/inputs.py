"""What other packages left in a run, as the report is handed it.

Latencies are milliseconds, mIoU is a fraction in 0..1, drops are percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mess_tf.core.configuration import Configuration


@dataclass(frozen=True)
class PieceFigure:
    """One measured piece.

    Attributes:
        ms: median latency.
        time: when, UTC, ISO 8601.
        flags: doubts about it.
        rounds_ms: median of each round.
    """

    ms: float
    time: str
    flags: tuple[str, ...]
    rounds_ms: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """All pieces measured on one device in one way.

    Attributes:
        device: the device's description.
        threads: CPU threads.
        preset: name of the measuring preset, or ``own``.
        pieces: by sha256 of the piece.
        conditions: of all rounds, name -> value, ready to print.
    """

    device: Mapping[str, Any]
    threads: int
    preset: str
    pieces: Mapping[str, PieceFigure]
    conditions: Mapping[str, str]


@dataclass(frozen=True)
class FrontFigures:
    """A point of the front on one part of the images."""

    mean_ms: float
    p90_ms: float
    miou: float
    drop_pp: float


@dataclass(frozen=True)
class FrontRow:
    """A point of ``pareto.csv``; ``report`` is None without a report part."""

    configuration: Configuration
    calibration: FrontFigures
    report: FrontFigures | None
    proven: bool

    @property
    def shown(self) -> FrontFigures:
        """On the images that the search never saw, where there are some."""
        return self.calibration if self.report is None else self.report


@dataclass(frozen=True)
class Searched:
    """What a search left for one device and precision.

    Attributes:
        device: name of its folder.
        precision: of the pieces.
        results: as in ``chosen.json``, each with its requirement as text in ``wish``.
        front: points of ``pareto.csv``; None if there is none.
    """

    device: str
    precision: str
    results: tuple[Mapping[str, Any], ...]
    front: tuple[FrontRow, ...] | None
