"""Bounds for a set of configurations: some gates left at each exit of a chain.

An image surely reaches an exit if no gate left at an earlier one lets it leave, and may
reach it if not all gates of an earlier one do. Where it is settled how the images go,
sums are exact for each gate and the best gate is taken *after* summing; only where two
exits are both unsettled for an image does the image choose freely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mess_tf.core.quantiles import quantile_rank
from search.problem import Problem
from search.requirement import LATENCY_TOLERANCE_MS, MIOU_TOLERANCE
from search.solver.miou_tangent import Linear
from search.solver.nodes import Node, Places
from search.solver.target import Target

_MAX_PASSES = 6
_WORTH_ANOTHER = 0.8
# Images times gates times nodes that are bounded at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class _Ends:
    """What images are worth at some last heads, by one stand-in.

    Attributes:
        score: float32 array of shape (L, I).
        cost: of coming there and answering, ms, shape (L,).
        best: float32 array of shape (M + 2, I), the most over the heads: score minus
            latency at each rate, score, minus latency.
        low, high: least and largest parts over the heads, shape (I, 2C).
    """

    score: np.ndarray
    cost: np.ndarray
    best: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Bounder:
    """Narrows nodes of one problem towards one target."""

    def __init__(self, problem: Problem, target: Target, rates: np.ndarray) -> None:
        """``rates``: exchange rates of mIoU against ms, float64 array of shape (M,)."""
        self.problem = problem
        self.target = target
        self.rates = rates
        longest = problem.segments_ms + problem.output_ms
        paths = float(longest.max() + problem.head_ms.sum())
        # Milliseconds summed in float32 are this exact.
        self._fine_ms = paths * (problem.images + 16) * 1.2e-7
        # What a millisecond costs each of the sums, per image.
        factors = np.array([*rates, 0.0, 1.0, 0.0]) / problem.images
        self._factors = factors.astype(np.float32)
        self._ends: dict[tuple[Linear, bytes], _Ends] = {}

    def narrow(
        self, nodes: Sequence[Node], floor: float, ceiling_ms: float
    ) -> list[Node]:
        """Drops gates and last heads that no useful configuration has.

        Args:
            nodes: with as many early heads each.
            floor: a useful configuration has at least this mIoU.
            ceiling_ms: and at most this mean latency.

        Returns:
            the narrowed nodes with their bounds, but those that hold nothing useful.
        """
        done: list[Node] = []
        left = list(nodes)
        if self.target.size_bytes < np.inf:
            most = self.target.size_bytes
            left = [node for node in left if self._least_bytes(node) <= most]
        for _ in range(_MAX_PASSES):
            again: list[Node] = []
            for node, narrowed in self._passed(left, floor, ceiling_ms):
                worth = narrowed.size < _WORTH_ANOTHER * node.size
                (again if worth else done).append(narrowed)
            left = again
        return done + left

    def slack(self, node: Node) -> float:
        """By how much the tangent may lie below the mIoU in this node."""
        places = Places.of(self.problem, [node])
        (slack,) = self._slack([node], places, [self._ends_of(node)])
        return float(slack) + node.linear.rounding

    def _least_bytes(self, node: Node) -> float:
        """No configuration of the node takes fewer bytes."""
        problem = self.problem
        size = problem.head_bytes[list(node.heads)].sum()
        for head, gates in zip(node.heads, node.gates, strict=True):
            size += problem.gates[head].decision_bytes[gates].min()
        ends = problem.segments_bytes[node.lasts] + problem.head_bytes[node.lasts]
        return float(size + ends.min())

    def _passed(
        self, nodes: Sequence[Node], floor: float, ceiling_ms: float
    ) -> Iterator[tuple[Node, Node]]:
        """Nodes in which something is left, each with what is."""
        gates = [max(len(g) for g in node.gates) for node in nodes]
        at_once = max(1, _BLOCK // (self.problem.images * max(gates, default=1)))
        for begin in range(0, len(nodes), at_once):
            some = nodes[begin : begin + at_once]
            for node, narrowed in zip(
                some, self._pass(some, floor, ceiling_ms), strict=True
            ):
                if narrowed is not None:
                    yield node, narrowed

    def _pass(
        self, nodes: Sequence[Node], floor: float, ceiling_ms: float
    ) -> Iterator[Node | None]:
        places = Places.of(self.problem, nodes)
        early = len(nodes[0].heads)
        ends = [self._ends_of(node) for node in nodes]
        total = np.array([n.linear.constant + n.linear.rounding for n in nodes])
        total += self._slack(nodes, places, ends)
        leave, spent = self._leave(nodes, places)
        beyond = self._last(ends, spent)
        terms = [self._last_terms(places, ends, spent)]
        for place in range(early - 1, -1, -1):
            terms.insert(0, self._gate_terms(places, place, leave[place], beyond))
            if place:
                through = np.maximum(leave[place], beyond)
                high, low = (m[place][:, None] for m in (places.high, places.low))
                through = np.where(high, through, beyond)
                paid = places.least_price(place)[:, None] * self._factors
                onward = np.where(low, leave[place], through)
                beyond = onward - paid[:, :, None].astype(np.float32)
        most = [term.max(1) for term in terms]
        whole = sum(most)
        keeps, bounds = [], []
        for term, own in zip(terms, most, strict=True):
            upper = (whole - own)[:, None] + term
            keep = self._useful(upper, total[:, None], floor, ceiling_ms)
            value = self._value(upper, total[:, None])
            keeps.append(keep)
            bounds.append(value.min(1, where=keep, initial=np.inf))
        found = np.max(bounds, axis=0)
        for row, node in enumerate(nodes):
            if not all(keep[row].any() for keep in keeps):
                yield None
                continue
            pairs = zip(node.gates, keeps[:-1], strict=True)
            yield replace(
                node,
                gates=tuple(g[keep[row, : len(g)]] for g, keep in pairs),
                lasts=node.lasts[keeps[-1][row, : len(node.lasts)]],
                bound=max(node.bound, float(found[row])),
            )

    def _ends_of(self, node: Node) -> _Ends:
        key = node.linear, node.lasts.tobytes()
        found = self._ends.get(key)
        if found is None:
            if len(self._ends) > 64:
                self._ends.clear()
            problem, lasts = self.problem, node.lasts
            score = node.linear.score[lasts]
            cost = (problem.segments_ms + problem.output_ms + problem.head_ms)[lasts]
            best = np.empty((len(self.rates) + 2, problem.images), np.float32)
            for row, factor in enumerate(self._factors[:-2]):
                best[row] = (score - (factor * cost)[:, None].astype(np.float32)).max(0)
            best[-1] = -cost.min() / problem.images
            parts = node.linear.parts[lasts]
            found = _Ends(score, cost, best, parts.min(0), parts.max(0))
            self._ends[key] = found
        return found

    def _leave(
        self, nodes: Sequence[Node], places: Places
    ) -> tuple[np.ndarray, np.ndarray]:
        """What leaving at an early head is worth: all sums to be bounded from above.

        Returns:
            float32 array of shape (n_early, B, M + 3, I): score minus latency at each
            rate, score, minus latency, in time for the p90 limit; what passing the
            places costs is not in it. And what passing them all costs at least, ms,
            shape (B,).
        """
        problem, count = self.problem, len(self.rates)
        early = len(nodes[0].heads)
        shape = early, len(nodes), count + 3, problem.images
        leave = np.empty(shape, np.float32)
        spent = np.zeros(len(nodes))
        for place in range(early):
            heads = np.array([node.heads[place] for node in nodes])
            score = np.array(
                [n.linear.score[h] for n, h in zip(nodes, heads, strict=True)]
            )
            cost = (problem.segments_ms + problem.output_ms)[heads]
            spent = spent + places.least_price(place)
            leave[place, :, : count + 1] = score[:, None]
            leave[place, :, count + 1] = 0
            paid = cost[:, None] * self._factors[:-1]
            leave[place, :, :-1] -= paid.astype(np.float32)[:, :, None]
            leave[place, :, count + 2] = self._in_time(cost + spent)[:, None]
        return leave, spent

    def _in_time(self, latency_ms: np.ndarray) -> np.ndarray:
        return latency_ms <= self.target.p90_ms + LATENCY_TOLERANCE_MS

    def _last(self, ends: Sequence[_Ends], spent: np.ndarray) -> np.ndarray:
        """The most that images are worth at the end, as ``_leave``, (B, M + 3, I)."""
        best = np.empty(
            (len(ends), len(self._factors), self.problem.images), np.float32
        )
        for row, end in enumerate(ends):
            best[row, :-1] = end.best
            best[row, -1] = self._in_time(end.cost.min() + spent[row])
        return best

    def _last_terms(
        self, places: Places, ends: Sequence[_Ends], spent: np.ndarray
    ) -> np.ndarray:
        """Sums over the images that surely come to the end, shape (B, L, M + 3).

        Nodes with fewer last heads have minus infinity.
        """
        sure = places.sure[-1].astype(np.float32)
        count = len(self.rates)
        longest = max(len(end.cost) for end in ends)
        terms = np.full((len(ends), longest, count + 3), -np.inf)
        for row, end in enumerate(ends):
            reach = float(sure[row].sum())
            own = terms[row, : len(end.cost)]
            own[:, : count + 1] = (end.score @ sure[row])[:, None]
            own[:, count + 1] = 0
            own -= reach * np.outer(end.cost, self._factors)
            own[:, count + 2] = reach * self._in_time(end.cost + spent[row])
        return terms

    def _gate_terms(
        self, places: Places, place: int, leave: np.ndarray, beyond: np.ndarray
    ) -> np.ndarray:
        """Per gate, sums over the images that surely get here and may leave here.

        An image that not all gates agree on takes the best there is beyond if its gate
        keeps it; images that no gate lets leave are counted further on.

        Args:
            leave, beyond: float32 arrays of shape (B, F, I).

        Returns:
            float64 array of shape (B, G, F), minus infinity where there is no gate.
        """
        sure = places.sure[place]
        open_ = (sure & places.high[place] & ~places.low[place])[:, None]
        kept = np.where(open_, beyond, 0)
        gain = np.where(sure[:, None], leave - kept, 0)
        masks = places.masks[place].astype(np.float32)
        terms = (masks @ gain.transpose(0, 2, 1)).astype(np.float64)
        terms += kept.sum(-1, dtype=np.float64)[:, None]
        reach = sure.sum(1)[:, None] * places.prices[place]
        terms -= reach[:, :, None] * self._factors
        terms[~places.there[place]] = -np.inf
        return terms

    def _useful(
        self, upper: np.ndarray, total: np.ndarray, floor: float, ceiling_ms: float
    ) -> np.ndarray:
        """Which upper bounds, (..., M + 3), still allow a useful configuration."""
        count = len(self.rates)
        keep = upper[..., count] + total >= floor - MIOU_TOLERANCE
        limit_ms = ceiling_ms + LATENCY_TOLERANCE_MS + self._fine_ms
        keep &= -upper[..., count + 1] <= limit_ms
        keep &= upper[..., count + 2] >= quantile_rank(0.9, self.problem.images) - 0.5
        if ceiling_ms < np.inf:
            limits = floor - MIOU_TOLERANCE - self.rates * limit_ms
            keep &= (upper[..., :count] + total[..., None] >= limits).all(-1)
        return np.asarray(keep)

    def _value(self, upper: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Lowest value a configuration can have, shape (...)."""
        target, count = self.target, len(self.rates)
        traded = upper[..., :count] + total[..., None]
        if target.minimise_latency:
            dual = target.floor - MIOU_TOLERANCE - traded
            value = np.maximum(-upper[..., count + 1], (dual / self.rates).max(-1))
            return np.asarray(value - self._fine_ms)
        best = upper[..., count] + total
        if target.ceiling_ms < np.inf:
            limit_ms = target.ceiling_ms + LATENCY_TOLERANCE_MS + self._fine_ms
            best = np.minimum(best, (traded + self.rates * limit_ms).min(-1))
        return np.asarray(-best)

    def _slack(
        self, nodes: Sequence[Node], places: Places, ends: Sequence[_Ends]
    ) -> np.ndarray:
        """Excess from the ranges of the class sums, shape (B,).

        Each image takes the least and the largest of the answers it may get; most may
        get one only.
        """
        parts = nodes[0].linear.parts
        here = np.concatenate([places.may[:-1] & places.high, places.may[-1:]])
        single = here.sum(0) == 1
        settled = (here & single).astype(np.float32)
        low, high = (np.empty((len(nodes), parts.shape[2])) for _ in range(2))
        for row, (node, end) in enumerate(zip(nodes, ends, strict=True)):
            pairs = zip(settled[:, row], node.heads, strict=False)
            exact = sum(images @ parts[head] for images, head in pairs)
            low[row] = exact + settled[-1, row] @ end.low
            high[row] = exact + settled[-1, row] @ end.high
        at, image = np.nonzero(~single)
        if len(at):
            least, most = _ranges(parts, nodes, ends, here[:, at, image], at, image)
            own, start = np.unique(at, return_index=True)
            low[own] += np.add.reduceat(least, start, axis=0, dtype=np.float64)
            high[own] += np.add.reduceat(most, start, axis=0, dtype=np.float64)
        excess = np.empty(len(nodes))
        for linear in {node.linear for node in nodes}:
            rows = [node.linear is linear for node in nodes]
            excess[rows] = linear.excess(low[rows], high[rows])
        return excess


def _ranges(
    parts: np.ndarray,
    nodes: Sequence[Node],
    ends: Sequence[_Ends],
    here: np.ndarray,
    at: np.ndarray,
    image: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest parts of images that may get several answers.

    Args:
        here: bool array of shape (n_early + 1, n), where each may leave.
        at, image: int64 arrays of shape (n,), the node and the image.

    Returns:
        float32 arrays of shape (n, 2C).
    """
    least = np.full((len(at), parts.shape[2]), np.inf, np.float32)
    most = -least
    heads = np.array([node.heads for node in nodes])
    for place in range(len(here) - 1):
        rows = np.flatnonzero(here[place])
        own = parts[heads[at[rows], place], image[rows]]
        least[rows] = np.minimum(least[rows], own)
        most[rows] = np.maximum(most[rows], own)
    different = list(dict.fromkeys(ends))
    which = np.array([different.index(end) for end in ends])
    for number, end in enumerate(different):
        rows = np.flatnonzero(here[-1] & (which[at] == number))
        least[rows] = np.minimum(least[rows], end.low[image[rows]])
        most[rows] = np.maximum(most[rows], end.high[image[rows]])
    return least, most
