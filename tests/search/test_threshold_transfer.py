"""Thresholds that keep the share that leaves, on other images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.routing import exit_position_per_image
from search.generalisation.threshold_transfer import (
    conditional_exit_rates,
    transfer_thresholds,
    with_exit_rates,
)
from tests.support.search_problems import tiny_spec, tiny_statistics

HEAD = "fcn_r1_b0"
CHAIN = Configuration(
    (
        ExitChoice(1, HEAD, "mean", 0.7),
        ExitChoice(2, HEAD, "eq7@0.9", 0.5),
        ExitChoice(3, HEAD),
    )
)


def drawn(seed=0, images=200):
    rng = np.random.default_rng(seed)
    statistics = tiny_statistics(tiny_spec((1, 1, 1)), rng, images, images, levels=1000)
    return statistics, np.arange(images), np.arange(images, 2 * images)


def test_shares_are_of_those_that_come_to_the_exit():
    statistics, first, _ = drawn()
    place = exit_position_per_image(statistics, CHAIN)[first]
    shares = conditional_exit_rates(statistics, CHAIN, first)
    assert shares[0] == pytest.approx((place == 0).mean())
    assert shares[1] == pytest.approx((place == 1).sum() / (place > 0).sum())


def test_the_same_images_keep_their_exits():
    statistics, first, _ = drawn()
    again = transfer_thresholds(statistics, CHAIN, first, first)
    kept = exit_position_per_image(statistics, again)[first]
    assert kept.tolist() == exit_position_per_image(statistics, CHAIN)[first].tolist()


def test_shares_survive_a_shift_of_all_confidences():
    statistics, first, other = drawn(3)
    shifted = {k: v * np.float32(0.6) for k, v in statistics.confidence.items()}
    worse = dataclasses.replace(statistics, confidence=shifted)
    moved = transfer_thresholds(statistics, CHAIN, first, first)
    moved = with_exit_rates(
        worse, moved, conditional_exit_rates(statistics, CHAIN, first), other
    )
    before, after = (
        conditional_exit_rates(s, c, images)
        for s, c, images in ((statistics, CHAIN, first), (worse, moved, other))
    )
    assert after == pytest.approx(before, abs=0.02)
    # The thresholds as they were would let far fewer leave.
    assert conditional_exit_rates(worse, CHAIN, other)[0] < before[0] - 0.2


def test_labels_are_not_read():
    statistics, first, other = drawn(4)
    blind = dataclasses.replace(
        statistics,
        true_area=statistics.true_area * 0,
        intersection=statistics.intersection * 0,
        predicted_area=statistics.predicted_area * 0,
    )
    assert transfer_thresholds(statistics, CHAIN, first, other) == transfer_thresholds(
        blind, CHAIN, first, other
    )


@pytest.mark.parametrize(("share", "leaving"), [(0.0, 0), (1.0, 200)])
def test_none_and_all_can_leave(share, leaving):
    statistics, first, _ = drawn(5)
    ends = with_exit_rates(statistics, CHAIN, np.array([share, 0.5]), first)
    assert (exit_position_per_image(statistics, ends)[first] == 0).sum() == leaving


def test_no_image_is_an_error():
    statistics, first, _ = drawn(6)
    with pytest.raises(MessError, match="at least one"):
        transfer_thresholds(statistics, CHAIN, first, first[:0])
