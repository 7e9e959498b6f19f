"""Latencies of linked files from those of their pieces, corrected by probes.

Two effects are systematic. A network in one file is a few per cent slower or faster
than its pieces one by one (caches, buffers). And a runtime spends time on entering the
branch of an IF: LiteRT prepares the branch's operators anew on every call. Both are
measured by probes that are compiled and profiled like pieces: for every exit point the
network that ends there in one file, and the final one behind one IF after each early
exit point, with a threshold that nothing reaches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from mess_tf.core.piece_names import (
    WHOLE_PROBE,
    branch_name,
    branch_probe,
    decision_name,
    head_name,
    is_probe,
    output_name,
    segment_name,
    single_probe,
)
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.policies.registry import POLICIES, family_of


def probe_policy(families: Iterable[str]) -> str:
    """The compiled policy family whose decision the probes contain.

    None that compares with another exit (``region_1``): the first exit lacks these.
    """
    alone = (name for name in families if not POLICIES[family_of(name)].compares)
    return min(alone, default="")


def compose_latencies(
    by_piece: Mapping[str, float],
    spec: SupernetSpec,
    rounds_ms: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, float]:
    """Piece latencies in ms whose sums are the latencies of linked files.

    Segments and heads are scaled by how much longer networks in one file take than
    their pieces; ``branch_<k>`` is what asking at exit k adds to the final network
    beyond the head and the decision asked, never below 0. It is charged to every image
    that is asked; one that leaves there pays a little less in truth (its branch is
    small).

    Args:
        by_piece: milliseconds by piece name. Without the probe of the whole network
            nothing is known beyond the sums, and they are returned as they are.
        spec: structure of the supernet.
        rounds_ms: by name, the median of each round. Probes differ little from what
            they are compared with: they are compared round by round, in which the
            machine's drift cancels, where all have as many rounds.

    Returns:
        Milliseconds by name, without the probes.
    """
    if WHOLE_PROBE not in by_piece:
        return dict(by_piece)
    ratio = _linked_to_pieces_ratio(by_piece, spec, rounds_ms or {})
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
                _beyond_whole_ms(branch_probe(point.index), by_piece, rounds_ms or {})
                - result[head_name(point.index, heads[0].id)]
                - by_piece[decision_name(policy, spec.head_size(point.index, heads[0]))]
            )
            result[branch_name(point.index)] = max(0.0, asked)
    return result


def _linked_to_pieces_ratio(
    by_piece: Mapping[str, float],
    spec: SupernetSpec,
    rounds_ms: Mapping[str, Sequence[float]],
) -> float:
    """Median latency of linked networks over the summed latency of their pieces.

    Now and then a file is 5 to 10 % slower in a round than in the others, by where its
    buffers come to lie: hence the median over all rounds of several networks.
    """
    ratios = []
    last = spec.exit_points[-1].index
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        whole = point.index == last
        probe = WHOLE_PROBE if whole else single_probe(point.index)
        if probe not in by_piece:
            continue  # no head there, or compiled before there was this probe
        head = spec.final_head if whole else heads[0]
        names = [segment_name(k) for k in range(1, point.index + 1)]
        names.append(head_name(point.index, head.id))
        size = spec.head_size(point.index, head)
        output = [output_name(size)] if size != spec.output_size else []
        table = _rounds([probe, *output, *names], by_piece, rounds_ms)
        for together, *apart in zip(*table, strict=True):
            after = math.fsum(apart[: len(output)])
            ratios.append((together - after) / math.fsum(apart[len(output) :]))
    return statistics.median(ratios)


def _beyond_whole_ms(
    probe: str, by_piece: Mapping[str, float], rounds_ms: Mapping[str, Sequence[float]]
) -> float:
    """Median difference of a probe's latency and the whole network's, ms."""
    table = _rounds([probe, WHOLE_PROBE], by_piece, rounds_ms)
    return statistics.median(a - b for a, b in zip(*table, strict=True))


def _rounds(
    names: Sequence[str],
    by_piece: Mapping[str, float],
    rounds_ms: Mapping[str, Sequence[float]],
) -> list[Sequence[float]]:
    """Latencies per round and name; one figure each where rounds differ in number."""
    table = [rounds_ms.get(name, ()) for name in names]
    if len(set(map(len, table))) > 1 or not table[0]:
        return [(by_piece[name],) for name in names]
    return table
