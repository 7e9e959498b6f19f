"""Results of ``mess search`` per device: stored as they come, and as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mess_tf.commands.cards import Source
from mess_tf.commands.finalists import pick_by_measurement
from mess_tf.commands.latencies import Latencies
from mess_tf.core.configuration import ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import Json, to_json
from mess_tf.core.piece_names import head_name
from search.anytime import AnytimeResult, ExitFigures
from search.infeasible import InfeasibleError
from search.jobs import JobResult
from search.pareto import ParetoPoint, hypervolume, save_pareto
from search.result import (
    SearchResult,
    load_anytime_results,
    load_results,
    save_results,
)

FRONT_EARLY_EXITS = 2
"""Early exits of a configuration of the Pareto front, at most: it is many searches."""


@dataclass(eq=False)
class DeviceResults:
    """A device's results; each is stored as it comes, since the next takes minutes.

    Attributes:
        source: statistics, latencies and pieces that were searched.
        folder: of the device's search results.
        results, anytime, front: as the search returns them.
        unmet: name and reason of each search without a result.
        errors: the same as they were raised.
    """

    source: Source
    folder: Path
    results: list[SearchResult] = field(default_factory=list)
    anytime: list[AnytimeResult] = field(default_factory=list)
    front: tuple[ParetoPoint, ...] = ()
    unmet: list[dict[str, str]] = field(default_factory=list)
    errors: list[MessError] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.results or self.anytime or self.front)

    @property
    def _chosen(self) -> Path:
        return self.folder / "chosen.json"

    def add(self, name: str, result: JobResult | AnytimeResult) -> None:
        """Stores a result, or notes why there is none."""
        if isinstance(result, MessError):
            self.unmet.append({"name": name, "reason": str(result)})
            self.errors.append(result)
            # An older result stays unless it is proven that there is none.
            if isinstance(result, InfeasibleError):
                _store(self._chosen, [], without=name)
        elif isinstance(result, AnytimeResult):
            heads = [*result.exits, *(d.best_single for d in result.deadlines)]
            predicted = _predicted(heads, self.source.latencies)
            self.anytime.append(dataclasses.replace(result, predicted=predicted))
            _store(self._chosen, self.anytime[-1:])
        elif isinstance(result, SearchResult):
            self.results.append(_with_predicted(result, self.source.latencies))
            _store(self._chosen, self.results[-1:])
        else:
            self.front = result
            save_pareto(self.folder / "pareto.csv", result)

    def finish(self, device: str, early_exits: int) -> dict[str, Json]:
        """Measures the finalists, if any; all results as plain values.

        Args:
            device: name of the device.
            early_exits: at most so many were asked for.

        Raises:
            BenchError: finalists cannot be measured on the device.
            MessError: their files cannot be written.
        """
        picked = pick_by_measurement(self.source, self.results, device)
        results = [_with_predicted(result, self.source.latencies) for result in picked]
        if results != self.results:
            _store(self._chosen, results)
        front_early = min(early_exits, FRONT_EARLY_EXITS) if self.front else None
        return {
            "device": device,
            "folder": str(self.folder),
            "results": [to_json(result) for result in results],
            "anytime": [to_json(result) for result in self.anytime],
            "unmet": self.unmet,
            "hypervolume": _hypervolume(self.front, results),
            "front_early_exits": front_early,
        }


def _with_predicted(result: SearchResult, latencies: Latencies) -> SearchResult:
    """The result with the heads whose latency was predicted."""
    heads = [
        choice
        for outcome in (result.chosen, result.best_static)
        if outcome is not None
        for choice in outcome.configuration.exits
    ]
    return dataclasses.replace(result, predicted=_predicted(heads, latencies))


def _predicted(
    heads: Iterable[ExitChoice | ExitFigures | None], latencies: Latencies
) -> dict[str, tuple[float, float]]:
    """The heads whose latency was predicted, with the milliseconds it is between."""
    names = {head_name(head.exit, head.head) for head in heads if head is not None}
    return {n: ends for n, ends in latencies.predicted.items() if n in names}


def _hypervolume(
    front: Sequence[ParetoPoint], results: Sequence[SearchResult]
) -> float | None:
    """Of a front, up to the final exit's latency; None where no result has that."""
    if not front or not results:
        return None
    figures = [point.outcome.calibration for point in front]
    slowest_ms = results[0].reference.calibration.mean_ms
    return float(hypervolume([(f.mean_ms, f.miou) for f in figures], slowest_ms))


def _store(
    path: Path, new: Sequence[SearchResult | AnytimeResult], without: str = ""
) -> None:
    """Adds results to those of earlier calls; one of the same name is replaced."""
    old: list[SearchResult | AnytimeResult] = []
    if path.is_file():
        old = [*load_results(path), *load_anytime_results(path)]
    names = {result.name for result in new} | {without}
    merged = [*(result for result in old if result.name not in names), *new]
    save_results(
        path,
        [result for result in merged if isinstance(result, SearchResult)],
        [result for result in merged if isinstance(result, AnytimeResult)],
    )
