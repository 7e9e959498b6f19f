"""What others would search the same space with: random, evolutionary, greedy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from search.problem import Problem
from search.solver.enumeration import evaluate_batch

POPULATION = 100
PARENTS = 0.25
MUTATED = 0.5
MUTATION = 0.1
TRIES = 20

Genome = tuple[tuple[int, int], ...]
"""(head, gate) of each early exit in order of depth, and (last head, 0)."""


@dataclass
class Best:
    """The fastest configuration found with the minimum mIoU, and when it was found."""

    latency_ms: float = np.inf
    after_s: float = 0.0
    tried: int = 0


class Rivals:
    """Searches for the lowest mean latency with an mIoU of at least ``min_miou``."""

    def __init__(
        self, problem: Problem, min_miou: float, early: int, seconds: float, seed: int
    ) -> None:
        self.problem = problem
        self.min_miou = min_miou
        self.early = early
        self.seconds = seconds
        self.rng = np.random.default_rng(seed)
        self.exits = [int(e) for e in np.unique(problem.exit_of)]
        self.best = Best()
        self._start = time.monotonic()

    def random(self) -> Best:
        """Independent draws."""
        while not self._late():
            self._fitness(self._draw())
        return self.best

    def evolve(self) -> Best:
        """Mutation and crossover of the fittest quarter, as once-for-all does.

        Where children miss the minimum they are drawn again, a bounded number of times.
        """
        crowd = [self._fit(self._draw) for _ in range(POPULATION) if not self._late()]
        while not self._late():
            crowd.sort(key=lambda pair: pair[0])
            parents = crowd[: int(PARENTS * POPULATION)]
            children: list[tuple[float, Genome]] = []
            while len(children) < POPULATION - len(parents) and not self._late():
                if len(children) < MUTATED * POPULATION:
                    parent = parents[self.rng.integers(len(parents))][1]
                    children.append(self._fit(partial(self._mutate, parent)))
                else:
                    pair = [
                        parents[i][1] for i in self.rng.integers(len(parents), size=2)
                    ]
                    children.append(self._fit(partial(self._cross, *pair)))
            crowd = parents + children
        return self.best

    def greedy(self) -> Best:
        """Adds, one after the other, the early exit that saves most."""
        problem = self.problem
        chain: Genome = ((problem.reference, 0),)
        self._fitness(chain)
        for _ in range(self.early):
            before, found = self.best.latency_ms, None
            taken = {int(problem.exit_of[h]) for h, _ in chain}
            for head in range(len(problem.heads)):
                where = int(problem.exit_of[head])
                if where in taken or not len(problem.gates[head]) or self._late():
                    continue
                if where > problem.exit_of[chain[-1][0]]:
                    continue
                found = self._best_gate(chain, head) or found
            if found is None or self.best.latency_ms >= before:
                break
            chain = found
        return self.best

    def _best_gate(self, chain: Genome, head: int) -> Genome | None:
        """The chain with this head and its best gate, if that is the best so far."""
        problem = self.problem
        where = problem.exit_of[head]
        place = sum(problem.exit_of[h] < where for h, _ in chain)
        heads = [h for h, _ in chain]
        heads.insert(place, head)
        count = len(problem.gates[head])
        rows = np.tile([g for _, g in chain[:-1]], (count, 1)).astype(np.int64)
        rows = np.insert(rows, place, np.arange(count), axis=1)
        batch = evaluate_batch(problem, tuple(heads), rows, np.inf)
        self.best.tried += count
        latency = np.where(batch.miou >= self.min_miou, batch.latency_ms, np.inf)
        gate = int(latency.argmin())
        if latency[gate] >= self.best.latency_ms:
            return None
        self.best.latency_ms = float(latency[gate])
        self.best.after_s = time.monotonic() - self._start
        return (*chain[:place], (head, gate), *chain[place:])

    def _late(self) -> bool:
        return time.monotonic() - self._start >= self.seconds

    def _fit(self, make: Callable[[], Genome]) -> tuple[float, Genome]:
        """The first of a bounded number of tries that keeps the minimum mIoU."""
        for _ in range(TRIES):
            genome = make()
            fitness = self._fitness(genome)
            if fitness < 1e6 or self._late():
                break
        return fitness, genome

    def _fitness(self, genome: Genome) -> float:
        """Mean latency; beyond 1e6 by how much the minimum is missed."""
        heads = tuple(h for h, _ in genome)
        row = np.array([[g for _, g in genome[:-1]]], np.int64).reshape(1, -1)
        batch = evaluate_batch(self.problem, heads, row, np.inf)
        self.best.tried += 1
        latency, miou = float(batch.latency_ms[0]), float(batch.miou[0])
        if miou < self.min_miou:
            return 1e6 * (1 + self.min_miou - miou)
        if latency < self.best.latency_ms:
            self.best.latency_ms = latency
            self.best.after_s = time.monotonic() - self._start
        return latency

    def _draw(self) -> Genome:
        count = int(self.rng.integers(0, self.early + 1))
        chosen = np.sort(self.rng.choice(self.exits, count + 1, replace=False))
        return (*(self._gate(e) for e in chosen[:-1]), (self._head(chosen[-1]), 0))

    def _head(self, exit_index: int) -> int:
        return int(self.rng.choice(np.flatnonzero(self.problem.exit_of == exit_index)))

    def _gate(self, exit_index: int) -> tuple[int, int]:
        head = self._head(exit_index)
        return head, int(self.rng.integers(len(self.problem.gates[head])))

    def _mutate(self, genome: Genome) -> Genome:
        """Every exit is drawn anew with a small probability, or comes or goes."""
        early = {int(self.problem.exit_of[h]): (h, g) for h, g in genome[:-1]}
        last = genome[-1][0]
        for exit_index in self.exits:
            if self.rng.random() >= MUTATION:
                continue
            if exit_index == self.problem.exit_of[last]:
                last = self._head(exit_index)
            elif exit_index < self.problem.exit_of[last]:
                if exit_index in early and self.rng.random() < 0.5:
                    del early[exit_index]
                else:
                    early[exit_index] = self._gate(exit_index)
        return self._genome(early, last)

    def _cross(self, one: Genome, two: Genome) -> Genome:
        """Each exit from either parent, the last one from the first."""
        pairs = [
            {int(self.problem.exit_of[h]): (h, g) for h, g in p[:-1]}
            for p in (one, two)
        ]
        early = {}
        for exit_index in self.exits:
            own = pairs[self.rng.integers(2)].get(exit_index)
            if own is not None and exit_index < self.problem.exit_of[one[-1][0]]:
                early[exit_index] = own
        return self._genome(early, one[-1][0])

    def _genome(self, early: dict[int, tuple[int, int]], last: int) -> Genome:
        exits = sorted(early)
        while len(exits) > self.early:
            exits.remove(int(self.rng.choice(exits)))
        return (*(early[e] for e in exits), (last, 0))
