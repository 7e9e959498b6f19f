"""All chains of heads, and a first bound for each from whole heads alone.

A *structure* is a chain of heads at growing exit points: all but the last may let
images leave. ``docs/search.md`` proves the bounds used here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mess_tf.errors import MessError
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE

MAX_STRUCTURES = 4_000_000
_CHUNK_FLOATS = 1 << 17
# Sums of some hundred products in float64 are this exact, with much to spare.
ROUNDING = 1e-10


@dataclass(frozen=True)
class Target:
    """What a useful configuration must reach.

    Attributes:
        minimise_latency: True: lowest mean latency with mIoU >= ``floor``; False:
            highest mIoU.
        floor: least mIoU, 0..1.
        ceiling_ms: highest mean latency; infinite where not limited.
        p90_ms: highest 90th percentile; infinite where not limited.
    """

    minimise_latency: bool
    floor: float
    ceiling_ms: float = math.inf
    p90_ms: float = math.inf


@dataclass(frozen=True, eq=False)
class Structures:
    """Chains with ``early`` heads before the last.

    Attributes:
        heads: int64 array of shape (S, early + 1).
        bounds: float64 array of shape (S,): no configuration of the structure has a
            lower value (latency in ms, or minus the mIoU).
    """

    heads: np.ndarray
    bounds: np.ndarray


def space_size(problem: Problem, max_early_exits: int) -> int:
    """Number of configurations: chains times policies and thresholds of each gate."""
    gates = [g.grid_size for g in problem.gates]
    exits = sorted({e for e, _ in problem.heads})
    # ways[k]: number of ways to have chosen k early exits among the exits so far.
    ways = [1] + [0] * max_early_exits
    total = 0
    for exit_index in exits:
        here = [h for h, (e, _) in enumerate(problem.heads) if e == exit_index]
        total += len(here) * sum(ways)
        grid = sum(gates[h] for h in here)
        for k in range(max_early_exits, 0, -1):
            ways[k] += ways[k - 1] * grid
    return total


def enumerate_structures(problem: Problem, early: int) -> np.ndarray:
    """All chains with ``early`` gated heads and a last one.

    Returns:
        int64 array of shape (S, early + 1), in lexicographic order.

    Raises:
        MessError: there are too many to list.
    """
    exits = sorted({e for e, _ in problem.heads})
    at = {e: np.flatnonzero(problem.exit_of == e) for e in exits}
    gated = {
        e: np.array([h for h in at[e] if len(problem.gates[h])], int) for e in exits
    }
    choices = [
        [*(gated[e] for e in chain[:-1]), at[chain[-1]]]
        for chain in itertools.combinations(exits, early + 1)
    ]
    count = sum(math.prod(len(c) for c in chain) for chain in choices)
    if count > MAX_STRUCTURES:
        raise MessError(
            f"The search space has {count} chains of heads with {early} early exits; at"
            f" most {MAX_STRUCTURES} can be searched: lower max_early_exits or evaluate"
            " fewer heads."
        )
    chains = [
        np.stack([g.ravel() for g in np.meshgrid(*chain, indexing="ij")], -1)
        for chain in choices
    ]
    return np.concatenate(chains) if chains else np.zeros((0, early + 1), int)


def multipliers(problem: Problem) -> np.ndarray:
    """Exchange rates of mIoU against latency at which bounds are taken.

    Any positive value gives a valid bound; these lie around 10 pp over the span of the
    single exits' latencies, over two orders of magnitude.

    Returns:
        float64 array of shape (M,), 1/ms.
    """
    cost = problem.segments_ms + problem.head_ms + problem.output_ms
    span = float(cost.max() - cost.min())
    base = 0.1 / span if span > 0 else 1.0
    return base * 2.0 ** np.arange(-4, 5)


def bound_structures(
    problem: Problem,
    heads: np.ndarray,
    target: Target,
    rates: np.ndarray,
    out_of_time: Callable[[], bool],
) -> Structures:
    """First bounds: each image may take whichever head of the chain suits it best.

    Args:
        heads: int64 array of shape (S, n_heads), chains.
        rates: as ``multipliers``.
        out_of_time: once it says so, the rest gets a bound that needs no work.

    Returns:
        chains that may be useful, by growing bound.
    """
    early = heads.shape[1] - 1
    cheapest = np.array([g.decision_ms.min() if len(g) else 0.0 for g in problem.gates])
    seen = problem.labelled
    # Images last: they are what is summed most, and sums along memory are fast.
    both = np.ascontiguousarray(problem.intersection[:, :, seen].swapaxes(1, 2))
    union = np.ascontiguousarray(problem.union[:, :, seen].swapaxes(1, 2))
    bounds = np.empty(len(heads))
    step = max(1, _CHUNK_FLOATS // (both[0].size * (early + 1)))
    for start in range(0, len(heads), step):
        chain = heads[start : start + step]
        asked = cheapest[chain]
        asked[:, early] = 0.0
        cost = (
            problem.segments_ms[chain]
            + np.cumsum(problem.head_ms[chain] + asked, axis=1)
            + problem.output_ms[chain]
        )
        # Without more work: all images leave at the fastest exit, or the mIoU is 1.
        best = cost.min(1) if target.minimise_latency else np.full(len(chain), -1.0)
        if not out_of_time():
            total, score = _tangents(both[chain], union[chain])
            best = _chain_values(best, cost, total, score, target, rates)
        best[cost.min(1) > target.ceiling_ms + LATENCY_TOLERANCE_MS] = np.inf
        bounds[start : start + step] = best
    order = np.argsort(bounds, kind="stable")
    order = order[np.isfinite(bounds[order])]
    return Structures(heads[order], bounds[order])


def _chain_values(
    least: np.ndarray,
    cost: np.ndarray,
    total: np.ndarray,
    score: np.ndarray,
    target: Target,
    rates: np.ndarray,
) -> np.ndarray:
    """Lowest value of each chain, infinite where it cannot be useful.

    Args:
        least: a bound to start from, shape (S,).
        cost: ms of leaving at each head, shape (S, n_heads).
        total, score: see ``_tangents``.
    """
    images = score.shape[2]
    ceiling = total + score.max(1).sum(-1)
    best = least if target.minimise_latency else np.maximum(least, -ceiling)
    for rate in rates:
        value = (score - (rate / images) * cost[:, :, None]).max(1).sum(-1) + total
        if target.minimise_latency:
            best = np.maximum(best, (target.floor - MIOU_TOLERANCE - value) / rate)
        elif target.ceiling_ms < np.inf:
            limit = rate * (target.ceiling_ms + LATENCY_TOLERANCE_MS)
            best = np.maximum(best, -(value + limit))
    return np.where(ceiling < target.floor - MIOU_TOLERANCE, np.inf, best)


def _tangents(both: np.ndarray, union: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A linear function of the images per chain that the mIoU never exceeds.

    Any routing of the chain has mIoU <= total + sum over images of score[head taken].

    Args:
        both, union: float64 arrays of shape (S, n_heads, C, I), labelled classes only.

    Returns:
        total of shape (S,) and score of shape (S, n_heads, I).
    """
    both_low, both_high = both.min(1).sum(-1), both.max(1).sum(-1)
    union_low, union_high = union.min(1).sum(-1), union.max(1).sum(-1)
    rate = (both_low + both_high) / (union_low + union_high)
    weight = (1 / union_low + 1 / union_high) / 2
    excess = both - rate[:, None, :, None] * union
    slack = corner_excess(
        excess.min(1).sum(-1), excess.max(1).sum(-1), union_low, union_high, weight
    )
    classes = both.shape[2]
    score = np.matmul(weight[:, None, None], excess)[:, :, 0] / classes
    return rate.mean(-1) + slack / classes + ROUNDING, score


def corner_excess(
    x_low: np.ndarray,
    x_high: np.ndarray,
    union_low: np.ndarray,
    union_high: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Largest sum over classes of x (1/U - weight), x and U anywhere in their ranges.

    The product is linear in x and in 1/U, so each class has its maximum at a corner.

    Args:
        x_low, x_high, union_low, union_high: arrays of shape (..., C).
        weight: array of shape (C,).

    Returns:
        array of shape (...).
    """
    steep, flat = 1 / union_low - weight, 1 / union_high - weight
    best = np.maximum(x_high * steep, x_high * flat)
    np.maximum(best, x_low * steep, out=best)
    np.maximum(best, x_low * flat, out=best)
    return best.sum(-1)
