"""Records of one configuration: its figures, latency breakdown and IoU per class.

Latencies are milliseconds, mIoU and rates fractions in 0..1, drops percentage points
(positive: worse than the final exit). None stands for what is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.reporting.exports import ExportedFile
from mess_tf.reporting.inputs import FrontRow


@dataclass(frozen=True)
class ConfigurationFigures:
    """A configuration's figures on one part of the images.

    Attributes:
        speedup: mean latency of the final exit over that of this configuration.
        met: every limit of the requirement holds.
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
class LatencyBreakdown:
    """Latency of one path, split by the kind of piece.

    Attributes:
        label: which path.
        kinds_ms: per kind of ``mess_tf.core.latency.KINDS``.
    """

    label: str
    kinds_ms: tuple[float, ...]

    @property
    def total_ms(self) -> float:
        return sum(self.kinds_ms)


@dataclass(frozen=True)
class ResultSummary:
    """A search result: the configuration chosen for one requirement.

    Attributes:
        name: of the search result.
        requirement: as text.
        part: ``report``, or ``calibration`` where no images were held out.
        proven: nothing in the space is better; else ``gap`` is how much might be.
        chosen, best_static, reference: figures on ``part``.
        on_calibration: the chosen configuration on what the search saw.
        breakdowns: per path, their mean, and the final exit; empty when the pieces were
            measured again since the search, so that sums would not fit.
        against_float: (speed-up, drop in pp) against the float32 final exit on the same
            device; None for float32 itself or where it is not measured.
        export: the file exported from it, if any.
        command: exports it, or measures what was only predicted.
        predicted: pieces whose latency was predicted, not measured, and between which
            milliseconds it is likely to be.
    """

    name: str
    requirement: str
    part: str
    proven: bool
    gap: float
    space_size: float
    chosen: ConfigurationFigures
    best_static: ConfigurationFigures | None
    reference: ConfigurationFigures
    on_calibration: ConfigurationFigures
    breakdowns: tuple[LatencyBreakdown, ...]
    against_float: tuple[float, float] | None
    export: ExportedFile | None
    command: str
    predicted: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FrontPoint:
    """A trade-off of the Pareto front, its exit rates and how to export it."""

    row: FrontRow
    exit_rates: tuple[float, ...]
    command: str


@dataclass(frozen=True, eq=False)
class ReportedConfiguration:
    """A configuration shown in detail: a search result or a point of the Pareto front.

    Attributes:
        name: the result's, or ``front <k>``, counted from the fastest.
        result: None for a point of the front.
        calibration: what it was chosen by; ``report`` is None without a report part.
        breakdowns: as a result's.
        iou: float64 array of shape (C,) by ``network`` and ``exit <k>`` alone, on the
            part that is reported; NaN where a class does not occur.
        exit_positions: int64 array of shape (I,), position at which each image leaves.
        command: exports it, or measures what was only predicted.
    """

    name: str
    result: ResultSummary | None
    exits: tuple[ExitChoice, ...]
    calibration: ConfigurationFigures
    report: ConfigurationFigures | None
    breakdowns: tuple[LatencyBreakdown, ...]
    iou: Mapping[str, np.ndarray]
    exit_positions: np.ndarray
    command: str

    @property
    def shown(self) -> ConfigurationFigures:
        """Figures on the images that the search never saw, where there are some."""
        return self.calibration if self.report is None else self.report


@dataclass(frozen=True, eq=False)
class SpeedupPoint:
    """The most accurate configuration found for one speed-up of Fig. 7.

    Attributes:
        speedup: asked for, over the final exit's latency.
        heads: ``uniform`` (FCN heads at every early exit) or ``searched``.
        configuration: with the highest mIoU on the calibration part, with at most one
            early exit.
        proven: none is better; else it is the best found within the time limit.
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
