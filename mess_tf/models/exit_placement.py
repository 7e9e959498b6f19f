"""Where exit points go: at equal steps of MACs, or of measured latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mess_tf.core.errors import MessError

LEAST_SAVING = 0.05
"""Part of the network's latency that leaving at an exit saves at least."""
LARGEST_EXPANSION = 2.0
"""A map with more than so many times the channels of a later one, on the same grid or a
coarser one, is part of an expansion: heads on it would be wide."""


@dataclass(frozen=True)
class TimedCandidate:
    """A place for an exit, and what leaving there takes.

    Attributes:
        layer: whose output the exit reads.
        latency_ms: of the backbone up to there.
        head_latency_ms: by head id.
    """

    layer: str
    latency_ms: float
    head_latency_ms: Mapping[str, float]

    def heads_that_save(self, network_ms: float) -> tuple[str, ...]:
        """Heads by which leaving here saves ``LEAST_SAVING`` of ``network_ms``."""
        most_ms = (1 - LEAST_SAVING) * network_ms - self.latency_ms
        return tuple(head for head, ms in self.head_latency_ms.items() if ms <= most_ms)


def narrow_maps(maps: Sequence[tuple[int, int, int]]) -> list[int]:
    """Positions of maps that are not part of an expansion.

    Args:
        maps: (height, width, channels) of each, in order of depth.
    """
    return [
        i
        for i, (height, width, channels) in enumerate(maps)
        if all(
            channels <= LARGEST_EXPANSION * later
            for rows, columns, later in maps[i + 1 :]
            if rows <= height and columns <= width
        )
    ]


def place_exits_by_latency(
    candidates: Sequence[TimedCandidate], network_ms: float, count: int
) -> tuple[TimedCandidate, ...]:
    """Chooses early exits at equal steps of latency.

    An image that leaves at a candidate takes the backbone up to there and the cheapest
    head. From the earliest candidate at which leaving saves something to the whole
    network, latency is cut into ``count + 1`` equal steps; every inner bound gets the
    candidate nearest to it, none twice.

    Args:
        candidates: in order of depth, the final exit point left out.
        network_ms: latency of the whole network.
        count: early exits wanted.

    Returns:
        Those chosen, in order of depth; fewer than ``count`` where there are no more.
    """
    useful = [c for c in candidates if c.heads_that_save(network_ms)]
    if not useful or count < 1:
        return ()
    leaving_ms = [c.latency_ms + min(c.head_latency_ms.values()) for c in useful]
    first_ms = min(leaving_ms)
    step_ms = (network_ms - first_ms) / (count + 1)
    chosen: list[int] = []
    for k in range(1, min(count, len(useful)) + 1):
        first = chosen[-1] + 1 if chosen else 0
        last = len(useful) - 1 - (min(count, len(useful)) - k)
        target_ms = first_ms + k * step_ms
        chosen.append(
            min(range(first, last + 1), key=lambda i: abs(leaving_ms[i] - target_ms))
        )
    return tuple(useful[i] for i in chosen)


def place_exits(cumulative_macs: Sequence[int], count: int) -> tuple[int, ...]:
    """Chooses ``count`` block ends, the last block's included.

    Exit k of N goes to the block end whose cumulative MACs are nearest to k/N of the
    whole backbone; no block end is used twice. Dilated backbones are coarse late, so
    spacing is only as equal as the blocks allow.

    Args:
        cumulative_macs: backbone MACs up to each block end, growing.
        count: exit points wanted, the final one included.

    Returns:
        Positions in ``cumulative_macs``, growing; the last is the last block end.

    Raises:
        MessError: more exit points than blocks, or fewer than one.
    """
    blocks = len(cumulative_macs)
    if not 1 <= count <= blocks:
        raise MessError(
            f"{count} exit points do not fit a backbone of {blocks} blocks; accepted:"
            f" 1 to {blocks}."
        )
    total = cumulative_macs[-1]
    chosen: list[int] = []
    for k in range(1, count):
        # Leave room for the exits still to come, so that order is kept.
        first = chosen[-1] + 1 if chosen else 0
        last = blocks - 1 - (count - k)
        target = total * k / count
        chosen.append(
            min(range(first, last + 1), key=lambda i: abs(cumulative_macs[i] - target))
        )
    return (*chosen, blocks - 1)
