"""How many configurations there are."""

from __future__ import annotations

from search.problem import Problem


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
