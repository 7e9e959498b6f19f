"""The guarantee holds over many splits, whatever the images are like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from search.evaluation import RoutedEvaluation, final_configuration
from search.generalisation.guarantees import (
    Guarantee,
    fixed_sequence_test,
    hoeffding_bentkus_p_value,
    learn_then_test,
    min_test_groups,
)
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.result import load_results, save_results
from search.run import search
from tests.support.search_problems import tiny_latencies, tiny_spec, tiny_statistics
from tests.support.tiers import sampled


@pytest.mark.parametrize("limit", [0.05, 0.2])
@pytest.mark.parametrize("count", [30, 200])
def test_p_value_is_rarely_small_at_the_limit(limit, count):
    # Exactly, over all outcomes of a coin whose true mean is the limit.
    hurt = np.arange(count + 1)
    chance = binom.pmf(hurt, count, limit)
    p = np.array([hoeffding_bentkus_p_value(k / count, count, limit) for k in hurt])
    for level in (0.01, 0.05, 0.2):
        assert chance[p <= level].sum() <= level


def test_p_value_falls_with_fewer_hurt_and_more_images():
    assert (
        hoeffding_bentkus_p_value(0.0, 100, 0.05)
        < hoeffding_bentkus_p_value(0.02, 100, 0.05)
        < hoeffding_bentkus_p_value(0.05, 100, 0.05)
    )
    assert hoeffding_bentkus_p_value(0.01, 1000, 0.05) < hoeffding_bentkus_p_value(
        0.01, 100, 0.05
    )
    assert hoeffding_bentkus_p_value(0.5, 100, 0.05) == 1.0


def test_least_groups_is_where_the_first_rejection_becomes_possible():
    promise = Guarantee()
    enough = min_test_groups(promise)
    assert enough == 59
    assert fixed_sequence_test(lambda _: np.zeros(enough), promise, 3)[0] == 3
    assert fixed_sequence_test(lambda _: np.zeros(enough - 1), promise, 3)[0] == 0


def test_walk_stops_at_the_first_step_that_is_not_rejected():
    values = {1: 0.0, 2: 0.5, 3: 0.0}
    step, _, _ = fixed_sequence_test(lambda s: np.full(300, values[s]), Guarantee(), 3)
    assert step == 1


def population(seed: int, images: int):
    """Many images whose early answer is worse the lower its confidence."""
    rng = np.random.default_rng(seed)
    spec = tiny_spec((1, 1), classes=2)
    statistics = tiny_statistics(spec, rng, images, 0, 1)
    sure = rng.random(images)
    true = np.stack([np.full(images, 500), np.full(images, 500)], axis=1)
    final = rng.binomial(true, 0.9)
    early = rng.binomial(true, (0.5 + 0.42 * sure**0.5)[:, None])
    both = np.stack([early, final], axis=1)
    statistics = statistics.__class__(
        **{
            **statistics.__dict__,
            "groups": tuple(f"g{i}" for i in range(images)),
            "true_area": true,
            "intersection": both,
            "predicted_area": both + 20,
            "confidence": {
                "mean": np.stack([sure, sure], axis=1).astype(np.float32),
            },
        }
    )
    return statistics, spec, tiny_latencies(spec, rng)


@pytest.mark.slow
@pytest.mark.parametrize("share", sampled([0.15, 0.05], 1))
def test_guarantee_holds_over_many_splits(share):
    statistics, spec, latency_ms = population(1, 6000)
    # Asking costs next to nothing, so that the highest exit rates are the fastest.
    latency_ms = {n: ms if n[:3] == "seg" else 1e-3 for n, ms in latency_ms.items()}
    head = statistics.heads[0][1]
    chain = Configuration((ExitChoice(1, head, "mean", 0.05), ExitChoice(2, head)))
    promise = Guarantee(max_image_drop_pp=15.0, max_share=share, confidence=0.9)
    known: dict[Configuration, RoutedEvaluation] = {}

    def evaluate(configuration: Configuration) -> RoutedEvaluation:
        if configuration not in known:
            known[configuration] = RoutedEvaluation.of(
                statistics, spec, latency_ms, configuration
            )
        return known[configuration]

    tuning = np.arange(500)
    rng = np.random.default_rng(7)
    broken, bold, splits = 0, [], 400
    for _ in range(splits):
        testing = 500 + rng.choice(5500, 200, replace=False)
        chosen, shown = learn_then_test(
            statistics,
            chain,
            final_configuration(spec),
            tuning,
            testing,
            promise,
            evaluate,
        )
        own, final = evaluate(chosen).image_quality()
        broken += (final - own > 0.15)[500:].mean() > share
        bold.append(shown.step)
    # 10 % may be broken; three standard errors of 400 draws are 4.5 %.
    assert broken / splits <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / splits)
    # And it is no empty promise: thresholds move, yet not to the end.
    assert 0 < np.median(bold) < 20


def test_search_with_a_guarantee_tests_on_other_groups(tmp_path):
    statistics, spec, latency_ms = population(3, 400)
    promise = Guarantee(max_image_drop_pp=10.0, max_share=0.1, confidence=0.95)
    wish = Requirement(max_drop_pp=3.0)
    result = search(
        statistics, spec, latency_ms, wish, SearchParameters(guarantee=promise)
    )
    assert result.certified.groups == 200 and result.calibration.images == 200
    assert result.certified.p_value <= 0.05 or not result.certified.met
    save_results(tmp_path / "chosen.json", [result])
    assert load_results(tmp_path / "chosen.json") == (result,)


def test_too_few_groups_guarantee_nothing_beyond_the_final_head():
    statistics, spec, latency_ms = population(4, 60)
    result = search(
        statistics,
        spec,
        latency_ms,
        Requirement(max_drop_pp=5.0),
        SearchParameters(guarantee=Guarantee()),
    )
    assert not result.certified.met
    assert result.configuration == final_configuration(spec)
    assert result.certified.least_groups == 59


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.0}, {"max_share": 0.0}, {"max_image_drop_pp": -1.0}]
)
def test_senseless_guarantee_is_refused(wrong):
    with pytest.raises(MessError, match=next(iter(wrong))):
        Guarantee(**wrong)


def test_an_early_exit_that_slows_down_is_no_answer_to_a_guarantee():
    statistics, spec, latency_ms = population(5, 400)
    head = statistics.heads[0][1]
    chain = Configuration((ExitChoice(1, head, "mean", 0.9), ExitChoice(2, head)))
    # Nearly nobody leaves, and asking costs as much as the rest of the network.
    slow = {name: 50.0 if name.startswith("head_1") else 10.0 for name in latency_ms}
    images = np.arange(400)
    chosen, certified = learn_then_test(
        statistics,
        chain,
        final_configuration(spec),
        images[:200],
        images[200:],
        Guarantee(max_image_drop_pp=30.0, max_share=0.2, confidence=0.9),
        lambda c: RoutedEvaluation.of(statistics, spec, slow, c),
    )
    assert chosen == final_configuration(spec)
    assert (certified.step, certified.p_value) == (0, 1.0)
    assert certified.steps > 0 and not certified.met
