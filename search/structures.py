"""All chains of heads, and a first bound for each from whole heads alone.

A *structure* is a chain of heads at growing exit points: all but the last may let
images leave. ``docs/search.md`` proves the bounds used here.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mess_tf.errors import MessError
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE

MAX_STRUCTURES = 4_000_000
_CHUNK = 4096


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
    problem: Problem, heads: np.ndarray, target: Target, rates: np.ndarray
) -> Structures:
    """First bounds: each image may take whichever head of the chain suits it best."""
    early = heads.shape[1] - 1
    table = _LinearTable(problem)
    cheapest = np.array([g.decision_ms.min() if len(g) else 0.0 for g in problem.gates])
    bounds = np.empty(len(heads))
    for start in range(0, len(heads), _CHUNK):
        chain = heads[start : start + _CHUNK]
        asked = cheapest[chain]
        asked[:, early] = 0.0
        cost = (
            problem.segments_ms[chain]
            + np.cumsum(problem.head_ms[chain] + asked, axis=1)
            + problem.output_ms[chain]
        )
        slack = table.slack(chain) + table.constant
        score = table.score[chain]
        ceiling = slack + score.max(1).sum(-1)
        best = cost.min(1) if target.minimise_latency else -ceiling
        hopeless = ceiling < target.floor - MIOU_TOLERANCE
        hopeless |= cost.min(1) > target.ceiling_ms + LATENCY_TOLERANCE_MS
        best[hopeless] = np.inf
        for rate in rates:
            value = (score - (rate / problem.images) * cost[:, :, None]).max(1).sum(-1)
            if target.minimise_latency:
                np.maximum(best, (target.floor - slack - value) / rate, out=best)
            elif target.ceiling_ms < np.inf:
                limit = -(value + slack + rate * target.ceiling_ms)
                np.maximum(best, limit, out=best)
        bounds[start : start + _CHUNK] = best
    order = np.argsort(bounds, kind="stable")
    order = order[np.isfinite(bounds[order])]
    return Structures(heads[order], bounds[order])


class _LinearTable:
    """The mIoU's tangent at the reference, and how far off it can be for a chain.

    With r and U0 the reference's IoU and union of a class, I/U = r + x/U with
    x = I - rU, and x/U <= x/U0 + max over corners of x (1/U - 1/U0). The ranges of x
    and U over a chain come from pairwise sums of differences to the last head.
    """

    def __init__(self, problem: Problem) -> None:
        seen = problem.labelled
        both, union = problem.intersection[:, :, seen], problem.union[:, :, seen]
        ref = problem.reference
        total = union[ref].sum(0)
        rate = both[ref].sum(0) / total
        excess = both - rate * union
        self.classes = int(seen.sum())
        self.weight = 1 / total
        self.constant = float(rate.mean())
        self.score = excess @ self.weight / self.classes
        self._least = union.min(0).sum(0)
        self._sums = {"x": excess.sum(1), "u": union.sum(1)}
        self._up: dict[str, np.ndarray] = {}
        self._down: dict[str, np.ndarray] = {}
        for name, values in (("x", excess), ("u", union)):
            above = np.zeros((len(values), len(values), self.classes))
            for last in range(len(values)):
                above[last] = np.maximum(values - values[last], 0).sum(1)
            self._up[name] = above
            gap = self._sums[name][None] - self._sums[name][:, None]
            self._down[name] = above - gap

    def slack(self, chain: np.ndarray) -> np.ndarray:
        """Largest excess of the mIoU over its tangent, shape (S,)."""
        last = chain[:, -1:]
        ends = {}
        for name in ("x", "u"):
            base = self._sums[name][chain[:, -1]]
            early = chain[:, :-1]
            ends[name] = (
                base - self._down[name][last, early].sum(1),
                base + self._up[name][last, early].sum(1),
            )
        # The pairwise sums may undershoot what any choice of heads leaves.
        low = np.maximum(ends["u"][0], self._least)
        return corner_excess(*ends["x"], low, ends["u"][1], self.weight) / self.classes


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
