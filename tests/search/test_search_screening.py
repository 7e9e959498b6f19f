"""Bounds of groups, and the search on spaces where groups hold many gates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.problem import Problem
from search.solver import branch_and_bound as exact
from search.solver import frontier as roots
from search.solver import suffix as rest
from search.solver.branch_and_bound import Search
from search.solver.lagrangian import Values
from search.solver.miou_tangent import Linear
from search.solver.node_bounds import Bounder
from search.solver.nodes import Node
from search.solver.pairwise_bounds import Screener
from search.solver.prefix_bounds import Begun
from search.solver.suffix import Rest
from search.solver.target import Target
from tests.support.search_problems import tiny_latencies, tiny_spec, tiny_statistics
from tests.support.tiers import sampled

IMAGES = 30


def draw_problem(
    seed: int, heads: tuple[int, ...], images: int = IMAGES, levels: int = 12
) -> Problem:
    rng = np.random.default_rng(seed)
    spec = tiny_spec(heads, classes=int(rng.integers(2, 6)))
    statistics = tiny_statistics(spec, rng, images, 0, 2, levels)
    return Problem.build(statistics, spec, tiny_latencies(spec, rng), 12)


def all_figures(problem: Problem, heads: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Latency and mIoU of every combination of gates of a chain, by broadcasting.

    Returns:
        two arrays of shape (n_gates of each early head, ...).
    """
    early = heads[:-1]
    shape = tuple(len(problem.gates[h]) for h in early)
    stays = np.ones((*(1 for _ in early), problem.images), bool)
    latency: Any = 0.0
    both: Any = 0.0
    union: Any = 0.0
    paid: Any = 0.0
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


def check_optimum(problem: Problem, early: int, rng: np.random.Generator) -> None:
    """The search against ``brute_force``, towards a target that is drawn."""
    target = Target(True, problem.reference_miou - rng.uniform(-0.02, 0.06))
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


