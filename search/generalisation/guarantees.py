"""Risk control: thresholds with a distribution-free guarantee for new images.

An image is *hurt* when its mean IoU over the classes in its labels lies more than a
stated number of points below the final head's. The risk is the expected share of hurt
images. Guaranteed is that, with probability ``confidence`` over the draw of the test
images, the risk is at most ``max_share``. Nothing is assumed about the network, the
policy or the distribution but that test and new images come from the same one (Learn
then Test, Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052, with
fixed-sequence testing).

The hypotheses are a fixed sequence of configurations, from the final head alone to the
one that was searched, with exit rates that grow from step to step; it is settled before
the test images are looked at. Each null hypothesis "the risk exceeds ``max_share``" is
tested with the Hoeffding-Bentkus p-value, which is valid for losses in 0..1 of any
distribution. Testing stops at the first hypothesis that is not rejected, so that the
family-wise error rate is the level of a single test; the last rejected one is taken.

Images of one sequence are dependent, so the independent units are groups: a group's
loss is the share of its images that is hurt, and the guarantee is about the mean loss
of new groups. Where every image is a group of its own, it is about images. With too few
groups no hypothesis can be rejected, and the result says how many are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics
from search.evaluation import RoutedEvaluation
from search.generalisation.threshold_transfer import (
    conditional_exit_rates,
    with_exit_rates,
)
from search.requirement import Requirement

STEPS = 20


@dataclass(frozen=True)
class Guarantee:
    """A bound on the risk, and the confidence it is to hold with.

    Attributes:
        max_image_drop_pp: an image is hurt if its own mIoU lies more than so many
            absolute points below the final head's.
        max_share: of new images that may be hurt.
        confidence: probability that this holds.
    """

    max_image_drop_pp: float = 10.0
    max_share: float = 0.05
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_image_drop_pp", 0.0, 100.0),
            ("max_share", 0.0, 1.0),
            ("confidence", 0.0, 1.0),
        ):
            value = getattr(self, name)
            strict = name != "max_image_drop_pp"
            if not low <= value <= high or (strict and value in (low, high)):
                between = "strictly between" if strict else "between"
                raise MessError(
                    f"{name} of the guarantee is {value}; it must lie {between}"
                    f" {low:g} and {high:g}."
                )


@dataclass(frozen=True)
class Certified:
    """Result of a fixed-sequence test.

    Attributes:
        guarantee: what was tested.
        step: hypothesis that was chosen, the fastest of those rejected: 0 is the final
            head alone, which hurts no image; ``steps`` is the configuration as
            searched.
        steps: hypotheses of the sequence.
        groups: independent units of the test.
        hurt_share: empirical risk of ``step``, over the test groups.
        p_value: of ``step``; 1 for step 0.
        least_groups: test groups that are needed at least, if no image is hurt.
    """

    guarantee: Guarantee
    step: int
    steps: int
    groups: int
    hurt_share: float
    p_value: float
    least_groups: int

    @property
    def met(self) -> bool:
        """Whether anything beyond the final head alone could be guaranteed."""
        return self.step > 0 or self.steps == 0


def hoeffding_bentkus_p_value(mean: float, count: int, limit: float) -> float:
    """Hoeffding-Bentkus p-value of the null hypothesis that the mean exceeds ``limit``.

    Args:
        mean: sample mean of ``count`` independent values in 0..1.
        limit: strictly between 0 and 1.
    """
    from scipy.special import bdtr  # takes half a second to load

    below = min(mean, limit)
    hoeffding = math.exp(-count * _bernoulli_kl(below, limit))
    # One hurt group too many by rounding must not be counted less.
    bentkus = math.e * float(bdtr(math.ceil(count * mean - 1e-9), count, limit))
    return min(1.0, hoeffding, bentkus)


def _bernoulli_kl(a: float, b: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions."""
    first = a * math.log(a / b) if a > 0 else 0.0
    second = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return first + second


