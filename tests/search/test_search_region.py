"""A policy that some exits lack and whose price depends on the exit: ``region``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.latency import PathLatency
from mess_tf.core.piece_names import decision_name
from mess_tf.core.statistics import part_images
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.policies.comparison_exit import reference_exit
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.run import search
from tests.support.search_problems import (
    all_configurations,
    plain_figures,
    tiny_latencies,
    tiny_spec,
    tiny_statistics,
)
from tests.support.tiers import sampled

REGION = ("region_1", "region_2")


def draw_case(seed, heads=(2, 2, 1, 1)):
    """Statistics and latencies with ``region`` beside another policy.

    Exits 2 and 3 have heads of one grid but are compared with different heads.
    """
    rng = np.random.default_rng(seed)
    spec = tiny_spec(heads)
    statistics = tiny_statistics(spec, rng, 6, 3, 1, 5)
    latency_ms = tiny_latencies(spec, rng)
    confidence = dict(statistics.confidence)
    for key in REGION:
        drawn = rng.integers(1, 6, confidence["mean"].shape) / 5
        for head, (exit_index, head_id) in enumerate(statistics.heads):
            before = reference_exit(spec, exit_index)
            if key == f"region_{before}":
                size = spec.head_size(exit_index, HeadSpec.parse(head_id))
                price = rng.integers(0, 12) / 10
                latency_ms.setdefault(decision_name(key, size), float(price))
            else:
                drawn[:, head] = np.nan
        confidence[key] = drawn.astype(np.float32)
    return spec, dataclasses.replace(statistics, confidence=confidence), latency_ms


@pytest.mark.parametrize("seed", sampled(range(40), 6))
def test_optimum_equals_brute_force(seed):
    spec, statistics, latency_ms = draw_case(seed)
    images = part_images(statistics, "calibration").tolist()
    configurations = list(all_configurations(statistics, spec, 2))
    rows = np.array(
        [plain_figures(statistics, spec, latency_ms, c, images) for c in configurations]
    )
    asked = {c.policy for own in configurations for c in own.exits}
    assert asked == {None, "mean", *REGION}
    floor = float(np.quantile(rows[:, 2], 0.9))
    result = search(
        statistics,
        spec,
        latency_ms,
        Requirement(min_miou=floor),
        SearchParameters(
            setting="input-dependent", max_early_exits=2, time_limit_s=60.0
        ),
    )
    assert result.proven
    best = rows[rows[:, 2] >= floor - 1e-12, 0].min()
    assert result.value == pytest.approx(best, abs=1e-9)
    own = plain_figures(statistics, spec, latency_ms, result.configuration, images)
    assert own[0] == pytest.approx(best, abs=1e-9)


def test_some_optima_ask_for_it():
    chosen = set()
    for seed in range(12):
        spec, statistics, latency_ms = draw_case(seed)
        # Free of charge, so that it has a chance.
        for key in REGION:
            latency_ms |= {
                n: 0.0 for n in latency_ms if n.startswith(f"decision_{key}")
            }
        result = search(
            statistics,
            spec,
            latency_ms,
            Requirement(max_drop_pp=0),
            SearchParameters(max_early_exits=2),
        )
        chosen |= {choice.policy for choice in result.configuration.exits}
    assert chosen & set(REGION)


def test_every_exit_pays_for_its_own_reference():
    spec, _, latency_ms = draw_case(0)
    heads = [(2, "fcn_r1_b0"), (3, "fcn_r1_b0"), (4, "fcn_r1_b0")]
    sizes = {spec.head_size(e, HeadSpec.parse(h)) for e, h in heads}
    assert len(sizes) == 1
    (size,) = sizes
    paths = {}
    for price in (0.0, 7.0):
        latency_ms[decision_name("region_1", size)] = price
        latency_ms[decision_name("region_2", size)] = 10 * price
        early = [
            ExitChoice(*head, policy, 0.5)
            for head, policy in zip(heads, REGION, strict=False)
        ]
        configuration = Configuration((*early, ExitChoice(*heads[-1])))
        paths[price] = PathLatency(spec, latency_ms).path_ms(configuration)
    assert paths[7.0] - paths[0.0] == pytest.approx([7, 77, 77])
