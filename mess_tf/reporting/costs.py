"""Where the time of an image goes: the pieces on its path, by kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.piece_names import (
    branch_name,
    decision_name,
    head_name,
    output_name,
    segment_name,
)
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.reporting.records import Bar

KINDS = ("segments", "heads", "decisions", "output")


def path(
    spec: SupernetSpec, configuration: Configuration, place: int
) -> dict[str, list[str]]:
    """Pieces by kind that an image pays which leaves at position ``place``.

    Every kept head and every decision on the way is paid, fired or not.
    """
    choices = configuration.exits[: place + 1]
    sizes = [spec.head_size(c.exit, HeadSpec.parse(c.head)) for c in choices]
    return {
        "segments": [segment_name(k) for k in range(1, choices[-1].exit + 1)],
        "heads": [head_name(c.exit, c.head) for c in choices],
        "decisions": [
            decision_name(c.policy, size)
            for c, size in zip(choices, sizes, strict=True)
            if c.policy is not None
        ],
        "output": [] if sizes[-1] == spec.output_size else [output_name(sizes[-1])],
    }


def parts_ms(
    spec: SupernetSpec, by_piece: Mapping[str, float], configuration: Configuration
) -> np.ndarray | None:
    """Milliseconds per exit and kind; None where a piece is not measured.

    Returns:
        float64 array of shape (n_exits, len(KINDS)).
    """
    table = []
    for place in range(len(configuration.exits)):
        names = path(spec, configuration, place)
        if any(name not in by_piece for kind in KINDS for name in names[kind]):
            return None
        table.append(
            [
                # Entering a branch is part of deciding; unmeasured, it counts as 0.
                math.fsum(by_piece[name] for name in names[kind])
                + (kind == "decisions") * _branches_ms(by_piece, configuration, place)
                for kind in KINDS
            ]
        )
    return np.array(table)


def _branches_ms(
    by_piece: Mapping[str, float], configuration: Configuration, place: int
) -> float:
    return math.fsum(
        by_piece.get(branch_name(choice.exit), 0.0)
        for choice in configuration.exits[: place + 1]
        if choice.policy is not None
    )


def make_bars(
    spec: SupernetSpec,
    by_piece: Mapping[str, float],
    configuration: Configuration,
    rates: Sequence[float],
) -> tuple[Bar, ...]:
    """A bar per path, their mean over the images, and one for the final exit.

    Args:
        rates: part of the images that leaves at each exit.

    Returns:
        nothing where a piece is not measured.
    """
    last = ExitChoice(spec.exit_points[-1].index, spec.final_head.id)
    table = parts_ms(spec, by_piece, configuration)
    final = parts_ms(spec, by_piece, Configuration((last,)))
    if table is None or final is None:
        return ()
    rows = [
        (f"left at exit {choice.exit} ({rate:.0%})", row)
        for choice, rate, row in zip(configuration.exits, rates, table, strict=True)
    ]
    rows += [("mean over images", np.array(rates) @ table)]
    rows += [("final exit alone", final[0])]
    return tuple(Bar(label, tuple(row.tolist())) for label, row in rows)


def adds_up(
    spec: SupernetSpec,
    by_piece: Mapping[str, float],
    configuration: Configuration,
    rates: Sequence[float],
    mean_ms: float,
) -> bool:
    """Whether these latencies give a mean latency that was found earlier."""
    table = parts_ms(spec, by_piece, configuration)
    return table is not None and math.isclose(
        np.dot(rates, table.sum(axis=1)), mean_ms, rel_tol=1e-6
    )


def macs_of_leaving(pieces: Pieces, exit_index: int, head: str) -> int:
    """MACs of the backbone up to an exit point and of one head there."""
    names = [segment_name(k) for k in range(1, exit_index + 1)]
    return sum(pieces[name].macs for name in [*names, head_name(exit_index, head)])
