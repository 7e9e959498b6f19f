"""Picks among a search's finalists by what they took on the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mess_tf.core.errors import MessError
from search.result import SearchResult


def pick(
    result: SearchResult, measured_ms: Sequence[tuple[float, float]]
) -> SearchResult:
    """Makes the finalist that does best by measurement the chosen one.

    Latency limits have to hold as measured; if they do for none, the fastest is taken.
    Accuracy is what the search promised: the linked files answer as their pieces do.

    Args:
        result: of a search for several finalists.
        measured_ms: per finalist the mean and the 90th percentile of its latency.

    Returns:
        The same result with the measurements in it, and ``chosen`` and ``value`` of the
        finalist picked.

    Raises:
        MessError: not as many measurements as finalists.
    """
    if len(measured_ms) != len(result.finalists) or not measured_ms:
        raise MessError(
            f"{len(measured_ms)} measurements were given for {len(result.finalists)}"
            f" finalists of {result.name}."
        )
    seen = tuple(
        dataclasses.replace(finalist, measured_ms=mean, measured_p90_ms=p90)
        for finalist, (mean, p90) in zip(result.finalists, measured_ms, strict=True)
    )
    wish = result.requirement
    ceiling = math.inf if wish.max_latency_ms is None else wish.max_latency_ms
    p90_ceiling = math.inf if wish.max_p90_ms is None else wish.max_p90_ms
    keeps = [mean <= ceiling and p90 <= p90_ceiling for mean, p90 in measured_ms]
    by_latency = wish.goal == "latency" or not any(keeps)

    def key(place: int) -> tuple[float, float]:
        mean, miou = measured_ms[place][0], -seen[place].outcome.calibration.miou
        return (mean, miou) if by_latency else (miou, mean)

    allowed = [place for place, kept in enumerate(keeps) if kept or not any(keeps)]
    best = min(allowed, key=key)
    figures = seen[best].outcome.calibration
    return dataclasses.replace(
        result,
        chosen=seen[best].outcome,
        value=figures.mean_ms if wish.goal == "latency" else figures.miou,
        proven=result.proven and best == 0,
        finalists=seen,
    )
