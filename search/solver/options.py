"""Tunables of the branch and bound, in one record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SolverOptions:
    """Tunables of the solver.

    All but ``runner_up_tolerance`` decide how soon the optimum is found and proven,
    not which value it has. The defaults were chosen on drawn statistics of the sizes
    in ``docs/search.md``.

    Attributes:
        runner_up_tolerance: share of the incumbent's value; solutions that are worse
            by no more are kept as runner-ups, and nodes that may hold such solutions
            are not pruned. 0 keeps none.
        leaf_size: configurations; a node of no more is enumerated, not branched on.
        clusters_per_head: gate clusters of a head, at most: gates by the share of the
            images that leave, in so many equal intervals.
        multiplier_factors: Lagrange multipliers that bound a node, as multiples of the
            one that ``coordinate_ascent`` settles on.
        min_tangent_weight: least weight of a reweighted tangent; any is valid, smaller
            ones no longer prune more.
        suffix_subsets: subsets that the longest list of suffix heads is split into.
            Fewer need more levels, of which the first prune nothing.
        first_clusters_per_expansion: clusters of a first exit that one deferred
            expansion of a longer chain looks at.
        sampled_first_clusters: clusters of a first exit whose intervals determine the
            weights of the tangent for triples.
        threads: that bound triples and narrow nodes; numpy releases the lock in
            matrix products.
        expansions_per_batch: deferred expansions given to the threads at once: some
            take ten times as long as others.
        nodes_per_batch: nodes that are narrowed at once.
        min_threaded_node_images: nodes times images from which threads gain more than
            they cost.
        max_narrowing_passes: bound passes over one node before it is branched on.
        narrowing_ratio: another pass follows when the last one left less than this
            share of the node's configurations.
        narrowing_block: images times gates times nodes bounded at once; some 10 MB of
            float32 per multiplier.
        triple_block: triples of clusters whose class sums are computed at once.
        cached_pair_tables: tables of class sums for pairs of exits that are cached,
            some 50 MB each at 1,449 images and 56 heads.
        enumeration_block: images times rows of an enumeration's level held at once.
        exact_block: configurations whose exact figures are computed at once, so that
            their masks fit the processor's caches.
        bisection_steps: halvings of the interval of the Lagrange multiplier.
        max_sweeps: rounds over all exits of one coordinate ascent, and rounds of the
            neighbourhood search.
        neighbours_per_exit: replacements of one exit that the neighbourhood search
            evaluates exactly.
        tangent_error: mIoU, 0..1, by which the tangent at a solution misjudges its
            neighbours at most (an estimate: it decides what is tried, not the bound).
        progress_interval_s: seconds between two calls of the progress function.
        clock: monotonic seconds, to which the deadline refers; replaced to interrupt a
            run at the same point every time.
    """

    runner_up_tolerance: float = 0.0
    leaf_size: int = 4096
    clusters_per_head: int = 5
    multiplier_factors: tuple[float, ...] = (0.5, 0.75, 1.0, 1.4, 2.0)
    min_tangent_weight: float = 0.2
    suffix_subsets: int = 8
    first_clusters_per_expansion: int = 16
    sampled_first_clusters: int = 8
    threads: int = 2
    expansions_per_batch: int = 16
    nodes_per_batch: int = 64
    min_threaded_node_images: int = 1 << 14
    max_narrowing_passes: int = 6
    narrowing_ratio: float = 0.8
    narrowing_block: int = 1 << 20
    triple_block: int = 1 << 12
    cached_pair_tables: int = 24
    enumeration_block: int = 1 << 21
    exact_block: int = 512
    bisection_steps: int = 9
    max_sweeps: int = 6
    neighbours_per_exit: int = 24
    tangent_error: float = 5e-4
    progress_interval_s: float = 0.2
    clock: Callable[[], float] = time.monotonic


DEFAULT_OPTIONS = SolverOptions()
