"""The same models under several settings, in turns: which threads, cores, delegate?

The settings take turns round by round, in an order shuffled anew, as models do in
``android_bench.measure``: a phone that warms up would else make the last ones slow.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.measure import Progress
from android_bench.records import Failure, MeasureSettings, ModelFile, Round, spread_of


@dataclass(frozen=True)
class Swept:
    """What some settings gave.

    Attributes:
        rounds: per model name, in the order measured; none of a model that failed.
        failures: per model name.
    """

    settings: MeasureSettings
    rounds: dict[str, tuple[Round, ...]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def total_ms(self) -> float:
        """Sum over the models of the medians of their rounds' medians, milliseconds.

        Raises:
            BenchError: a model failed: sums over others than all cannot be compared.
        """
        if self.failures:
            raise BenchError(
                f"{len(self.failures)} models failed with delegate"
                f" {self.settings.delegate!r}, {self.settings.threads} threads and"
                f" affinity {self.settings.affinity!r}; their sum says nothing."
            )
        medians = [
            float(np.median([r.median_us for r in taken]))
            for taken in self.rounds.values()
        ]
        return sum(medians) / 1000

    @property
    def spread(self) -> float:
        """The largest disagreement of a model's rounds; see ``spread_of``."""
        return max((spread_of(taken) for taken in self.rounds.values()), default=0.0)


def sweep(
    device: Device,
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    threads: Sequence[int] = (1, 2, 4),
    affinities: Sequence[str] = ("auto",),
    delegates: Sequence[str] = ("cpu",),
    progress: Progress | None = None,
) -> list[Swept]:
    """Measures models under every combination; nothing is stored.

    Args:
        models: of different names.
        settings: what the combinations have in common.
        threads: numbers greater than the device's cores are left out.
        progress: called with (visits done, visits planned, text).

    Returns:
        One record per combination, in the order of the arguments.

    Raises:
        BenchError: no models or combinations, the device is lost, or it cannot have a
            combination.
    """
    cores = device.describe().cores
    found = [
        Swept(
            dataclasses.replace(
                settings, threads=count, affinity=affinity, delegate=delegate
            )
        )
        for delegate, affinity, count in itertools.product(
            delegates, affinities, threads
        )
        if count <= cores
    ]
    if not found or not models:
        raise BenchError(
            f"Nothing to sweep: {len(models)} models, threads {list(threads)} on"
            f" {cores} cores, affinities {list(affinities)}, delegates"
            f" {list(delegates)}."
        )
    rng = np.random.default_rng(settings.seed)
    done, planned = 0, settings.rounds * len(found) * len(models)
    for _ in range(settings.rounds):
        for number in rng.permutation(len(found)):
            taken = found[number]
            left = [m for m in models if m.name not in taken.failures]
            done += len(models) - len(left)
            order = [left[i] for i in rng.permutation(len(left))]
            for model, outcome in device.benchmark(order, taken.settings):
                done += 1
                _keep(taken, model.name, outcome)
                if progress is not None:
                    progress(done, planned, _name(taken.settings))
    return found


def fastest(found: Sequence[Swept]) -> Swept:
    """The combination with the least total time among those where no model failed.

    Raises:
        BenchError: models failed in all of them.
    """
    whole = [swept for swept in found if not swept.failures]
    if not whole:
        raise BenchError(
            "Models failed under all settings swept: "
            + "; ".join(
                f"{_name(swept.settings)}: {failure.message}"
                for swept in found
                for failure in list(swept.failures.values())[:1]
            )
        )
    return min(whole, key=lambda swept: swept.total_ms)


def _keep(taken: Swept, name: str, outcome: Round | Failure) -> None:
    if isinstance(outcome, Failure):
        taken.failures[name] = outcome
        taken.rounds.pop(name, None)
    else:
        taken.rounds[name] = (*taken.rounds.get(name, ()), outcome)


def _name(settings: MeasureSettings) -> str:
    return f"{settings.delegate}, {settings.threads} threads, {settings.affinity}"
