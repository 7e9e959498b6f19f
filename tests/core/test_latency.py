"""The latency of a path, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.latency import PathLatency
from mess_tf.core.piece_names import branch_name, decision_name, head_name, segment_name
from tests.support.search_problems import tiny_spec

SPEC = tiny_spec((1, 1, 1))  # strides 4, 8, 8; logits leave at stride 4
HEAD = SPEC.heads[0][0].id
LATENCY_MS = {
    segment_name(1): 1.0,
    segment_name(2): 2.0,
    segment_name(3): 4.0,
    head_name(1, HEAD): 0.1,
    head_name(2, HEAD): 0.2,
    head_name(3, HEAD): 0.4,
    decision_name("mean", (8, 12)): 0.01,
    decision_name("mean", (4, 6)): 0.02,
    branch_name(1): 0.5,
    "output_4x6": 0.05,
}
CHAIN = Configuration(
    (
        ExitChoice(1, HEAD, "mean", 0.8),
        ExitChoice(2, HEAD, "mean", 0.7),
        ExitChoice(3, HEAD),
    )
)


def test_a_path_pays_for_all_heads_decisions_and_branches_on_the_way() -> None:
    path_ms = PathLatency(SPEC, LATENCY_MS).path_ms(CHAIN)
    first = 1 + 0.1 + (0.01 + 0.5)  # its grid is that of the output
    second = (1 + 2) + (0.1 + 0.2) + (0.01 + 0.5 + 0.02) + 0.05
    third = (1 + 2 + 4) + (0.1 + 0.2 + 0.4) + (0.01 + 0.5 + 0.02) + 0.05
    np.testing.assert_allclose(path_ms, [first, second, third], rtol=1e-12)


def test_terms_sum_to_the_path_and_images_pay_where_they_leave() -> None:
    latency = PathLatency(SPEC, LATENCY_MS)
    path_ms = latency.path_ms(CHAIN)
    np.testing.assert_allclose(latency.terms_ms(CHAIN).sum(axis=1), path_ms)
    positions = np.array([2, 0, 0, 1])
    np.testing.assert_array_equal(
        latency.image_ms(CHAIN, positions), path_ms[positions]
    )
    mean_ms = latency.mean_ms(CHAIN, [0.5, 0.25, 0.25])
    assert mean_ms == pytest.approx(latency.image_ms(CHAIN, positions).mean())


@pytest.mark.parametrize("value", [-0.001, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(value: float) -> None:
    latency = PathLatency(SPEC, LATENCY_MS | {segment_name(2): value})
    with pytest.raises(MessError, match=f"Latency of piece 'segment_2' is {value} ms"):
        latency.path_ms(CHAIN)
