"""Bounds of groups, and the search on spaces where groups hold many gates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from search_cases import tiny_latencies, tiny_spec, tiny_statistics

from search import exact
from search.bounds import Bounder
from search.exact import Search
from search.linear import Linear
from search.nodes import Node
from search.problem import Problem
from search.screen import Screener, Tail
from search.target import Target
from search.values import Values

IMAGES = 30


def draw_problem(
    seed: int, heads: tuple[int, ...], images: int = IMAGES, levels: int = 12
) -> Problem:
    rng = np.random.default_rng(seed)
    spec = tiny_spec(heads, classes=int(rng.integers(2, 6)))
    statistics = tiny_statistics(spec, rng, images, 0, 2, levels)
    return Problem.build(statistics, spec, tiny_latencies(spec, rng), 12)


def all_figures(problem: Problem, heads: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Latency and mIoU of every combination of gates of a chain, by broadcasting.

    Returns:
        two arrays of shape (n_gates of each early head, ...).
    """
    early = heads[:-1]
    shape = tuple(len(problem.gates[h]) for h in early)
    stays = np.ones((*(1 for _ in early), problem.images), bool)
    latency, both, union, paid = 0.0, 0.0, 0.0, 0.0
    for place, head in enumerate(heads):
        axes = [1] * len(early)
        leaves = np.array(True)
        paid = paid + problem.head_ms[head]
        if place < len(early):
            axes[place] = shape[place]
            own = problem.gates[head]
            leaves = own.masks.reshape(*axes, problem.images)
            paid = paid + own.decision_ms.reshape(axes)
        here = stays & leaves
        stays = stays & ~leaves
        end = problem.segments_ms[head] + problem.output_ms[head]
        latency = latency + here.sum(-1) * (end + paid)
        weights = here.astype(float)
        both = both + weights @ problem.intersection[head].astype(float)
        union = union + weights @ problem.union[head].astype(float)
    both, union, latency = (
        np.broadcast_to(a, (*shape, *np.shape(a)[len(shape) :]))
        for a in (both, union, latency)
    )
    iou = np.divide(both, union, out=np.zeros(both.shape), where=union > 0)
    return latency / problem.images, iou.sum(-1) / (union > 0).sum(-1)


