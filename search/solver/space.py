"""Number of configurations in the search space."""

from __future__ import annotations

from search.problem import Problem


def space_size(problem: Problem, max_early_exits: int) -> int:
    """Number of configurations: chains times policies and thresholds of each gate.

    Gates are counted before those that let the same images leave were merged.
    """
    grid_sizes = [gates.grid_size for gates in problem.gates]
    exits = sorted({exit_index for exit_index, _ in problem.heads})
    # prefixes[k]: choices of k early exits with gates among the exits so far.
    prefixes = [1] + [0] * max_early_exits
    total = 0
    for exit_index in exits:
        heads = [h for h, (e, _) in enumerate(problem.heads) if e == exit_index]
        total += len(heads) * sum(prefixes)
        grid_size = sum(grid_sizes[h] for h in heads)
        for k in range(max_early_exits, 0, -1):
            prefixes[k] += prefixes[k - 1] * grid_size
    return total
