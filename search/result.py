"""What a search hands back, and how it is kept in ``chosen.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import Json, from_json, read_json, to_json, write_json
from search.anytime import AnytimeResult
from search.evaluation import Figures, Interval
from search.generalisation.guarantees import Certified
from search.requirement import OneAnswerSetting, Requirement

CHOSEN_SCHEMA = 1
"""Version of ``chosen.json``."""

_RECORDS = ("requirement", "robustness", "certified")
_OWN_FORM = ("chosen", "best_static", "reference", "finalists", *_RECORDS)


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

    def as_json(self) -> dict[str, Any]:
        return {
            "configuration": self.configuration.to_json(),
            "calibration": dataclasses.asdict(self.calibration),
            "report": None if self.report is None else dataclasses.asdict(self.report),
            "intervals": {k: dataclasses.asdict(v) for k, v in self.intervals.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        report = data["report"]
        return cls(
            Configuration.from_json(data["configuration"]),
            Figures.from_json(data["calibration"]),
            None if report is None else Figures.from_json(report),
            {k: Interval(**v) for k, v in data["intervals"].items()},
        )


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

    def as_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.as_json(),
            "measured_ms": self.measured_ms,
            "measured_p90_ms": self.measured_p90_ms,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finalist:
        return cls(**{**data, "outcome": Outcome.from_json(data["outcome"])})


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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Robustness:
        return cls(**{**data, "asked": Requirement(**data["asked"])})


@dataclass(frozen=True)
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
    """

    name: str
    setting: OneAnswerSetting
    requirement: Requirement
    max_early_exits: int
    chosen: Outcome
    value: float
    bound: float
    proven: bool
    space_size: int
    thresholds_per_policy: int
    best_static: Outcome | None
    reference: Outcome
    source: str
    nodes: int
    listed: int
    wall_s: float
    robustness: Robustness | None = None
    certified: Certified | None = None
    finalists: tuple[Finalist, ...] = ()
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    schema: int = CHOSEN_SCHEMA

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

    @property
    def gap(self) -> float:
        """How much better the optimum may at most be, in the unit of ``value``."""
        return abs(self.value - self.bound)

    def as_json(self) -> dict[str, Any]:
        data = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in _OWN_FORM
        }
        static = self.best_static
        return {
            **data,
            "gap": self.gap,
            "requirement": dataclasses.asdict(self.requirement),
            **{
                name: None if record is None else dataclasses.asdict(record)
                for name, record in (
                    ("robustness", self.robustness),
                    ("certified", self.certified),
                )
            },
            "chosen": self.chosen.as_json(),
            "best_static": None if static is None else static.as_json(),
            "reference": self.reference.as_json(),
            "finalists": [finalist.as_json() for finalist in self.finalists],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchResult:
        static = data["best_static"]
        robust, certified = data.get("robustness"), data.get("certified")
        fields = {k: v for k, v in data.items() if k != "gap"}
        predicted = data.get("predicted", {})
        return cls(
            **{
                **fields,
                "requirement": Requirement(**data["requirement"]),
                "robustness": Robustness.from_json(robust) if robust else None,
                "certified": Certified.from_json(certified) if certified else None,
                "chosen": Outcome.from_json(data["chosen"]),
                "best_static": None if static is None else Outcome.from_json(static),
                "reference": Outcome.from_json(data["reference"]),
                "finalists": tuple(
                    Finalist.from_json(row) for row in data.get("finalists", ())
                ),
                "predicted": {name: tuple(ends) for name, ends in predicted.items()},
            }
        )


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
    data: dict[str, Json] = {
        "schema": CHOSEN_SCHEMA,
        "results": [result.as_json() for result in results],
    }
    if anytime:
        data["anytime"] = [to_json(result) for result in anytime]
    write_json(path, data)


def load_results(path: Path) -> tuple[SearchResult, ...]:
    """Results with one answer per image, from ``chosen.json``.

    Raises:
        MessError: the file is missing, broken or of another schema.
    """
    data = _read(path)
    try:
        return tuple(SearchResult.from_json(item) for item in data["results"])
    except (KeyError, TypeError) as error:
        raise MessError(
            f"The list of chosen configurations {path} cannot be read ({error}); run"
            " `mess search` again."
        ) from error


def load_anytime_results(path: Path) -> tuple[AnytimeResult, ...]:
    """Results of the anytime setting, from ``chosen.json``.

    Raises:
        MessError: the file is missing, broken or of another schema.
    """
    data = _read(path).get("anytime", [])
    return from_json(data, tuple[AnytimeResult, ...], f"The anytime results of {path}")


def _read(path: Path) -> dict[str, Json]:
    data: dict[str, Json] = read_json(
        path, "list of chosen configurations", "mess search"
    )
    return data
