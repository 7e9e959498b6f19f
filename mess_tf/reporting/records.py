"""What the report says, before anything is drawn: figures, not pictures.

Latencies are milliseconds, mIoU and rates fractions in 0..1, drops percentage points
(positive: worse than the final exit). None stands for what is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.reporting.exports import ExportRow
from mess_tf.reporting.inputs import FrontRow, Measured
from mess_tf.reporting.operators import OperatorCosts


@dataclass(frozen=True)
class HeadFigure:
    """A single exit that answers for every image.

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
class Entry:
    """A configuration's figures on the part of the images it is judged by.

    Attributes:
        speedup: mean latency of the final exit over that of this configuration.
        met: it keeps every limit asked for.
        drop_interval: bootstrap interval of ``drop_pp``; None with too few groups.
        level: nominal coverage of the interval.
    """

    exits: tuple[ExitChoice, ...]
    images: int
    mean_ms: float
    p90_ms: float
    miou: float
    drop_pp: float
    exit_rates: tuple[float, ...]
    speedup: float
    met: bool
    drop_interval: tuple[float, float] | None = None
    level: float | None = None


@dataclass(frozen=True)
class Bar:
    """Where the time of one path goes.

    Attributes:
        label: what the bar is.
        parts_ms: per kind of ``costs.KINDS``.
    """

    label: str
    parts_ms: tuple[float, ...]

    @property
    def total_ms(self) -> float:
        return sum(self.parts_ms)


@dataclass(frozen=True)
class CheckedPart:
    """Promised against measured on one part of the images."""

    part: str
    promised_ms: float
    promised_now_ms: float
    measured_ms: float
    promised_rates: tuple[float, ...]
    measured_rates: tuple[float, ...]
    promised_miou: float
    measured_miou: float


@dataclass(frozen=True)
class Export:
    """An exported file, and what its check found.

    Attributes:
        name, model, size_bytes: of the file.
        images, elsewhere: checked, and of them those that left at another exit than
            promised; None without a check.
        parts: empty without a check.
        check_command: makes the check.
    """

    name: str
    model: str
    size_bytes: int
    float_operators: tuple[str, ...]
    images: int | None
    elsewhere: int | None
    parts: tuple[CheckedPart, ...]
    check_command: str

    @property
    def checked(self) -> bool:
        return self.images is not None


@dataclass(frozen=True)
class Answer:
    """The answer to one requirement.

    Attributes:
        name: of the search result.
        wish: the requirement as text.
        part: ``report``, or ``calibration`` where nothing else was kept apart.
        proven: nothing in the space is better; else ``gap`` is how much might be.
        chosen, best_static, reference: figures on ``part``.
        on_calibration: the chosen configuration on what the search saw.
        bars: time per path, their mean, and the final exit; empty when the pieces were
            measured again since the search, so that sums would not fit.
        against_float: (speed-up, drop in pp) against the float32 final exit on the same
            device; None for float32 itself or where it is not measured.
        export: made of it, if any.
        command: makes it, or measures what was only predicted.
        predicted: pieces whose latency was predicted, not measured, and between which
            milliseconds it is likely to be.
    """

    name: str
    wish: str
    part: str
    proven: bool
    gap: float
    space_size: float
    chosen: Entry
    best_static: Entry | None
    reference: Entry
    on_calibration: Entry
    bars: tuple[Bar, ...]
    against_float: tuple[float, float] | None
    export: Export | None
    command: str
    predicted: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FrontPoint:
    """A trade-off of the Pareto front, its exit rates and how to export it."""

    row: FrontRow
    exit_rates: tuple[float, ...]
    command: str


@dataclass(frozen=True, eq=False)
class View:
    """A configuration to look at closely: an answer, or a point of the front.

    Attributes:
        name: the answer's, or ``front <k>``, counted from the fastest.
        answer: None for a point of the front.
        calibration: what it was chosen by; ``report`` is None without a report part.
        bars: as an answer's.
        iou: float64 array of shape (C,) by ``network`` and ``exit <k>`` alone, on the
            part that is reported; NaN where a class does not occur.
        places: int64 array of shape (I,), position at which each image leaves.
        command: makes the file, or measures what was only predicted.
    """

    name: str
    answer: Answer | None
    exits: tuple[ExitChoice, ...]
    calibration: Entry
    report: Entry | None
    bars: tuple[Bar, ...]
    iou: Mapping[str, np.ndarray]
    places: np.ndarray
    command: str

    @property
    def shown(self) -> Entry:
        """Its figures on the images that the search never saw, where there are some."""
        return self.calibration if self.report is None else self.report


