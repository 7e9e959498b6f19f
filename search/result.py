"""What a search hands back, and how it is kept in ``chosen.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import read_record, to_json, write_json
from search.anytime import AnytimeResult
from search.evaluation import Figures, Interval
from search.generalisation.guarantees import Certified
from search.requirement import OneAnswerSetting, Requirement

CHOSEN_SCHEMA = 1
"""Version of ``chosen.json``."""


@dataclass(frozen=True)
class Outcome:
    """A configuration with its figures on both parts.

    Attributes:
        calibration: what the search saw.
        report: on images the search never saw; None where there are none.
        intervals: bootstrap intervals of ``drop_pp`` and ``mean_ms`` on the report
            part, by group; empty where it has fewer than two groups.
    """

    configuration: Configuration
    calibration: Figures
    report: Figures | None
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Finalist:
    """One of the best configurations, and what it took on the device.

    Attributes:
        outcome: as promised.
        measured_ms, measured_p90_ms: of the linked file over the calibration images;
            None while it is not measured.
    """

    outcome: Outcome
    measured_ms: float | None = None
    measured_p90_ms: float | None = None


@dataclass(frozen=True)
class Robustness:
    """How a robust choice came about (``search.generalisation.robust``).

    Attributes:
        asked: the tightened requirement that it is the optimum for; of the final head
            alone, taken as the last resort, the one that it keeps.
        drop_pp, mean_ms: pessimistic figures, by the requirement's ``robust``.
        steps: by how many steps the limits were tightened.
    """

    asked: Requirement
    drop_pp: float
    mean_ms: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best configuration for a requirement, and how sure that is.

    Attributes:
        name: for files and tables.
        setting, requirement, max_early_exits: what was asked.
        chosen: the configuration with its figures.
        value: of the objective on the calibration part: mean ms, or mIoU (0..1).
        bound: no configuration of the space is better than this, same unit.
        proven: the whole space is settled: ``chosen`` is the optimum, ``gap`` is 0.
        space_size: configurations in the space (heads x policies x thresholds).
        thresholds_per_policy: at most so many per head and policy are in the space.
        best_static: best single exit for the same requirement; None if none keeps it.
        reference: the final head alone.
        source: what the statistics were measured on.
        nodes, listed: sets of configurations examined, configurations computed exactly.
        wall_s: time taken.
        robustness: of a robust choice: ``bound`` and ``proven`` are for the requirement
            ``asked`` in it.
        certified: of a choice with a guarantee: thresholds may have been drawn back, so
            that ``value`` need not reach ``bound``.
        finalists: by promise, the best first; where they were measured, ``chosen`` is
            the one that was best then, and ``value`` need not reach ``bound``.
        predicted: by name of a piece of ``chosen`` or ``best_static`` whose latency was
            predicted and not measured: between which milliseconds it is likely to be.
        gap: how much better the optimum may at most be, in the unit of ``value``.
    """

    name: str
    setting: OneAnswerSetting
    max_early_exits: int
    value: float
    bound: float
    proven: bool
    space_size: int
    thresholds_per_policy: int
    source: str
    nodes: int
    listed: int
    wall_s: float
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    schema: int = CHOSEN_SCHEMA
    gap: float = field(init=False, default=0.0)
    requirement: Requirement
    robustness: Robustness | None = None
    certified: Certified | None = None
    chosen: Outcome
    best_static: Outcome | None
    reference: Outcome
    finalists: tuple[Finalist, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "gap", abs(self.value - self.bound))

    @property
    def configuration(self) -> Configuration:
        return self.chosen.configuration

    @property
    def calibration(self) -> Figures:
        return self.chosen.calibration

    @property
    def report(self) -> Figures | None:
        return self.chosen.report

    @property
    def intervals(self) -> Mapping[str, Interval]:
        return self.chosen.intervals


@dataclass(frozen=True)
class ChosenFile:
    """Contents of ``chosen.json``.

    Attributes:
        results: of the settings with one answer per image.
        anytime: of the anytime setting; the key is left out where there are none.
    """

    schema: int
    results: tuple[SearchResult, ...]
    anytime: tuple[AnytimeResult, ...] = ()


def save_results(
    path: Path,
    results: Sequence[SearchResult],
    anytime: Sequence[AnytimeResult] = (),
) -> None:
    """Writes named results as one ``chosen.json``.

    Args:
        path: of the file.
        results: of the settings with one answer per image, key ``results``.
        anytime: of the anytime setting, key ``anytime``, which is left out where there
            are none.

    Raises:
        MessError: two results have the same name, or the file cannot be written.
    """
    names = [r.name for r in results] + [r.name for r in anytime]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise MessError(
            f"Two search results are named {sorted(twice)[0]!r}; give each its own"
            " name."
        )
    data = to_json(ChosenFile(CHOSEN_SCHEMA, tuple(results), tuple(anytime)))
    if not anytime:
        del data["anytime"]
    write_json(path, data)


def load_results(path: Path) -> tuple[SearchResult, ...]:
    """Results with one answer per image, from ``chosen.json``.

    Raises:
        MessError: the file is missing, broken or of another schema.
    """
    return _read(path).results


def load_anytime_results(path: Path) -> tuple[AnytimeResult, ...]:
    """Results of the anytime setting, from ``chosen.json``.

    Raises:
        MessError: the file is missing, broken or of another schema.
    """
    return _read(path).anytime


def _read(path: Path) -> ChosenFile:
    what = "list of chosen configurations"
    return read_record(path, ChosenFile, what, "mess search", CHOSEN_SCHEMA)
