"""Validity of the solver's bounds, and the optimum where clusters hold many gates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.problem import Problem
from search.solver.branch_and_bound import BranchAndBound
from search.solver.cutoff import Cutoff
from search.solver.frontier import DeferredExpansion
from search.solver.lagrangian import LagrangianTerms
from search.solver.miou_tangent import MiouTangent
from search.solver.node_bounds import NodeBounder
from search.solver.nodes import Node
from search.solver.options import SolverOptions
from search.solver.pairwise_bounds import PrefixRelaxation, TripleCandidates
from search.solver.prefix_bounds import PrefixState
from search.solver.suffix import SuffixHeads
from search.solver.target import Target
from tests.support.search_problems import draw_problem
from tests.support.tiers import sampled

OPTIONS = SolverOptions()


def all_figures(problem: Problem, heads: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Latency and mIoU of every combination of gates of a chain, by broadcasting.

    Returns:
        two arrays of shape (n_gates of each early head, ...).
    """
    early = heads[:-1]
    shape = tuple(len(problem.gates[h]) for h in early)
    continuing = np.ones((*(1 for _ in early), problem.images), bool)
    latency: Any = 0.0
    intersection: Any = 0.0
    union: Any = 0.0
    passed_ms: Any = 0.0
    for position, head in enumerate(heads):
        axes = [1] * len(early)
        masks = np.array(True)
        passed_ms = passed_ms + problem.head_ms[head]
        if position < len(early):
            axes[position] = shape[position]
            gates = problem.gates[head]
            masks = gates.masks.reshape(*axes, problem.images)
            passed_ms = passed_ms + gates.decision_ms.reshape(axes)
        leaving = continuing & masks
        continuing = continuing & ~masks
        leave_ms = problem.segments_ms[head] + problem.output_ms[head]
        latency = latency + leaving.sum(-1) * (leave_ms + passed_ms)
        weights = leaving.astype(float)
        intersection = intersection + weights @ problem.intersection[head].astype(float)
        union = union + weights @ problem.union[head].astype(float)
    intersection, union, latency = (
        np.broadcast_to(a, (*shape, *np.shape(a)[len(shape) :]))
        for a in (intersection, union, latency)
    )
    iou = np.divide(
        intersection, union, out=np.zeros(intersection.shape), where=union > 0
    )
    return latency / problem.images, iou.sum(-1) / (union > 0).sum(-1)


def brute_force(problem: Problem, target: Target, max_early_exits: int) -> float:
    """Best objective over all chains; infinite when nothing is feasible."""
    best = math.inf
    for count in range(max_early_exits + 1):
        for heads in itertools.combinations(range(len(problem.heads)), count + 1):
            exits = [problem.exit_of[h] for h in heads]
            if len(set(exits)) <= count:
                continue
            latency, miou = all_figures(problem, heads)
            feasible = (miou >= target.min_miou - 1e-11) & (
                latency <= target.max_latency_ms + 1e-9
            )
            objective = latency if target.minimise_latency else -miou
            if feasible.any():
                best = min(best, float(objective[feasible].min()))
    return best


def check_optimum(
    problem: Problem,
    max_early_exits: int,
    rng: np.random.Generator,
    options: SolverOptions = OPTIONS,
) -> None:
    """Branch and bound against ``brute_force``, towards a target that is drawn."""
    target = Target(True, problem.reference_miou - rng.uniform(-0.02, 0.06))
    if rng.random() < 0.4:
        costs = problem.segments_ms + problem.head_ms + problem.output_ms
        target = Target(False, 0.0, float(rng.uniform(costs.min(), costs.max())))
    optimum = BranchAndBound(
        problem, target, max_early_exits, math.inf, options=options
    ).run()
    expected = brute_force(problem, target, max_early_exits)
    assert optimum.proven
    if optimum.incumbent is None:
        assert expected == math.inf
    else:
        objective = (
            optimum.incumbent.latency_ms
            if target.minimise_latency
            else -optimum.incumbent.miou
        )
        assert objective == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", sampled(range(60), 4))
