"""The anytime setting against all subsets of exits and heads."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import head_name, output_name, segment_name
from mess_tf.core.supernet_spec import HeadSpec
from search.anytime import AnytimeResult, Deadline, search_anytime
from search.infeasible import InfeasibleError
from search.result import load_anytime_results, load_results, save_results
from tests.support.search_problems import tiny_latencies, tiny_spec, tiny_statistics


def plain_value(statistics, spec, latency_ms, chain, deadlines, part="calibration"):
    """Weighted mean over the deadlines, one deadline and one piece at a time."""
    images = [i for i, p in enumerate(statistics.parts) if p == part]
    total = weight = 0.0
    for deadline in deadlines:
        spent, done, answer = 0.0, 0, 0.0
        for exit_index, head in chain:
            spent += sum(
                latency_ms[segment_name(i)] for i in range(done + 1, exit_index + 1)
            )
            done = exit_index
            size = spec.head_size(exit_index, HeadSpec.parse(head))
            spent += latency_ms[head_name(exit_index, head)]
            spent += latency_ms.get(output_name(size), 0.0)
            if spent > deadline.deadline_ms + 1e-9:
                break
            place = statistics.heads.index((exit_index, head))
            both = statistics.intersection[images, place].sum(0)
            union = statistics.true_area[images].sum(0) - both
            union = union + statistics.predicted_area[images, place].sum(0)
            iou = [b / u for b, u in zip(both, union, strict=True) if u > 0]
            answer = sum(iou) / len(iou)
        total += deadline.weight * answer
        weight += deadline.weight
    return total / weight


@pytest.mark.parametrize("seed", range(150))
def test_the_chain_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    spec = tiny_spec(tuple(rng.integers(1, 4, 4).tolist()))
    statistics = tiny_statistics(spec, rng, 6, 6)
    latency_ms = tiny_latencies(spec, rng)
    times = rng.choice(60, int(rng.integers(1, 5)), replace=False) / 10 + 0.1
    deadlines = [Deadline(float(ms), float(rng.integers(1, 4))) for ms in times]
    most = int(rng.integers(1, 5))
    chains = [
        chain
        for count in range(1, most + 1)
        for chain in itertools.combinations(statistics.heads, count)
        if len({e for e, _ in chain}) == count
    ]
    best = max(plain_value(statistics, spec, latency_ms, c, deadlines) for c in chains)
    if best == 0:
        with pytest.raises(InfeasibleError, match="fastest takes"):
            search_anytime(statistics, spec, latency_ms, deadlines, most)
        return
    found = search_anytime(statistics, spec, latency_ms, deadlines, most)
    chain = [(one.exit, one.head) for one in found.exits]
    given = (statistics, spec, latency_ms)
    assert found.weighted_calibration_miou == pytest.approx(best)
    assert plain_value(*given, chain, deadlines) == pytest.approx(best)
    unseen = plain_value(*given, chain, deadlines, "report")
    assert found.weighted_report_miou == pytest.approx(unseen)
    assert len(found.exits) <= most
    # No exit that is never the deepest by a deadline.
    positions = {d.position for d in found.deadlines} - {None}
    assert positions == set(range(len(chain)))
    for row in found.deadlines:
        only = [Deadline(row.deadline_ms)]
        singles = {h: plain_value(*given, [h], only) for h in statistics.heads}
        asked = [*chain[: 1 + row.position]] if row.position is not None else []
        if asked:
            assert row.calibration_miou == pytest.approx(
                plain_value(*given, asked, only)
            )
        if row.best_single is None:
            assert max(singles.values()) == 0
        else:
            single = row.best_single
            assert singles[single.exit, single.head] == max(singles.values())
            assert single.completion_ms <= row.deadline_ms + 1e-9
            assert row.calibration_miou <= single.calibration_miou + 1e-12


def ladder() -> AnytimeResult:
    rng = np.random.default_rng(3)
    spec = tiny_spec((2, 2, 2))
    statistics = tiny_statistics(spec, rng, 6, 6)
    deadlines = [Deadline(9.0, 2.0), Deadline(0.1), Deadline(4.0)]
    return search_anytime(
        statistics, spec, tiny_latencies(spec, rng), deadlines, name="anytime-4-9"
    )


def test_what_is_stored_is_read_again(tmp_path):
    found = ladder()
    assert [d.deadline_ms for d in found.deadlines] == [0.1, 4.0, 9.0]
    save_results(tmp_path / "chosen.json", [], [found])
    assert load_anytime_results(tmp_path / "chosen.json") == (found,)
    assert load_results(tmp_path / "chosen.json") == ()
    data = json.loads((tmp_path / "chosen.json").read_text())
    (row,) = data["anytime"]
    assert row["setting"] == "anytime" and row["deadlines"][2]["weight"] == 2.0
    save_results(tmp_path / "chosen.json", [])
    assert load_anytime_results(tmp_path / "chosen.json") == ()
    assert "anytime" not in json.loads((tmp_path / "chosen.json").read_text())
    with pytest.raises(MessError, match="named 'anytime-4-9'"):
        save_results(tmp_path / "chosen.json", [], [found, found])
    del row["exits"]
    (tmp_path / "chosen.json").write_text(json.dumps(data))
    with pytest.raises(MessError, match='lacks the field "exits"'):
        load_anytime_results(tmp_path / "chosen.json")


def test_completion_pays_for_earlier_heads_and_once_for_the_backbone():
    spec = tiny_spec((1, 1))
    statistics = tiny_statistics(spec, np.random.default_rng(0), 4, 4)
    latency_ms = {segment_name(1): 1.0, segment_name(2): 10.0, output_name((4, 6)): 0.5}
    for exit_index, head in statistics.heads:
        latency_ms[head_name(exit_index, head)] = 0.1 * exit_index
    # An exit that is no better would not be kept: the second answers all right.
    statistics = dataclasses.replace(
        statistics,
        predicted_area=statistics.predicted_area.copy(),
        intersection=statistics.intersection.copy(),
    )
    statistics.predicted_area[:, 1] = statistics.true_area
    statistics.intersection[:, 1] = statistics.true_area
    statistics.intersection[:, 0] //= 2
    found = search_anytime(
        statistics, spec, latency_ms, [Deadline(2.0), Deadline(20.0)]
    )
    times = [one.completion_ms for one in found.exits]
    assert times == pytest.approx([1 + 0.1, 1 + 10 + 0.1 + 0.2 + 0.5])
    alone = found.deadlines[1].best_single
    assert alone is not None and alone.completion_ms == pytest.approx(11.7)


def test_senseless_deadlines_are_refused():
    with pytest.raises(MessError, match="time of a deadline is -1"):
        Deadline(-1.0)
    with pytest.raises(MessError, match="weight of a deadline is inf"):
        Deadline(1.0, math.inf)
    nothing: Any = None
    with pytest.raises(MessError, match="at least one"):
        search_anytime(nothing, nothing, {}, [])
    with pytest.raises(MessError, match="at the same time"):
        search_anytime(nothing, nothing, {}, [Deadline(1.0), Deadline(1.0, 2.0)])
    with pytest.raises(MessError, match="max_exits is 0"):
        search_anytime(nothing, nothing, {}, [Deadline(1.0)], 0)