def min_test_groups(guarantee: Guarantee) -> int:
    """Least number of test groups that can reject a hypothesis, if no image is hurt."""
    return math.ceil(
        math.log(1 - guarantee.confidence) / math.log(1 - guarantee.max_share)
    )


def fixed_sequence_test(
    losses: Callable[[int], np.ndarray], guarantee: Guarantee, steps: int = STEPS
) -> tuple[int, float, float]:
    """Tests hypotheses in order until one is not rejected.

    Args:
        losses: each test unit's loss, 0..1, at a step.

    Returns:
        the last rejected step (0 if none), its empirical risk and its p-value.
    """
    last = (0, 0.0, 1.0)
    for step in range(1, steps + 1):
        values = losses(step)
        mean = float(values.mean())
        p = hoeffding_bentkus_p_value(mean, len(values), guarantee.max_share)
        if p > 1 - guarantee.confidence:
            break
        last = (step, mean, p)
    return last


def hypothesis_sequence(
    statistics: Statistics,
    configuration: Configuration,
    final: Configuration,
    tuning: np.ndarray,
    steps: int = STEPS,
) -> list[Configuration]:
    """Configurations of growing exit rates, from the final head alone to this one.

    Between them the conditional exit rates on the tuning images are fractions of those
    of ``configuration``.
    """
    if configuration == final:
        return [final]
    rates = conditional_exit_rates(statistics, configuration, tuning)
    configurations = [final]
    last = Configuration(configuration.exits[-1:])
    if last not in (final, configuration):
        configurations.append(last)
    for step in range(1, steps if len(rates) else 1):
        reduced = rates * step / steps
        configurations.append(
            with_exit_rates(statistics, configuration, reduced, tuning)
        )
    return [*configurations, configuration]


def learn_then_test(
    statistics: Statistics,
    configuration: Configuration,
    final: Configuration,
    tuning: np.ndarray,
    testing: np.ndarray,
    guarantee: Guarantee,
    evaluate: Callable[[Configuration], RoutedEvaluation],
) -> tuple[Configuration, Certified]:
    """The fastest configuration for which the guarantee holds.

    The test controls all rejections at once, so any hypothesis up to the last rejected
    one may be chosen. Mostly that is the last, with the highest exit rates; where
    asking at an exit costs more than the images that leave there save, it is an earlier
    one, at worst the final head alone.

    Args:
        final: the final head alone.
        tuning: indices of images that the configuration was chosen on.
        testing: indices of images that nothing was chosen on; other groups.
        evaluate: routes a configuration.

    Returns:
        the configuration (the final head alone where nothing can be guaranteed) and
        the result of the test.
    """
    hypotheses = hypothesis_sequence(statistics, configuration, final, tuning)
    names, member = np.unique(
        [statistics.groups[i] for i in testing], return_inverse=True
    )
    sizes = np.bincount(member, minlength=len(names))

    def losses(step: int) -> np.ndarray:
        chosen, reference = evaluate(hypotheses[step]).image_quality()
        lost = reference[testing] - chosen[testing]
        hurt = lost > guarantee.max_image_drop_pp / 100 + 1e-12
        return np.bincount(member, weights=hurt, minlength=len(names)) / sizes

    def mean_ms(step: int) -> float:
        return evaluate(hypotheses[step]).figures(tuning, Requirement()).mean_ms

    step, mean, p = (0, 0.0, 1.0)
    if len(names):
        step, mean, p = fixed_sequence_test(losses, guarantee, len(hypotheses) - 1)
        fastest = min(range(step + 1), key=lambda s: (mean_ms(s), -s))
        if fastest != step:
            step, mean, p = fastest, 0.0, 1.0
            if step:
                mean = float(losses(step).mean())
                p = hoeffding_bentkus_p_value(mean, len(names), guarantee.max_share)
    certified = Certified(
        guarantee=guarantee,
        step=step,
        steps=len(hypotheses) - 1,
        groups=len(names),
        hurt_share=mean,
        p_value=p,
        least_groups=min_test_groups(guarantee),
    )
    return hypotheses[step], certified
