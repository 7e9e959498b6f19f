"""Paired comparison of a few models, for claims of a speed-up.

The models take turns round by round; each round gives one ratio of medians, taken
within a second or so of one another, so drift of the machine cancels. Every other
round runs backwards: over an even number of rounds, what grows steadily within a round
cancels as well. Each visit opens the model anew, so the luck of where its buffers lie
widens the interval instead of shifting the ratio.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.measure import Progress
from android_bench.records import Failure, MeasureSettings, ModelFile, Round

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """Median of the per-round ratios, with an interval of it.

    Attributes:
        median: e.g. 0.5 where the upper model takes half the time of the lower.
        low, high: ends of the interval, two of the per-round ratios.
        confidence: probability that the interval holds the true median; at least 0.95
            from six rounds on.
        rounds: number of per-round ratios.
    """

    median: float
    low: float
    high: float
    confidence: float
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """Models measured in turns.

    Attributes:
        medians_us: per model name, the median of each round, microseconds, all of one
            length and in the order measured: equal positions belong together.
        rounds: per model name, the rounds themselves.
    """

    medians_us: Mapping[str, tuple[float, ...]]
    rounds: Mapping[str, tuple[Round, ...]]

    def ratio(self, upper: str | Sequence[str], lower: str | Sequence[str]) -> Ratio:
        """Time of ``upper`` over time of ``lower``; several names are summed per round.

        Raises:
            BenchError: a name that was not measured.
        """
        return median_interval(self._sum(upper) / self._sum(lower))

    def median_ms(self, name: str) -> float:
        """Median of a model's round medians, milliseconds."""
        return float(np.median(self._sum(name))) / 1000

    def _sum(self, names: str | Sequence[str]) -> np.ndarray:
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.medians_us:
                raise BenchError(
                    f"{name!r} was not compared; accepted:"
                    f" {', '.join(self.medians_us)}."
                )
        return np.sum([self.medians_us[name] for name in names], axis=0)


def compare(
    device: Device,
    models: Sequence[ModelFile],
    settings: MeasureSettings | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Measures a few models in turns; see ``Comparison.ratio`` for what it tells.

    Args:
        settings: ``rounds`` turns of each; the ``compare`` preset by default.

    Raises:
        BenchError: fewer than two models, equal names, or a model that fails: a
            comparison that lacks a side is none.
    """
    settings = settings or MeasureSettings.preset("compare")
    names = [model.name for model in models]
    if len(set(names)) != len(names) or len(names) < 2:
        raise BenchError(
            f"A comparison needs at least two models of different names; got {names}."
        )
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    total, done = settings.rounds * len(models), itertools.count(1)
    for number in range(settings.rounds):
        order = models if number % 2 == 0 else models[::-1]
        for model, outcome in device.benchmark(order, settings):
            if isinstance(outcome, Failure):
                raise BenchError(
                    f"Model {model.path} cannot be compared: it failed at stage"
                    f" {outcome.stage!r} ({outcome.message})."
                )
            rounds[model.name].append(outcome)
            if progress is not None:
                progress(next(done), total, model.name)
    if any(len(taken) != settings.rounds for taken in rounds.values()):
        raise BenchError("The device left out rounds of the comparison; repeat it.")
    return Comparison(
        medians_us={
            n: tuple(r.median_us for r in taken) for n, taken in rounds.items()
        },
        rounds={name: tuple(taken) for name, taken in rounds.items()},
    )


def median_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Ratio:
    """Median with the narrowest symmetric interval of order statistics.

    The k-th smallest and k-th largest of n values hold the true median with probability
    1 - 2 P(Binomial(n, 1/2) < k), whatever the values' distribution.

    Args:
        values: float array of shape (n,), n >= 1.
        confidence: wanted; less is reached (and reported) with fewer than six values.
    """
    ordered = np.sort(values)
    n, k, below = len(ordered), 1, 0.5 ** len(ordered)
    while k < (n + 1) // 2:
        next_below = below + math.comb(n, k) * 0.5**n
        if 1 - 2 * next_below < confidence:
            break
        k, below = k + 1, next_below
    return Ratio(
        median=float(np.median(ordered)),
        low=float(ordered[k - 1]),
        high=float(ordered[n - k]),
        confidence=max(0.0, 1 - 2 * below),
        rounds=n,
    )
