"""Picks among a search's finalists by what they took on the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mess_tf.errors import MessError
from search.result import Finalist, SearchResult


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
    kept = [
        finalist
        for finalist, (mean, p90) in zip(seen, measured_ms, strict=True)
        if mean <= ceiling and p90 <= p90_ceiling
    ]

    def key(finalist: Finalist) -> tuple[float, float]:
        mean = finalist.measured_ms or math.inf
        miou = finalist.outcome.calibration.miou
        by_latency = wish.goal == "latency" or not kept
        return (mean, -miou) if by_latency else (-miou, mean)

    best = min(kept or seen, key=key)
    figures = best.outcome.calibration
    return dataclasses.replace(
        result,
        chosen=best.outcome,
        value=figures.mean_ms if wish.goal == "latency" else figures.miou,
        proven=result.proven and best is seen[0],
        finalists=seen,
    )