@pytest.mark.parametrize("early", [2, 3])
def test_optimum_equals_brute_force_with_many_gates(seed: int, early: int) -> None:
    rng = np.random.default_rng(seed)
    options = SolverOptions(
        clusters_per_head=int(rng.integers(1, 6)),
        leaf_size=int(rng.choice([1, 40, 4096])),
        nodes_per_batch=int(rng.choice([1, 3, 64])),
        min_threaded_node_images=int(rng.choice([0, 1 << 14])),
    )
    problem = draw_problem(seed, (2, 2, 1) if early == 2 else (1, 1, 1, 1))
    check_optimum(problem, early, rng, options)


@pytest.mark.parametrize("seed", sampled(range(24), 2))
@pytest.mark.parametrize(
    "heads", [(2, 1, 1, 2, 1), (1, 1, 2, 1, 2), (1, 1, 1, 1, 2, 1), (1, 2, 1, 1, 1, 1)]
)
def test_optimum_equals_brute_force_with_four_and_five_early_exits(
    seed: int, heads: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    options = SolverOptions(
        clusters_per_head=int(rng.integers(1, 4)),
        leaf_size=int(rng.choice([40, 4096])),
        first_clusters_per_expansion=int(rng.choice([1, 2, 16])),
        suffix_subsets=int(rng.choice([2, 8])),
    )
    early = len(heads) - 1
    problem = draw_problem(400 + seed, heads, 20, 4 if early == 4 else 3)
    check_optimum(problem, early, rng, options)


def test_heads_without_gates_are_never_early_heads() -> None:
    rng = np.random.default_rng(6)
    problem = draw_problem(406, (1, 1, 1, 2, 1), 20, 4)
    no_gates = replace(
        problem.gates[3],
        masks=problem.gates[3].masks[:0],
        policies=(),
        thresholds=np.zeros(0),
        decision_ms=np.zeros(0),
        decision_bytes=np.zeros(0),
    )
    gates = (*problem.gates[:3], no_gates, *problem.gates[4:])
    check_optimum(replace(problem, gates=gates), 4, rng)


Relaxed = tuple[Problem, PrefixRelaxation]


def drawn_tangent(problem: Problem, rng: np.random.Generator) -> MiouTangent:
    """Tangent at a routing that is drawn."""
    return MiouTangent.tangent_at(
        problem, rng.integers(0, len(problem.heads), problem.images)
    )


@pytest.fixture(params=sampled(range(12), 3))
def relaxed(request: pytest.FixtureRequest) -> Relaxed:
    rng = np.random.default_rng(request.param)
    problem = draw_problem(100 + request.param, (2, 2, 2, 1), 24)
    tangent = drawn_tangent(problem, rng)
    multiplier = float(rng.choice([0.0, 0.02, 0.2]))
    options = SolverOptions(clusters_per_head=int(rng.integers(1, 5)))
    return problem, PrefixRelaxation(problem, tangent, multiplier, options)


def lagrangian(problem: Problem, multiplier: float, heads: Sequence[Any]) -> np.ndarray:
    """mIoU - multiplier * latency of every combination of gates of a chain."""
    latency, miou = all_figures(problem, heads)
    return np.asarray(miou - multiplier * latency)


@pytest.mark.parametrize("last_exit", [3, 4])
def test_no_pair_of_gates_exceeds_the_bound_of_its_clusters(
    relaxed: Relaxed, last_exit: int
) -> None:
    problem, relaxation = relaxed
    last_heads = np.flatnonzero(problem.exit_of == last_exit)
    bound = relaxation.pair_bounds((1, 2), last_heads)
    one, two = relaxation.clusters(1), relaxation.clusters(2)
    for (a, b), last in itertools.product(np.ndindex(bound.shape), last_heads):
        value = lagrangian(
            problem, relaxation.multiplier, (one.head[a], two.head[b], last)
        )
        assert value[np.ix_(one.gates[a], two.gates[b])].max() <= bound[a, b]


def best_of_clusters(
    problem: Problem,
    relaxation: PrefixRelaxation,
    rows: Sequence[Any],
    heads: Sequence[Any],
) -> float:
    """Largest Lagrangian with gates of some clusters.

    Args:
        rows: clusters of exits 1, 2, ...; ``heads`` are those behind them.
    """
    clusters = [relaxation.clusters(e + 1) for e in range(len(rows))]
    prefix = [
        (c.head[row], c.gates[row]) for c, row in zip(clusters, rows, strict=True)
    ]
    value = lagrangian(
        problem, relaxation.multiplier, (*(head for head, _ in prefix), *heads)
    )
    for axis, (_, gates) in enumerate(prefix):
        value = value.take(gates, axis)
    return float(value.max())


def test_no_longer_chain_exceeds_the_bounds_of_its_prefix(relaxed: Relaxed) -> None:
    problem, relaxation = relaxed
    chain = 1, 2, 3, 4
    suffix = relaxation.suffix_heads(chain)
    for clusters in relaxation.clusters_by_share(1):
        pairs = relaxation.free_suffix_pair_bounds(chain, suffix, clusters)
        rows, columns = (a.ravel() for a in np.indices(pairs.shape))
        triples = relaxation.image_wise_triple_bounds(
            chain, suffix, clusters[rows], columns, -math.inf
        )
        assert triples is not None
        assert triples.rows.tolist() == clusters[rows].tolist()
        assert triples.columns.tolist() == columns.tolist()
        for at, (row, column) in enumerate(zip(clusters[rows], columns, strict=True)):
            for third, bound in enumerate(triples.bound[at]):
                value = best_of_clusters(
                    problem,
                    relaxation,
                    (row, column, third),
                    suffix.last_heads.tolist(),
                )
                assert value <= bound
                assert value <= pairs[rows[at], column]


@pytest.mark.parametrize("seed", range(6))
def test_subsets_of_the_suffix_bound_their_heads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = draw_problem(500 + seed, (1, 1, 1, 3, 1), 20, 4)
    relaxation = PrefixRelaxation(
        problem, drawn_tangent(problem, rng), 0.05, SolverOptions(clusters_per_head=2)
    )
    chain = 1, 2, 3, 4, 5
    whole = relaxation.suffix_heads(chain)
    subsets = whole.subsets(8)
    assert not whole.early_fixed and all(s.early_fixed for s in subsets)
    assert sorted(int(s.early[0][0]) for s in subsets) == [3, 4, 5]
    assert sorted(whole.all_heads) == [3, 4, 5, 6]
    first = relaxation.clusters_by_share(1)[0][0]
    columns = np.arange(len(relaxation.clusters(2)))
    rows = np.full(len(columns), first)
    loose = relaxation.image_wise_triple_bounds(chain, whole, rows, columns, -math.inf)
    assert loose is not None
    for subset in subsets:
        tight = relaxation.image_wise_triple_bounds(
            chain, subset, rows, columns, -math.inf
        )
        assert tight is not None
        assert (tight.bound <= loose.bound + 1e-5).all()
        for column, third in np.ndindex(tight.bound.shape):
            for last in subset.last_heads:
                value = best_of_clusters(
                    problem,
                    relaxation,
                    (rows[0], column, third),
                    (int(subset.early[0][0]), last),
                )
                assert value <= tight.bound[column, third]


def test_no_expansion_is_computed_after_the_deadline() -> None:
    problem = draw_problem(1, (1, 1), 8)
    target = Target(True, 0.0)
    expansion = DeferredExpansion(1.0, 0, lambda: pytest.fail("it was expanded"))
    late = BranchAndBound(problem, target, 1, 0.0)
    assert late._expand(expansion) == [expansion]
    in_time = BranchAndBound(problem, target, 1, math.inf)
    assert in_time._expand(DeferredExpansion(1.0, 0, lambda: [expansion])) == [
        expansion
    ]


def test_subsets_partition_the_exit_with_the_most_heads() -> None:
    suffix = SuffixHeads((np.arange(3), np.arange(10, 30)), np.array([99]))
    subsets = suffix.subsets(8)
    assert len(subsets) == 8
    assert all(s.early[0].tolist() == [0, 1, 2] for s in subsets)
    joined = np.concatenate([s.early[1] for s in subsets])
    assert joined.tolist() == list(range(10, 30))


def triple_bounds(
    relaxation: PrefixRelaxation, first: int, seconds: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gate-wise bounds of all triples with these clusters of the first two exits."""
    chain = 1, 2, 3, 4
    unpruned = np.ones((len(seconds), len(relaxation.clusters(3))), bool)
    return relaxation.gate_wise_triple_bounds(
        chain,
        relaxation.suffix_heads(chain),
        TripleCandidates(first, seconds, unpruned),
        cutoff,
    )


def test_no_three_gates_exceed_the_bound_of_their_clusters(relaxed: Relaxed) -> None:
    problem, relaxation = relaxed
    (last,) = np.flatnonzero(problem.exit_of == 4)
    two, three = (relaxation.clusters(e) for e in (2, 3))
    for row in range(len(relaxation.clusters(1))):
        rows, columns, bounds = triple_bounds(
            relaxation, row, np.arange(len(two)), -math.inf
        )
        assert len(rows) == len(two) * len(three)
        for b, c, bound in zip(rows, columns, bounds, strict=True):
            assert best_of_clusters(problem, relaxation, (row, b, c), (last,)) <= bound


def test_pruned_triples_are_those_below_the_cutoff(relaxed: Relaxed) -> None:
    _, relaxation = relaxed
    seconds = np.arange(len(relaxation.clusters(2)))
    for row in range(len(relaxation.clusters(1))):
        every = triple_bounds(relaxation, row, seconds, -math.inf)
        cutoff = float(np.median(every[2]))
        left = triple_bounds(relaxation, row, seconds, cutoff)
        above = every[2] >= cutoff
        assert left[0].tolist() == every[0][above].tolist()
        assert left[1].tolist() == every[1][above].tolist()
        assert left[2] == pytest.approx(every[2][above], abs=1e-5)
        # A subset of the second exit's clusters has the same bounds as in the whole.
        some = triple_bounds(relaxation, row, seconds[1::2], cutoff)
        odd = left[0] % 2 == 1
        assert some[0].tolist() == left[0][odd].tolist()
        assert some[1].tolist() == left[1][odd].tolist()
        assert some[2] == pytest.approx(left[2][odd], abs=1e-5)


def test_only_unpruned_triples_are_bounded(relaxed: Relaxed) -> None:
    _, relaxation = relaxed
    chain, seconds = (1, 2, 3, 4), np.arange(len(relaxation.clusters(2)))
    shape = len(seconds), len(relaxation.clusters(3))
    unpruned = np.random.default_rng(2).random(shape) < 0.5
    rows, columns, _ = relaxation.gate_wise_triple_bounds(
        chain,
        relaxation.suffix_heads(chain),
        TripleCandidates(0, seconds, unpruned),
        -99.0,
    )
    assert np.array_equal(np.column_stack([rows, columns]), np.argwhere(unpruned))


def lagrangian_terms(problem: Problem, relaxation: PrefixRelaxation) -> LagrangianTerms:
    """Terms of pairs of exits 1 and 2 before exit 4."""
    last_heads = np.flatnonzero(problem.exit_of == 4)
    tangent = relaxation.tangent((1, 2), 0, last_heads)
    return LagrangianTerms(problem, tangent, relaxation.multiplier)


def test_prefix_bound_is_the_sum_over_a_walk_of_each_image(relaxed: Relaxed) -> None:
    """``PrefixState.bound_with_next_exit``, image by image and exit by exit."""
    problem, relaxation = relaxed
    rng = np.random.default_rng(3)
    terms = lagrangian_terms(problem, relaxation)
    per_image = terms.multiplier_per_image
    one, two, three = (relaxation.clusters(e) for e in (1, 2, 3))
    terminal = terms.terminal_values(np.flatnonzero(problem.exit_of == 4))
    continuations = terms.after_exit(three, terminal.max(0), np.arange(problem.images))
    state = PrefixState.after_first_exit(terms, one, np.arange(len(one)))
    rows = rng.integers(0, len(one), 9)
    columns = rng.integers(0, len(two), 9)
    bounds = state.bound_with_next_exit(terms, two, continuations, rows, columns)
    for at, (a, b) in enumerate(zip(rows, columns, strict=True)):
        penalties = [per_image * c.min_pass_ms[r] for c, r in ((one, a), (two, b))]
        same_prefix = np.isin(np.arange(len(two)), columns[rows == a])
        same_head = two.head == two.head[b]
        cheapest = per_image * two.min_pass_ms[same_head & same_prefix].min()
        for continuation in range(len(continuations)):
            total = 0.0
            for image in range(problem.images):
                # An undecided image is charged the cost of the head's cheapest cluster.
                undecided = one.any_leaves[a, image] and not one.all_leave[a, image]
                leave = terms.leave_values[two.head[b], image]
                value = continuations[continuation, image]
                if two.all_leave[b, image]:
                    value = leave
                elif two.any_leaves[b, image]:
                    value = max(value, leave)
                value -= cheapest if undecided else penalties[1]
                leave = terms.leave_values[one.head[a], image]
                if one.all_leave[a, image]:
                    value = leave
                elif one.any_leaves[a, image]:
                    value = max(value, leave)
                total += value - penalties[0]
            assert bounds[at, continuation] == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_narrowing_removes_no_improving_configuration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = draw_problem(200 + seed, (1, 1, 1, 2), 24)
    unweighted = drawn_tangent(problem, rng)
    tangent = unweighted.reweighted(rng.uniform(0.5, 3, (1, unweighted.classes)), 0.2)
    bounder = NodeBounder(
        problem, Target(True, 0.0), np.array([0.02, 0.1, 0.5]), OPTIONS
    )
    heads, last_heads = (0, 1, 2), np.array([3, 4])
    gates = tuple(
        rng.permutation(len(problem.gates[h]))[: rng.integers(1, 9)] for h in heads
    )
    figures = [
        [f[np.ix_(*gates)] for f in all_figures(problem, (*heads, last))]
        for last in last_heads
    ]
    cutoff = Cutoff(
        float(np.quantile([miou for _, miou in figures], 0.9)),
        float(np.quantile([latency for latency, _ in figures], 0.5)),
    )
    whole = Node(heads, gates, last_heads, -math.inf, tangent)
    node = next(iter(bounder.narrow([whole], cutoff)), None)
    for last, (latency, miou) in zip(last_heads, figures, strict=True):
        improving = (latency <= cutoff.max_latency_ms) & (miou >= cutoff.min_miou)
        for index in np.argwhere(improving):
            assert node is not None and last in node.last_heads
            for position, gate in enumerate(index):
                assert gates[position][gate] in node.gates[position]


def test_nodes_of_a_batch_are_narrowed_as_alone() -> None:
    rng = np.random.default_rng(5)
    problem = draw_problem(300, (2, 2, 2, 2), 24)
    unweighted = drawn_tangent(problem, rng)
    weighted = unweighted.reweighted(rng.uniform(0.5, 3, (1, unweighted.classes)), 0.2)
    bounder = NodeBounder(
        problem, Target(True, 0.0), np.array([0.02, 0.1, 0.5]), OPTIONS
    )
    nodes = []
    for _ in range(30):
        heads = tuple(int(h) for h in rng.integers(0, 2, 3) + [0, 2, 4])
        gates = tuple(
            np.sort(rng.permutation(len(problem.gates[h]))[: rng.integers(1, 9)])
            for h in heads
        )
        last_heads = np.array([6, 7])[: rng.integers(1, 3)]
        tangent = unweighted if rng.random() < 0.5 else weighted
        nodes.append(Node(heads, gates, last_heads, -math.inf, tangent))
    figures = [all_figures(problem, (*n.heads, n.last_heads[0])) for n in nodes]
    cutoff = Cutoff(
        float(np.median([miou.max() for _, miou in figures])),
        float(np.median([latency.min() for latency, _ in figures])) * 1.2,
    )
    alone = [narrowed for n in nodes for narrowed in bounder.narrow([n], cutoff)]
    together = bounder.narrow(nodes, cutoff)
    assert 0 < len(alone) < len(nodes)

    def content(node: Node) -> tuple[Any, ...]:
        return node.heads, [g.tolist() for g in node.gates], node.last_heads.tolist()

    def bounds(narrowed: list[Node]) -> list[float]:
        return [n.bound for n in sorted(narrowed, key=lambda n: str(content(n)))]

    assert sorted(map(content, together)) == sorted(map(content, alone))
    assert bounds(together) == pytest.approx(bounds(alone), rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_nodes_and_pairs_of_clusters_evaluate_the_same_bound(seed: int) -> None:
    """The formula of ``search.solver.lagrangian``, by both of its evaluations."""
    rng = np.random.default_rng(seed)
    problem = draw_problem(600 + seed, (2, 2, 2), 24)
    multiplier = 0.1
    relaxation = PrefixRelaxation(
        problem,
        drawn_tangent(problem, rng),
        multiplier,
        SolverOptions(clusters_per_head=3),
    )
    last_heads = np.flatnonzero(problem.exit_of == 3)
    one, two = relaxation.clusters(1), relaxation.clusters(2)
    pairs = np.array(list(np.ndindex(len(one), len(two))))
    bound = relaxation.pair_bounds((1, 2), last_heads)[pairs[:, 0], pairs[:, 1]]
    refined = relaxation.refined_pair_bounds((1, 2), last_heads, pairs, bound)
    # A latency that the dual bound alone decides: the mIoU asked cannot be reached.
    target = Target(True, 9.0)
    bounder = NodeBounder(problem, target, np.array([multiplier]), OPTIONS)
    for (a, b), upper in zip(pairs, refined, strict=True):
        node = Node(
            (int(one.head[a]), int(two.head[b])),
            (one.gates[a], two.gates[b]),
            last_heads,
            -math.inf,
            relaxation.tangent((1, 2), int(a), last_heads),
        )
        (narrowed,) = bounder.narrow([node], Cutoff(-math.inf, math.inf))
        expected = (target.min_miou - upper) / multiplier
        # Of the remainder, pairs take the smaller of two intervals' bounds.
        assert narrowed.bound <= expected + 1e-3
        assert narrowed.bound == pytest.approx(expected, abs=2e-2)


def test_bounds_are_computed_where_they_are_needed(relaxed: Relaxed) -> None:
    problem, relaxation = relaxed
    one, two = relaxation.clusters(1), relaxation.clusters(2)
    rng = np.random.default_rng(1)
    terms = lagrangian_terms(problem, relaxation)
    reaching = rng.random(problem.images) < 0.4
    every = np.arange(len(two))
    best = terms.terminal_values(np.flatnonzero(problem.exit_of == 4)).max(0)
    values = terms.after_exit(one, best, np.arange(problem.images))
    stays = (rng.random((4, problem.images)) < 0.5).astype(np.float32)

    def first_sums(needed: np.ndarray | None) -> np.ndarray:
        return terms.best_gate_sums(two, values, every, reaching, needed)

    def second_sums(needed: np.ndarray | None) -> np.ndarray:
        return terms.best_second_gate_sums(two, stays, best, every, needed)

    sums: tuple[Callable[[np.ndarray | None], np.ndarray], ...]
    sums = first_sums, second_sums
    for compute in sums:
        whole = compute(None)
        needed = rng.random(whole.shape) < 0.4
        some = compute(needed)
        assert some[needed] == pytest.approx(whole[needed], abs=1e-5)
        assert (some[~needed] == -np.inf).all()


def test_gate_sums_are_maxima_over_the_gates(relaxed: Relaxed) -> None:
    problem, relaxation = relaxed
    rng = np.random.default_rng(4)
    two = relaxation.clusters(2)
    terms = lagrangian_terms(problem, relaxation)
    reaching = rng.random(problem.images) < 0.6
    terminal = terms.terminal_values(np.flatnonzero(problem.exit_of == 4))
    values = (terminal + rng.normal(0, 0.01, (3, problem.images))).astype(np.float32)
    stays = (rng.random((3, problem.images)) < 0.5).astype(np.float32)
    every = np.arange(len(two))
    first = terms.best_gate_sums(two, values, every, reaching)
    second = terms.best_second_gate_sums(two, stays, values[0], every)
    for cluster in every:
        masks = problem.gates[two.head[cluster]].masks[two.gates[cluster]]
        leave = terms.leave_values[two.head[cluster]]
        pass_ms = two.pass_ms[two.gate_slice(int(cluster))]
        penalty = terms.multiplier_per_image * pass_ms
        may_leave = masks.any(0) & reaching
        for n in range(3):
            sums = np.where(masks, leave, values[n])[:, may_leave].sum(1)
            sums -= reaching.sum() * penalty
            assert first[cluster, n] == pytest.approx(sums.max(), abs=1e-5)
            on = stays[n] > 0
            sums = np.where(masks, leave, values[0])[:, on].sum(1) - on.sum() * penalty
            assert second[n, cluster] == pytest.approx(sums.max(), abs=1e-5)
