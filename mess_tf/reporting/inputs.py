"""What the report reads from a run: measured latencies and search results.

Latencies are milliseconds, mIoU is a fraction in 0..1, drops are percentage points.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mess_tf.core.configuration import Configuration
from mess_tf.reporting.device_conditions import conditions_summary
from mess_tf.runs import Run

if TYPE_CHECKING:
    from android_bench.records import Conditions, DeviceInfo
    from search.result import SearchResult

PRESETS = ("quick", "report", "compare")


@dataclass(frozen=True)
class PieceLatency:
    """Latency of one measured piece.

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
class DeviceLatencies:
    """All pieces measured on one device with the same settings.

    Attributes:
        device: the device's description.
        threads: CPU threads.
        preset: name of the measuring preset, or ``own``.
        pieces: by sha256 of the piece.
        conditions: of all rounds, name -> value, ready to print.
    """

    device: DeviceInfo
    threads: int
    preset: str
    pieces: Mapping[str, PieceLatency]
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
class StoredSearch:
    """Search results stored for one device and precision.

    Attributes:
        device: name of its folder.
        precision: of the pieces.
        results: of ``chosen.json``.
        front: points of ``pareto.csv``; None if there is none.
    """

    device: str
    precision: str
    results: tuple[SearchResult, ...]
    front: tuple[FrontRow, ...] | None


def load_latencies(run: Run) -> list[DeviceLatencies]:
    """Latencies in the run's store by device and settings; the newest of a piece.

    Raises:
        MessError: the store cannot be read.
    """
    from android_bench.records import MeasureSettings
    from android_bench.store import Store

    if not run.profiles.is_file():
        return []
    with Store(run.profiles, must_exist=True) as store:
        devices = {device.fingerprint: device for device in store.devices()}
        rows = [row for row in store.measurements() if not row.failed]
    pieces: dict[tuple[str, str], dict[str, PieceLatency]] = {}
    conditions: dict[tuple[str, str], list[Conditions]] = {}
    for row in rows:  # oldest first
        latency = PieceLatency(
            row.p50_ms,
            row.time,
            tuple(row.flags),
            tuple(taken.median_us / 1000 for taken in row.rounds),
        )
        key = (row.fingerprint, row.settings_key)
        pieces.setdefault(key, {})[row.sha256] = latency
        conditions.setdefault(key, []).extend(taken.conditions for taken in row.rounds)
    measured = []
    for (fingerprint, settings), latencies in pieces.items():
        threads = json.loads(settings)["threads"]
        presets = (
            name
            for name in PRESETS
            if MeasureSettings.preset(name, threads).key == settings
        )
        measured.append(
            DeviceLatencies(
                devices[fingerprint],
                threads,
                next(presets, "own"),
                latencies,
                conditions_summary(conditions[fingerprint, settings]),
            )
        )
    return measured


def load_searches(run: Run) -> list[StoredSearch]:
    """Search results in the run, by device and precision.

    Raises:
        MessError: a file is broken.
    """
    from search.result import load_results

    return [
        StoredSearch(
            device=path.parent.parent.name,
            precision=path.parent.name,
            results=load_results(path),
            front=_load_front(path.parent / "pareto.csv"),
        )
        for path in sorted(run.folder.glob("search/*/*/chosen.json"))
    ]


def _load_front(path: Path) -> tuple[FrontRow, ...] | None:
    from search.pareto import load_pareto

    if not path.is_file():
        return None
    columns = [field.name for field in dataclasses.fields(FrontFigures)]
    front = []
    for row in load_pareto(path):
        # ``load_pareto`` has checked what the columns hold.
        calibration = [cast(float, row[name]) for name in columns]
        report = [cast("float | None", row[f"report_{name}"]) for name in columns]
        held_out = [value for value in report if value is not None]
        front.append(
            FrontRow(
                configuration=cast(Configuration, row["exits"]),
                calibration=FrontFigures(*calibration),
                report=None if None in report else FrontFigures(*held_out),
                proven=cast(bool, row["proven"]),
            )
        )
    return tuple(front)
