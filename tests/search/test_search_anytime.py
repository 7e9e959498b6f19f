"""The anytime setting against all subsets of exits and heads."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import head_name, output_name, segment_name
from mess_tf.core.supernet_spec import HeadSpec
from search.anytime import Rung, search_anytime
from tests.support.search_problems import tiny_latencies, tiny_spec, tiny_statistics


def plain_value(statistics, spec, latency_ms, chain, rungs, part="calibration"):
    """Weighted mean over the deadlines, one deadline and one piece at a time."""
    images = [i for i, p in enumerate(statistics.parts) if p == part]
    total = weight = 0.0
    for rung in rungs:
        spent, done, answer = 0.0, 0, 0.0
        for exit_index, head in chain:
            spent += sum(
                latency_ms[segment_name(i)] for i in range(done + 1, exit_index + 1)
            )
            done = exit_index
            size = spec.head_size(exit_index, HeadSpec.parse(head))
            spent += latency_ms[head_name(exit_index, head)]
            spent += latency_ms.get(output_name(size), 0.0)
            if spent > rung.deadline_ms + 1e-9:
                break
            place = statistics.heads.index((exit_index, head))
            both = statistics.intersection[images, place].sum(0)
            union = statistics.true_area[images].sum(0) - both
            union = union + statistics.predicted_area[images, place].sum(0)
            iou = [b / u for b, u in zip(both, union, strict=True) if u > 0]
            answer = sum(iou) / len(iou)
        total += rung.weight * answer
        weight += rung.weight
    return total / weight


@pytest.mark.parametrize("seed", range(150))
def test_ladder_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    spec = tiny_spec(tuple(rng.integers(1, 4, 4).tolist()))
    statistics = tiny_statistics(spec, rng, 6, 6)
    latency_ms = tiny_latencies(spec, rng)
    rungs = [
        Rung(float(rng.integers(1, 60)) / 10, float(rng.integers(1, 4)))
        for _ in range(int(rng.integers(1, 5)))
    ]
    most = int(rng.integers(1, 5))
    chains = [
        chain
        for count in range(1, most + 1)
        for chain in itertools.combinations(statistics.heads, count)
        if len({e for e, _ in chain}) == count
    ]
    best = max(plain_value(statistics, spec, latency_ms, c, rungs) for c in chains)
    if best == 0:
        with pytest.raises(MessError, match="fastest takes"):
            search_anytime(statistics, spec, latency_ms, rungs, most)
        return
    found = search_anytime(statistics, spec, latency_ms, rungs, most)
    assert found.value == pytest.approx(best)
    own = plain_value(statistics, spec, latency_ms, found.exits, rungs)
    assert own == pytest.approx(best)
    unseen = plain_value(statistics, spec, latency_ms, found.exits, rungs, "report")
    assert found.report == pytest.approx(unseen)
    assert len(found.exits) <= most


def test_a_senseless_ladder_is_refused():
    with pytest.raises(MessError, match="deadline"):
        Rung(-1.0)
    with pytest.raises(MessError, match="at least one"):
        search_anytime(*cast(Any, (None, None, {}, [])))