def brute_force(problem: Problem, target: Target, early: int) -> float:
    """Best value over all chains; infinite when nothing keeps the limits."""
    best = math.inf
    for count in range(early + 1):
        for heads in itertools.combinations(range(len(problem.heads)), count + 1):
            exits = [problem.exit_of[h] for h in heads]
            if len(set(exits)) <= count:
                continue
            latency, miou = all_figures(problem, heads)
            fine = (miou >= target.floor - 1e-11) & (
                latency <= target.ceiling_ms + 1e-9
            )
            value = latency if target.minimise_latency else -miou
            if fine.any():
                best = min(best, float(value[fine].min()))
    return best


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("early", [2, 3])
def test_search_equals_brute_force_with_many_gates(seed, early, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(exact, "PARTS", int(rng.integers(1, 6)))
    monkeypatch.setattr(exact, "LEAF_SIZE", int(rng.choice([1, 40, 4096])))
    monkeypatch.setattr(exact, "NODES_AT_ONCE", int(rng.choice([1, 3, 64])))
    monkeypatch.setattr(exact, "WORTH_THREADS", int(rng.choice([0, 1 << 14])))
    problem = draw_problem(seed, (2, 2, 1) if early == 2 else (1, 1, 1, 1))
    floor = problem.reference_miou - rng.uniform(-0.02, 0.06)
    target = Target(True, floor)
    if rng.random() < 0.4:
        costs = problem.segments_ms + problem.head_ms + problem.output_ms
        target = Target(False, 0.0, float(rng.uniform(costs.min(), costs.max())))
    found = Search(problem, target, early, math.inf).run()
    wanted = brute_force(problem, target, early)
    assert found.proven
    if found.best is None:
        assert wanted == math.inf
    else:
        value = found.best.latency_ms if target.minimise_latency else -found.best.miou
        assert value == pytest.approx(wanted, abs=1e-9)


@pytest.fixture(params=range(12))
def screened(request: pytest.FixtureRequest) -> tuple[Problem, Screener]:
    rng = np.random.default_rng(request.param)
    problem = draw_problem(100 + request.param, (2, 2, 2, 1), 24)
    plain = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    rate = float(rng.choice([0.0, 0.02, 0.2]))
    return problem, Screener(problem, plain, rate, int(rng.integers(1, 5)))


def traded(problem: Problem, rate: float, heads: tuple[int, ...]) -> np.ndarray:
    latency, miou = all_figures(problem, heads)
    return miou - rate * latency


@pytest.mark.parametrize("last_exit", [3, 4])
def test_no_pair_of_gates_beats_the_bound_of_its_groups(screened, last_exit):
    problem, screener = screened
    lasts = np.flatnonzero(problem.exit_of == last_exit)
    bound = screener.pairs(1, 2, Tail(lasts, 0))
    one, two = screener.groups(1), screener.groups(2)
    for (a, b), last in itertools.product(np.ndindex(bound.shape), lasts):
        value = traded(problem, screener.rate, (one.head[a], two.head[b], last))
        assert value[np.ix_(one.gates[a], two.gates[b])].max() <= bound[a, b]


def test_no_longer_chain_beats_the_bound_of_its_first_two_groups(screened):
    problem, screener = screened
    bound = screener.pairs(1, 2, Tail(np.flatnonzero(problem.exit_of > 2), 1))
    one, two = screener.groups(1), screener.groups(2)
    lasts = np.flatnonzero(problem.exit_of == 4)
    thirds = np.flatnonzero(problem.exit_of == 3)
    for (a, b), third, last in itertools.product(
        np.ndindex(bound.shape), thirds, lasts
    ):
        heads = (one.head[a], two.head[b], third, last)
        value = traded(problem, screener.rate, heads)
        assert value[np.ix_(one.gates[a], two.gates[b])].max() <= bound[a, b]


def test_no_three_gates_beat_the_bound_of_their_groups(screened):
    problem, screener = screened
    tail = Tail(np.flatnonzero(problem.exit_of == 4), 0)
    one, two, three = (screener.groups(e) for e in (1, 2, 3))
    for row in range(len(one)):
        every = np.arange(len(two))
        rows, columns, bound = screener.triples(row, every, (1, 2, 3), tail, -math.inf)
        assert len(rows) == len(two) * len(three)
        for b, c, top in zip(rows, columns, bound, strict=True):
            heads = (one.head[row], two.head[b], three.head[c], tail.lasts[0])
            value = traded(problem, screener.rate, heads)
            chosen = np.ix_(one.gates[row], two.gates[b], three.gates[c])
            assert value[chosen].max() <= top


def test_what_screening_leaves_out_is_below_the_least(screened):
    problem, screener = screened
    tail = Tail(np.flatnonzero(problem.exit_of == 4), 0)
    seconds = np.arange(len(screener.groups(2)))
    for row in range(len(screener.groups(1))):
        every = screener.triples(row, seconds, (1, 2, 3), tail, -math.inf)
        least = float(np.median(every[2]))
        some = screener.triples(row, seconds, (1, 2, 3), tail, least)
        wanted = every[2] >= least
        assert some[0].tolist() == every[0][wanted].tolist()
        assert some[1].tolist() == every[1][wanted].tolist()
        assert some[2] == pytest.approx(every[2][wanted], abs=1e-5)
        # Some groups of the second exit alone give what they give among all.
        part = screener.triples(row, seconds[1::2], (1, 2, 3), tail, least)
        odd = some[0] % 2 == 1
        assert part[0].tolist() == some[0][odd].tolist()
        assert part[1].tolist() == some[1][odd].tolist()
        assert part[2] == pytest.approx(some[2][odd], abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_a_node_keeps_every_useful_configuration(seed):
    rng = np.random.default_rng(seed)
    problem = draw_problem(200 + seed, (1, 1, 1, 2), 24)
    plain = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    linear = plain.leaning(rng.uniform(0.5, 3, (1, plain.classes)))
    target = Target(True, 0.0)
    bounder = Bounder(problem, target, np.array([0.02, 0.1, 0.5]))
    heads, lasts = (0, 1, 2), np.array([3, 4])
    gates = tuple(
        rng.permutation(len(problem.gates[h]))[: rng.integers(1, 9)] for h in heads
    )
    figures = [all_figures(problem, (*heads, last)) for last in lasts]
    chosen = [[f[np.ix_(*gates)] for f in pair] for pair in figures]
    floor = float(np.quantile([c[1] for c in chosen], 0.9))
    ceiling = float(np.quantile([c[0] for c in chosen], 0.5))
    whole = Node(heads, gates, lasts, 0, -math.inf, linear)
    node = next(iter(bounder.narrow([whole], floor, ceiling)), None)
    for last, (latency, miou) in zip(lasts, chosen, strict=True):
        for at in np.argwhere((latency <= ceiling) & (miou >= floor)):
            assert node is not None and last in node.lasts
            for place, index in enumerate(at):
                assert gates[place][index] in node.gates[place]


def test_nodes_are_narrowed_together_as_they_are_alone():
    rng = np.random.default_rng(5)
    problem = draw_problem(300, (2, 2, 2, 2), 24)
    plain = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    leaning = plain.leaning(rng.uniform(0.5, 3, (1, plain.classes)))
    bounder = Bounder(problem, Target(True, 0.0), np.array([0.02, 0.1, 0.5]))
    nodes = []
    for _ in range(30):
        heads = tuple(int(h) for h in rng.integers(0, 2, 3) + [0, 2, 4])
        gates = tuple(
            np.sort(rng.permutation(len(problem.gates[h]))[: rng.integers(1, 9)])
            for h in heads
        )
        lasts = np.array([6, 7])[: rng.integers(1, 3)]
        linear = plain if rng.random() < 0.5 else leaning
        nodes.append(Node(heads, gates, lasts, 0, -math.inf, linear))
    figures = [all_figures(problem, (*n.heads, n.lasts[0])) for n in nodes]
    floor = float(np.median([f[1].max() for f in figures]))
    ceiling = float(np.median([f[0].min() for f in figures])) * 1.2
    alone = [found for n in nodes for found in bounder.narrow([n], floor, ceiling)]
    together = bounder.narrow(nodes, floor, ceiling)
    assert 0 < len(alone) < len(nodes)

    def content(node: Node) -> tuple[object, ...]:
        return node.heads, [g.tolist() for g in node.gates], node.lasts.tolist()

    def bounds(found: list[Node]) -> list[float]:
        return [n.bound for n in sorted(found, key=lambda n: str(content(n)))]

    assert sorted(map(content, together)) == sorted(map(content, alone))
    assert bounds(together) == pytest.approx(bounds(alone), rel=1e-5)


def test_values_are_given_where_they_are_wanted(screened):
    problem, screener = screened
    one, two = screener.groups(1), screener.groups(2)
    rng = np.random.default_rng(1)
    lasts = np.flatnonzero(problem.exit_of == 4)
    values = Values(problem, screener.linear((1, 2), 0, lasts), screener.rate)
    images = rng.permutation(problem.images)[:9]
    every = np.arange(len(two))
    beyond = values.through(one, values.ends(lasts).max(0), np.arange(problem.images))
    stays = (rng.random((4, len(images))) < 0.7).astype(np.float32)
    end = values.ends(lasts).max(0)
    for whole, some in (
        (
            values.terms(two, beyond, images, every),
            lambda where: values.terms(two, beyond, images, every, where),
        ),
        (
            values.second_terms(two, stays, end, images, every),
            lambda where: values.second_terms(two, stays, end, images, every, where),
        ),
    ):
        where = rng.random(whole.shape) < 0.4
        found = some(where)
        assert found[where] == pytest.approx(whole[where], abs=1e-5)
        assert (found[~where] == -np.inf).all()
