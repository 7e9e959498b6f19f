"""What putting pieces together costs beyond their sum, from a few probes.

Two effects are systematic. A network in one file is a few per cent slower or faster
than its pieces one by one (caches, buffers). And a runtime spends time on entering the
branch of an IF: LiteRT prepares the branch's operators anew on every call. Both are
measured by probes that are compiled and profiled like pieces: the final network in one
file, and the same behind one IF after each early exit point, with a threshold that
nothing reaches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from mess_tf.records import (
    WHOLE_PROBE,
    SupernetSpec,
    branch_name,
    branch_probe,
    decision_name,
    head_name,
    is_probe,
    output_name,
    segment_name,
)


def probe_policy(families: Iterable[str]) -> str:
    """The family, of those compiled, whose decision the probes contain."""
    return min(families, default="")


def composed(
    by_piece: Mapping[str, float],
    spec: SupernetSpec,
    rounds_ms: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, float]:
    """Piece latencies whose sums are those of linked files.

    Segments and heads are scaled by the ratio of the whole final network to the sum of
    its pieces; ``branch_<k>`` is what asking at exit k adds to that network beyond the
    head and the decision asked, never below 0. It is charged to every image that is
    asked; one that leaves there pays a little less in truth (its branch is small).

    Args:
        by_piece: milliseconds by piece name. Without the probe of the whole network
            nothing is known beyond the sums, and they are returned as they are.
        spec: structure of the supernet.
        rounds_ms: per probe, the median of each round. What a branch costs is a small
            difference of two large figures: it is taken round by round, in which the
            machine's drift cancels, where both have as many rounds.

    Returns:
        Milliseconds by name, without the probes.
    """
    if WHOLE_PROBE not in by_piece:
        return dict(by_piece)
    last = spec.exit_points[-1].index
    path = [segment_name(k) for k in range(1, last + 1)]
    path.append(head_name(last, spec.final_head.id))
    size = spec.head_size(last, spec.final_head)
    rest = by_piece[output_name(size)] if size != spec.output_size else 0.0
    together = by_piece[WHOLE_PROBE] - rest
    ratio = together / math.fsum(by_piece[name] for name in path)
    result = {
        name: ms * ratio if name.startswith(("segment_", "head_")) else ms
        for name, ms in by_piece.items()
        if not is_probe(name)
    }
    policy = probe_policy(
        name.removeprefix("decision_").rsplit("_", 1)[0]
        for name in by_piece
        if name.startswith("decision_")
    )
    for point, heads in zip(spec.exit_points[:-1], spec.heads, strict=False):
        if heads:
            asked = (
                _beyond_ms(branch_probe(point.index), by_piece, rounds_ms or {})
                - result[head_name(point.index, heads[0].id)]
                - by_piece[decision_name(policy, spec.head_size(point.index, heads[0]))]
            )
            result[branch_name(point.index)] = max(0.0, asked)
    return result


def _beyond_ms(
    probe: str, by_piece: Mapping[str, float], rounds_ms: Mapping[str, Sequence[float]]
) -> float:
    """How much longer a probe takes than the whole network."""
    upper, lower = rounds_ms.get(probe, ()), rounds_ms.get(WHOLE_PROBE, ())
    if not upper or len(upper) != len(lower):
        return by_piece[probe] - by_piece[WHOLE_PROBE]
    return statistics.median(a - b for a, b in zip(upper, lower, strict=True))