@pytest.mark.parametrize("seed", sampled(range(60), 4))
@pytest.mark.parametrize("early", [2, 3])
def test_search_equals_brute_force_with_many_gates(seed, early, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(exact, "PARTS", int(rng.integers(1, 6)))
    monkeypatch.setattr(exact, "LEAF_SIZE", int(rng.choice([1, 40, 4096])))
    monkeypatch.setattr(exact, "NODES_AT_ONCE", int(rng.choice([1, 3, 64])))
    monkeypatch.setattr(exact, "WORTH_THREADS", int(rng.choice([0, 1 << 14])))
    problem = draw_problem(seed, (2, 2, 1) if early == 2 else (1, 1, 1, 1))
    check_optimum(problem, early, rng)


@pytest.mark.parametrize("seed", sampled(range(24), 2))
@pytest.mark.parametrize(
    "heads", [(2, 1, 1, 2, 1), (1, 1, 2, 1, 2), (1, 1, 1, 1, 2, 1), (1, 2, 1, 1, 1, 1)]
)
def test_search_equals_brute_force_with_four_exits_and_five(seed, heads, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(exact, "PARTS", int(rng.integers(1, 4)))
    monkeypatch.setattr(exact, "LEAF_SIZE", int(rng.choice([40, 4096])))
    monkeypatch.setattr(roots, "ROWS", int(rng.choice([1, 2, 16])))
    monkeypatch.setattr(rest, "PARTS", int(rng.choice([2, 8])))
    early = len(heads) - 1
    problem = draw_problem(400 + seed, heads, 20, 4 if early == 4 else 3)
    check_optimum(problem, early, rng)


def test_heads_without_gates_do_not_come_in_between():
    rng = np.random.default_rng(6)
    problem = draw_problem(406, (1, 1, 1, 2, 1), 20, 4)
    none = replace(
        problem.gates[3],
        masks=problem.gates[3].masks[:0],
        policies=(),
        thresholds=np.zeros(0),
        decision_ms=np.zeros(0),
        decision_bytes=np.zeros(0),
    )
    gates = (*problem.gates[:3], none, *problem.gates[4:])
    check_optimum(replace(problem, gates=gates), 4, rng)


@pytest.fixture(params=sampled(range(12), 3))
def screened(request: pytest.FixtureRequest) -> tuple[Problem, Screener]:
    rng = np.random.default_rng(request.param)
    problem = draw_problem(100 + request.param, (2, 2, 2, 1), 24)
    plain = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    rate = float(rng.choice([0.0, 0.02, 0.2]))
    return problem, Screener(problem, plain, rate, int(rng.integers(1, 5)))


def traded(problem: Problem, rate: float, heads: Sequence[Any]) -> np.ndarray:
    latency, miou = all_figures(problem, heads)
    return miou - rate * latency


@pytest.mark.parametrize("last_exit", [3, 4])
def test_no_pair_of_gates_beats_the_bound_of_its_groups(screened, last_exit):
    problem, screener = screened
    lasts = np.flatnonzero(problem.exit_of == last_exit)
    bound = screener.pairs((1, 2), lasts)
    one, two = screener.groups(1), screener.groups(2)
    for (a, b), last in itertools.product(np.ndindex(bound.shape), lasts):
        value = traded(problem, screener.rate, (one.head[a], two.head[b], last))
        assert value[np.ix_(one.gates[a], two.gates[b])].max() <= bound[a, b]


def best_of_groups(
    problem: Problem, screener: Screener, rows: tuple[int, ...], heads: Sequence[Any]
) -> float:
    """The most that mIoU - rate * latency can be with gates of these groups.

    Args:
        rows: groups of exits 1, 2, ...; ``heads`` are those behind them.
    """
    groups = [screener.groups(e + 1) for e in range(len(rows))]
    begun = [(g.head[row], g.gates[row]) for g, row in zip(groups, rows, strict=True)]
    value = traded(problem, screener.rate, (*(h for h, _ in begun), *heads))
    for axis, (_, gates) in enumerate(begun):
        value = value.take(gates, axis)
    return float(value.max())


def test_no_longer_chain_beats_the_bounds_of_its_beginning(screened):
    problem, screener = screened
    chain = 1, 2, 3, 4
    rest = screener.rest(chain)
    for alike in screener.alike(1):
        pairs = screener.longer(chain, rest, alike)
        rows, columns = (a.ravel() for a in np.indices(pairs.shape))
        found = screener.thirds(chain, rest, alike[rows], columns, -math.inf)
        assert found.rows.tolist() == alike[rows].tolist()
        assert found.columns.tolist() == columns.tolist()
        for at, (row, column) in enumerate(zip(alike[rows], columns, strict=True)):
            for third, bound in enumerate(found.bound[at]):
                value = best_of_groups(
                    problem, screener, (row, column, third), tuple(rest.lasts)
                )
                assert value <= bound
                assert value <= pairs[rows[at], column]


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_what_comes_behind_bound_their_own_heads(seed):
    rng = np.random.default_rng(seed)
    problem = draw_problem(500 + seed, (1, 1, 1, 3, 1), 20, 4)
    plain = Linear.at(problem, rng.integers(0, len(problem.heads), problem.images))
    screener = Screener(problem, plain, 0.05, 2)
    chain = 1, 2, 3, 4, 5
    whole = screener.rest(chain)
    assert not whole.settled and all(part.settled for part in whole.parts())
    assert sorted(int(p.early[0][0]) for p in whole.parts()) == [3, 4, 5]
    assert sorted(whole.answers) == [3, 4, 5, 6]
    alike = screener.alike(1)[0]
    columns = np.arange(len(screener.groups(2)))
    rows = np.full(len(columns), alike[0])
    for part in whole.parts():
        found = screener.thirds(chain, part, rows, columns, -math.inf)
        loose = screener.thirds(chain, whole, rows, columns, -math.inf)
        assert (found.bound <= loose.bound + 1e-5).all()
        for column, third in np.ndindex(found.bound.shape):
            for last in part.lasts:
                value = best_of_groups(
                    problem,
                    screener,
                    (rows[0], column, third),
                    (int(part.early[0][0]), last),
                )
                assert value <= found.bound[column, third]


def test_no_task_is_begun_after_the_deadline():
    task = roots.Task(1.0, 0, lambda: pytest.fail("it was begun"))
    assert exact._opened(0.0, task) == [task]
    assert exact._opened(math.inf, roots.Task(1.0, 0, lambda: [task])) == [task]


def test_parts_take_the_longest_list_apart():
    three = Rest((np.arange(3), np.arange(10, 30)), np.array([99]))
    parts = three.parts()
    assert len(parts) == 8
    assert all(part.early[0].tolist() == [0, 1, 2] for part in parts)
    together = np.concatenate([part.early[1] for part in parts])
    assert together.tolist() == list(range(10, 30))


def triples(
    problem: Problem, screener: Screener, row: int, seconds: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chain = 1, 2, 3, 4
    hopeful = np.ones((len(seconds), len(screener.groups(3))), bool)
    rest = screener.rest(chain)
    return screener.triples(chain, rest, row, seconds, hopeful, least)


def test_no_three_gates_beat_the_bound_of_their_groups(screened):
    problem, screener = screened
    (last,) = np.flatnonzero(problem.exit_of == 4)
    two, three = (screener.groups(e) for e in (2, 3))
    for row in range(len(screener.groups(1))):
        every = np.arange(len(two))
        rows, columns, bound = triples(problem, screener, row, every, -math.inf)
        assert len(rows) == len(two) * len(three)
        for b, c, top in zip(rows, columns, bound, strict=True):
            assert best_of_groups(problem, screener, (row, b, c), (last,)) <= top


def test_what_screening_leaves_out_is_below_the_least(screened):
    problem, screener = screened
    seconds = np.arange(len(screener.groups(2)))
    for row in range(len(screener.groups(1))):
        every = triples(problem, screener, row, seconds, -math.inf)
        least = float(np.median(every[2]))
        some = triples(problem, screener, row, seconds, least)
        wanted = every[2] >= least
        assert some[0].tolist() == every[0][wanted].tolist()
        assert some[1].tolist() == every[1][wanted].tolist()
        assert some[2] == pytest.approx(every[2][wanted], abs=1e-5)
        # Some groups of the second exit alone give what they give among all.
        part = triples(problem, screener, row, seconds[1::2], least)
        odd = some[0] % 2 == 1
        assert part[0].tolist() == some[0][odd].tolist()
        assert part[1].tolist() == some[1][odd].tolist()
        assert part[2] == pytest.approx(some[2][odd], abs=1e-5)


def test_only_hopeful_triples_are_looked_at(screened):
    problem, screener = screened
    chain, seconds = (1, 2, 3, 4), np.arange(len(screener.groups(2)))
    every = triples(problem, screener, 0, seconds, -math.inf)
    hopeful = np.random.default_rng(2).random((len(seconds), every[1].max() + 1)) < 0.5
    some = screener.triples(chain, screener.rest(chain), 0, seconds, hopeful, -99.0)
    assert np.array_equal(np.column_stack(some[:2]), np.argwhere(hopeful))


def test_what_images_are_worth_is_counted_out_image_by_image(screened):
    """``Begun.then`` against a walk of every image along the exits."""
    problem, screener = screened
    rng = np.random.default_rng(3)
    lasts = np.flatnonzero(problem.exit_of == 4)
    values = Values(problem, screener.linear((1, 2), 0, lasts), screener.rate)
    one, two, three = (screener.groups(e) for e in (1, 2, 3))
    ways = values.through(three, values.ends(lasts).max(0), np.arange(problem.images))
    firsts = np.arange(len(one))
    begun = Begun.of(values, one, firsts)
    rows = rng.integers(0, len(one), 9)
    columns = rng.integers(0, len(two), 9)
    found = begun.then(values, two, ways, rows, columns)
    for at, (a, b) in enumerate(zip(rows, columns, strict=True)):
        prices = [values.factor * g.least_price[r] for g, r in ((one, a), (two, b))]
        own = two.head == two.head[b]
        cheapest = (
            values.factor
            * two.least_price[
                own & np.isin(np.arange(len(two)), columns[rows == a])
            ].min()
        )
        for way in range(len(ways)):
            total = 0.0
            for image in range(problem.images):
                # A doubtful image pays what the head's cheapest group costs.
                doubt = one.high[a, image] and not one.low[a, image]
                second = cheapest if doubt else prices[1]
                here = values.leave[two.head[b], image]
                on = ways[way, image]
                if two.low[b, image]:
                    on = here
                elif two.high[b, image]:
                    on = max(on, here)
                on -= second
                here = values.leave[one.head[a], image]
                if one.low[a, image]:
                    on = here
                elif one.high[a, image]:
                    on = max(on, here)
                total += on - prices[0]
            assert found[at, way] == pytest.approx(total, abs=1e-4)


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
    whole = Node(heads, gates, lasts, -math.inf, linear)
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
        nodes.append(Node(heads, gates, lasts, -math.inf, linear))
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
    here = rng.random(problem.images) < 0.4
    every = np.arange(len(two))
    end = values.ends(lasts).max(0)
    beyond = values.through(one, end, np.arange(problem.images))
    stays = (rng.random((4, problem.images)) < 0.5).astype(np.float32)
    for whole, some in (
        (
            values.terms(two, beyond, every, here),
            lambda where: values.terms(two, beyond, every, here, where),
        ),
        (
            values.second_terms(two, stays, end, every),
            lambda where: values.second_terms(two, stays, end, every, where),
        ),
    ):
        where = rng.random(whole.shape) < 0.4
        found = some(where)
        assert found[where] == pytest.approx(whole[where], abs=1e-5)
        assert (found[~where] == -np.inf).all()


def test_terms_are_the_best_gates_sums(screened):
    problem, screener = screened
    rng = np.random.default_rng(4)
    two = screener.groups(2)
    lasts = np.flatnonzero(problem.exit_of == 4)
    values = Values(problem, screener.linear((1, 2), 0, lasts), screener.rate)
    here = rng.random(problem.images) < 0.6
    beyond = values.ends(lasts) + rng.normal(0, 0.01, (3, problem.images))
    beyond = beyond.astype(np.float32)
    stays = (rng.random((3, problem.images)) < 0.5).astype(np.float32)
    every = np.arange(len(two))
    terms = values.terms(two, beyond, every, here)
    second = values.second_terms(two, stays, beyond[0], every)
    for group in every:
        masks = problem.gates[two.head[group]].masks[two.gates[group]]
        leave = values.leave[two.head[group]]
        price = values.factor * two.price[two.place(group)]
        may = masks.any(0) & here
        for n in range(3):
            sums = np.where(masks, leave, beyond[n])[:, may].sum(1)
            sums -= here.sum() * price
            assert terms[group, n] == pytest.approx(sums.max(), abs=1e-5)
            on = stays[n] > 0
            sums = np.where(masks, leave, beyond[0])[:, on].sum(1) - on.sum() * price
            assert second[n, group] == pytest.approx(sums.max(), abs=1e-5)
