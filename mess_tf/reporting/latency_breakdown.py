"""Latency by kind of piece: per path, their mean, and the final exit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.latency import PathLatency, UnmeasuredPieceError
from mess_tf.core.piece_names import head_name, segment_name
from mess_tf.core.pieces import Pieces
from mess_tf.reporting.configuration_records import LatencyBreakdown


def terms_if_measured(
    latency: PathLatency, configuration: Configuration
) -> np.ndarray | None:
    """``PathLatency.terms_ms``, or None where a piece has no latency."""
    try:
        return latency.terms_ms(configuration)
    except UnmeasuredPieceError:
        return None


def latency_breakdowns(
    latency: PathLatency, configuration: Configuration, exit_rates: Sequence[float]
) -> tuple[LatencyBreakdown, ...]:
    """Breakdown of every path, of their mean over the images, and of the final exit.

    Args:
        latency: of the paths through the supernet.
        configuration: whose paths they are.
        exit_rates: share of the images that leaves at each exit.

    Returns:
        nothing where a piece is not measured.
    """
    spec = latency.spec
    last = ExitChoice(spec.exit_points[-1].index, spec.final_head.id)
    terms = terms_if_measured(latency, configuration)
    final = terms_if_measured(latency, Configuration((last,)))
    if terms is None or final is None:
        return ()
    rows = [
        (f"left at exit {choice.exit} ({rate:.0%})", row)
        for choice, rate, row in zip(
            configuration.exits, exit_rates, terms, strict=True
        )
    ]
    rows += [("mean over images", np.array(exit_rates) @ terms)]
    rows += [("final exit alone", final[0])]
    return tuple(LatencyBreakdown(label, tuple(row.tolist())) for label, row in rows)


def reproduces_mean(
    latency: PathLatency,
    configuration: Configuration,
    exit_rates: Sequence[float],
    mean_ms: float,
) -> bool:
    """Whether these latencies give a mean latency that was found earlier."""
    terms = terms_if_measured(latency, configuration)
    return terms is not None and math.isclose(
        np.dot(exit_rates, terms.sum(axis=1)), mean_ms, rel_tol=1e-6
    )


def head_macs(pieces: Pieces, exit_index: int, head: str) -> int:
    """MACs of the backbone up to an exit point and of one head there."""
    names = [segment_name(k) for k in range(1, exit_index + 1)]
    return sum(pieces[name].macs for name in [*names, head_name(exit_index, head)])