@dataclass(frozen=True, eq=False)
class Ring:
    """One speed-up of Fig. 7: what is best within that latency.

    Attributes:
        speedup: asked for, over the final exit's latency.
        heads: ``uniform`` (FCN heads at every early exit) or ``searched``.
        configuration: with the highest mIoU on the calibration part, with at most one
            early exit.
        proven: none is better; else it is the best found in the time there was.
        mean_ms, miou: on the part that is reported.
        iou: float64 array of shape (C,), NaN where a class does not occur.
    """

    speedup: float
    heads: str
    configuration: Configuration
    proven: bool
    mean_ms: float
    miou: float
    iou: np.ndarray


@dataclass(frozen=True)
class Target:
    """Everything about one device and one precision.

    Attributes:
        run: the run's folder.
        measured: how latencies were taken; None where nothing is measured.
        first, last: when the pieces were measured, first and last (UTC).
        flags: doubts by name, and how many pieces they hang on.
        heads: every head alone.
        source: what the accuracy was measured on.
        views: answers and points of the front, from the most accurate to the fastest,
            judged on the calibration part.
        rings: of Fig. 7, uniform ones first; empty where nothing can be compared.
        no_rings: why the search for them failed; empty where it did not.
    """

    run: str
    device: str
    precision: str
    measured: Measured | None
    first: str
    last: str
    flags: Mapping[str, int]
    heads: tuple[HeadFigure, ...]
    source: str | None
    answers: tuple[Answer, ...]
    front: tuple[FrontPoint, ...]
    views: tuple[View, ...]
    rings: tuple[Ring, ...]
    no_rings: str

    @property
    def final(self) -> HeadFigure | None:
        return next((head for head in self.heads if head.final), None)

    @property
    def featured(self) -> Answer | None:
        """The answer to show first: the fastest that was met; none was: the first."""
        met = [answer for answer in self.answers if answer.chosen.met]
        first = next(iter(self.answers), None)
        return min(met, key=lambda answer: answer.chosen.mean_ms, default=first)

    @property
    def featured_view(self) -> View | None:
        """The featured answer's view; without answers the most accurate one."""
        own = (view for view in self.views if view.answer is not None)
        named = (v for v in own if v.answer is self.featured)
        return next(named, next(iter(self.views), None))


@dataclass(frozen=True)
class ExitRow:
    """An exit point with its best head per precision (by mIoU on the calibration part);
    ``reference`` marks the row of the final head where that is not the best one."""

    exit: int
    layer: str
    stride: int
    best: Mapping[str, HeadFigure]
    reference: bool = False


@dataclass(frozen=True)
class PartInfo:
    """Size of a part of the evaluation images."""

    name: str
    images: int
    groups: int


@dataclass(frozen=True)
class Missing:
    """A part that is not there yet, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Info:
    """The whole report.

    Attributes:
        run: folder as given.
        created: UTC, to the minute.
        drawn: the images are drawn by the program, not photographs.
        exits: per device (its name), a row per exit point.
        network, versions: name -> value, ready to print.
        background: the class that Table 8 leaves out where it is right, if any.
        exports: all files made of the run.
        operators: per device with operator profiles.
    """

    run: str
    created: str
    drawn: bool
    data: str
    classes: tuple[str, ...]
    parts: tuple[PartInfo, ...]
    network: Mapping[str, str]
    versions: Mapping[str, str]
    targets: tuple[Target, ...]
    exits: Mapping[str, tuple[ExitRow, ...]]
    missing: tuple[Missing, ...]
    background: str | None
    exports: tuple[ExportRow, ...]
    operators: tuple[OperatorCosts, ...] = ()

    @property
    def predicted(self) -> bool:
        """Some answer rests on predicted latencies."""
        return any(a.predicted for target in self.targets for a in target.answers)

    @property
    def on_host(self) -> bool:
        """Latencies were taken on this computer."""
        return any(
            target.measured is not None and target.measured.device["kind"] == "host"
            for target in self.targets
        )
