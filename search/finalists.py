"""Chooses among a search's finalists by their latency as measured on the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.quantiles import quantile
from search.result import SearchResult


def rerank_by_measurement(
    result: SearchResult, measured_ms: Sequence[np.ndarray]
) -> SearchResult:
    """The result with the finalist chosen that is best by measured latency.

    Latency limits have to hold as measured; if they do for none, the fastest is taken.
    Accuracy is what the search promised: the linked files answer as their pieces do.

    Args:
        result: of a search for several finalists.
        measured_ms: per finalist the latency of each image, float array of shape (I,).

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
    measured = [(float(ms.mean()), quantile(ms, 0.9)) for ms in measured_ms]
    finalists = tuple(
        dataclasses.replace(finalist, measured_ms=mean, measured_p90_ms=p90)
        for finalist, (mean, p90) in zip(result.finalists, measured, strict=True)
    )
    wish = result.requirement
    ceiling = math.inf if wish.max_latency_ms is None else wish.max_latency_ms
    p90_ceiling = math.inf if wish.max_p90_ms is None else wish.max_p90_ms
    feasible = [mean <= ceiling and p90 <= p90_ceiling for mean, p90 in measured]
    by_latency = wish.goal == "latency" or not any(feasible)

    def key(index: int) -> tuple[float, float]:
        mean, loss = measured[index][0], -finalists[index].outcome.calibration.miou
        return (mean, loss) if by_latency else (loss, mean)

    allowed = [i for i, kept in enumerate(feasible) if kept or not any(feasible)]
    best = min(allowed, key=key)
    figures = finalists[best].outcome.calibration
    return dataclasses.replace(
        result,
        chosen=finalists[best].outcome,
        value=figures.mean_ms if wish.goal == "latency" else figures.miou,
        proven=result.proven and best == 0,
        finalists=finalists,
    )
