"""Exits by measured latency: hand-counted cases, and every choice by brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.models.exit_placement import (
    LEAST_SAVING,
    TimedCandidate,
    narrow_maps,
    place_exits_by_latency,
)


def candidates(*rows: tuple[float, dict[str, float]]) -> list[TimedCandidate]:
    return [TimedCandidate(f"layer_{i}", ms, head) for i, (ms, head) in enumerate(rows)]


def test_exits_go_to_equal_steps_of_what_leaving_takes() -> None:
    # By the backbone alone the candidates are at 2, 4, 6, 8 of 10 ms; the head of the
    # second is so dear that leaving there takes as long as at the third.
    found = candidates(
        (2.0, {"a": 0.0}), (4.0, {"a": 2.0}), (6.0, {"a": 0.2}), (8.0, {"a": 0.6})
    )
    # Steps from 2 to 10 ms: a bound at 6 with one exit, at 4.7 and 7.3 with two.
    (one,) = place_exits_by_latency(found, 10.0, 1)
    assert one.layer == "layer_1"
    two = place_exits_by_latency(found, 10.0, 2)
    assert [exit_.layer for exit_ in two] == ["layer_1", "layer_2"]


def test_heads_that_save_nothing_are_left_out_and_so_are_places_without_a_head() -> (
    None
):
    dear, cheap = {"dear": 4.0, "cheap": 0.5}, {"dear": 4.0}
    found = candidates((5.0, dear), (9.0, {"a": 0.4}), (6.0, cheap))
    assert found[0].heads_that_save(10.0) == ("dear", "cheap")
    assert found[1].heads_that_save(10.0) == ("a",)
    assert found[2].heads_that_save(10.0) == ()
    chosen = place_exits_by_latency(found, 10.0, 3)
    assert [exit_.layer for exit_ in chosen] == ["layer_0", "layer_1"]
    assert place_exits_by_latency(found[2:], 10.0, 1) == ()
    assert place_exits_by_latency(found, 10.0, 0) == ()


@given(
    st.lists(
        st.tuples(st.floats(0.01, 2), st.floats(0.01, 3)), min_size=1, max_size=12
    ),
    st.integers(1, 6),
)
def test_exits_are_useful_ordered_and_as_many_as_there_can_be(
    rows: list[tuple[float, float]], count: int
) -> None:
    up_to = list(itertools.accumulate(step for step, _ in rows))
    found = candidates(
        *((ms, {"a": head}) for ms, (_, head) in zip(up_to, rows, strict=True))
    )
    network_ms = up_to[-1] + 0.5
    chosen = place_exits_by_latency(found, network_ms, count)
    useful = [
        c
        for c in found
        if c.latency_ms + c.head_latency_ms["a"] <= (1 - LEAST_SAVING) * network_ms
    ]
    assert len(chosen) == min(count, len(useful))
    positions = [useful.index(exit_) for exit_ in chosen]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize(
    ("maps", "narrow"),
    [
        # MobileNetV2: an expansion, its depthwise convolution, the bottleneck behind.
        ([(64, 24), (64, 144), (32, 144), (32, 32), (32, 192), (32, 32)], [0, 3, 5]),
        # The middle of a U-Net: what comes later is on finer grids.
        ([(64, 16), (32, 64), (16, 256), (32, 64), (64, 16)], [0, 1, 2, 3, 4]),
        # Channels that grow along a plain chain are no expansions.
        ([(16, 64), (16, 96), (16, 160)], [0, 1, 2]),
        ([(8, 10)], [0]),
    ],
)
def test_maps_inside_of_expansions_are_left_out(
    maps: list[tuple[int, int]], narrow: list[int]
) -> None:
    assert narrow_maps([(side, side, channels) for side, channels in maps]) == narrow
