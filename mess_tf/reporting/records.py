"""Records of a whole report: a run, its deployments, exits and missing parts.

Latencies are milliseconds, mIoU and rates fractions in 0..1, drops percentage points
(positive: worse than the final exit). None stands for what is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mess_tf.reporting.anytime import DeadlineAnswers
from mess_tf.reporting.configuration_records import (
    FrontPoint,
    ReportedConfiguration,
    ResultSummary,
    SpeedupPoint,
)
from mess_tf.reporting.exports import ExportRow
from mess_tf.reporting.inputs import DeviceLatencies
from mess_tf.reporting.operators import OperatorCosts


@dataclass(frozen=True)
class HeadFigures:
    """Figures of one head as the only exit, for every image.

    Attributes:
        macs: of an image that leaves there (backbone up to it, and the head).
        latency_ms: of leaving there: segments, head, output.
        final: it is the final exit, the reference of every drop.
    """

    exit: int
    head: str
    macs: int | None
    latency_ms: float | None
    miou_calibration: float | None
    miou_report: float | None
    final: bool


@dataclass(frozen=True)
class Deployment:
    """Everything about one device and one precision.

    Attributes:
        run: the run's folder.
        measured: how latencies were taken; None where nothing is measured.
        first_measured, last_measured: when the first and the last piece was (UTC).
        flags: doubts by name, and how many pieces they hang on.
        heads: every head alone.
        source: what the accuracy was measured on.
        configurations: search results and points of the front, from the most accurate
            to the fastest, judged on the calibration part.
        speedups: of Fig. 7, uniform ones first; empty where nothing can be compared.
        speedups_error: why the search for them failed; empty where it did not.
    """

    run: str
    device: str
    precision: str
    measured: DeviceLatencies | None
    first_measured: str
    last_measured: str
    flags: Mapping[str, int]
    heads: tuple[HeadFigures, ...]
    source: str | None
    results: tuple[ResultSummary, ...]
    front: tuple[FrontPoint, ...]
    configurations: tuple[ReportedConfiguration, ...]
    speedups: tuple[SpeedupPoint, ...]
    speedups_error: str

    @property
    def final(self) -> HeadFigures | None:
        return next((head for head in self.heads if head.final), None)

    @property
    def featured(self) -> ResultSummary | None:
        """The result to show first: the fastest whose limits hold, else the first."""
        met = [result for result in self.results if result.chosen.met]
        first = next(iter(self.results), None)
        return min(met, key=lambda result: result.chosen.mean_ms, default=first)

    @property
    def featured_configuration(self) -> ReportedConfiguration | None:
        """The featured result's configuration; without results the most accurate."""
        featured = self.featured
        named = (
            reported
            for reported in self.configurations
            if featured is not None and reported.result is featured
        )
        return next(named, next(iter(self.configurations), None))


@dataclass(frozen=True)
class ExitRow:
    """An exit point with its best head per precision (by mIoU on the calibration part);
    ``reference`` marks the row of the final head where that is not the best one."""

    exit: int
    layer: str
    stride: int
    best: Mapping[str, HeadFigures]
    reference: bool = False


@dataclass(frozen=True)
class PartSize:
    """Size of a part of the evaluation images."""

    name: str
    images: int
    groups: int


@dataclass(frozen=True)
class MissingPart:
    """A part that is not there yet, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class RunReport:
    """The report of one run.

    Attributes:
        run: folder as given.
        created: UTC, to the minute.
        drawn: the images are drawn by the program, not photographs.
        exits: per device (its name), a row per exit point.
        network, versions: name -> value, ready to print.
        background: the class that Table 8 leaves out where it is right, if any.
        exports: all files made of the run.
        operators: per device with operator profiles.
        deadlines: per result of the anytime setting.
    """

    run: str
    created: str
    drawn: bool
    data: str
    classes: tuple[str, ...]
    parts: tuple[PartSize, ...]
    network: Mapping[str, str]
    versions: Mapping[str, str]
    deployments: tuple[Deployment, ...]
    exits: Mapping[str, tuple[ExitRow, ...]]
    missing: tuple[MissingPart, ...]
    background: str | None
    exports: tuple[ExportRow, ...]
    operators: tuple[OperatorCosts, ...] = ()
    deadlines: tuple[DeadlineAnswers, ...] = ()

    @property
    def predicted(self) -> bool:
        """Some search result rests on predicted latencies."""
        return any(
            result.predicted
            for deployment in self.deployments
            for result in deployment.results
        )

    @property
    def on_host(self) -> bool:
        """Latencies were taken on this computer."""
        return any(
            deployment.measured is not None
            and deployment.measured.device.kind == "host"
            for deployment in self.deployments
        )
