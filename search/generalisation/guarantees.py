"""Thresholds with a guarantee, from images that neither search nor tuning has seen.

An image is *hurt* when its own quality (mean IoU over the classes in its labels) lies
more than a stated bound below what the final head makes of it. The guarantee: with
probability ``confidence`` over the draw of the test images, at most a share
``max_share`` of new images like them is hurt. It needs nothing but that: no assumption
about the network, the policy or the distribution (Learn then Test, Angelopoulos et al.
2021, with fixed-sequence testing).

A configuration is turned into a sequence that runs from safe (the final head alone) to
itself (all images leave that it lets leave). Its steps are fixed before the test images
are looked at. Each step's hypothesis "more than ``max_share`` is hurt" is tested with a
p-value that is valid for any distribution of values in 0..1 (Hoeffding-Bentkus); the
walk stops at the first step that is not rejected, and the last rejected one is taken.

Images of one sequence are alike, so the units that are tested are groups: a group's
value is the share of its images that is hurt, and the guarantee speaks of new groups'
mean. Where every image is its own group, it speaks of images. With few groups nothing
can be guaranteed, and that is what is said then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics
from search.evaluation import RoutedEvaluation
from search.generalisation.threshold_transfer import leaving_shares, with_shares

STEPS = 20


@dataclass(frozen=True)
class Guarantee:
    """What is to be guaranteed.

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
    """A configuration with its guarantee.

    Attributes:
        guarantee: what holds.
        step: how far the walk came: 0 is the final head alone, which hurts no image;
            ``steps`` is the configuration as searched.
        steps: of the whole walk.
        groups: units that were tested.
        hurt_share: of the test groups, at ``step``.
        p_value: of ``step``; 1 for step 0.
        least_groups: so many groups, none of them hurt, would be needed at least.
    """

    guarantee: Guarantee
    step: int
    steps: int
    groups: int
    hurt_share: float
    p_value: float
    least_groups: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certified:
        return cls(**{**data, "guarantee": Guarantee(**data["guarantee"])})

    @property
    def met(self) -> bool:
        """Whether anything beyond the final head alone could be guaranteed."""
        return self.step > 0 or self.steps == 0


def p_value(mean: float, count: int, limit: float) -> float:
    """Hoeffding-Bentkus: small where a true mean above ``limit`` is hard to believe.

    Args:
        mean: of ``count`` independent values in 0..1.
        limit: strictly between 0 and 1.
    """
    from scipy.special import bdtr  # takes half a second to load

    below = min(mean, limit)
    hoeffding = math.exp(-count * _divergence(below, limit))
    # One hurt group too many by rounding must not be counted less.
    bentkus = math.e * float(bdtr(math.ceil(count * mean - 1e-9), count, limit))
    return min(1.0, hoeffding, bentkus)


def _divergence(a: float, b: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    first = a * math.log(a / b) if a > 0 else 0.0
    second = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return first + second


def least_groups(guarantee: Guarantee) -> int:
    """Groups without a single hurt image that a first rejection needs at least."""
    return math.ceil(
        math.log(1 - guarantee.confidence) / math.log(1 - guarantee.max_share)
    )


def walk(
    hurt: Callable[[int], np.ndarray], guarantee: Guarantee, steps: int = STEPS
) -> tuple[int, float, float]:
    """Fixed-sequence test, from step 1 on.

    Args:
        hurt: gives each test unit's value, 0..1, at a step.

    Returns:
        the last rejected step (0 if none), its mean value and its p-value.
    """
    last = (0, 0.0, 1.0)
    for step in range(1, steps + 1):
        values = hurt(step)
        mean = float(values.mean())
        p = p_value(mean, len(values), guarantee.max_share)
        if p > 1 - guarantee.confidence:
            break
        last = (step, mean, p)
    return last


def sequence(
    statistics: Statistics,
    configuration: Configuration,
    final: Configuration,
    tuning: np.ndarray,
    steps: int = STEPS,
) -> list[Configuration]:
    """Configurations from the final head alone to ``configuration`` itself.

    On the way each early exit lets a growing part of the share leave that it lets leave
    in the configuration, judged by the tuning images.
    """
    if configuration == final:
        return [final]
    shares = leaving_shares(statistics, configuration, tuning)
    walked = [final]
    last = Configuration(configuration.exits[-1:])
    if last not in (final, configuration):
        walked.append(last)
    for step in range(1, steps if len(shares) else 1):
        part = shares * step / steps
        walked.append(with_shares(statistics, configuration, part, tuning))
    return [*walked, configuration]


def certify(
    statistics: Statistics,
    configuration: Configuration,
    final: Configuration,
    tuning: np.ndarray,
    testing: np.ndarray,
    guarantee: Guarantee,
    evaluate: Callable[[Configuration], RoutedEvaluation],
) -> tuple[Configuration, Certified]:
    """The boldest configuration on the way to this one that the guarantee holds for.

    Args:
        final: the final head alone.
        tuning: indices of images that the configuration was chosen on.
        testing: indices of images that nothing was chosen on; other groups.
        evaluate: makes a configuration's evaluation.

    Returns:
        the configuration (the final head alone where nothing can be guaranteed) and
        what was shown.
    """
    walked = sequence(statistics, configuration, final, tuning)
    names, member = np.unique(
        [statistics.groups[i] for i in testing], return_inverse=True
    )
    sizes = np.bincount(member, minlength=len(names))

    def hurt(step: int) -> np.ndarray:
        own, final = evaluate(walked[step]).image_quality()
        lost = final[testing] - own[testing]
        over = lost > guarantee.max_image_drop_pp / 100 + 1e-12
        return np.bincount(member, weights=over, minlength=len(names)) / sizes

    step, mean, p = (0, 0.0, 1.0)
    if len(names):
        step, mean, p = walk(hurt, guarantee, len(walked) - 1)
    certified = Certified(
        guarantee=guarantee,
        step=step,
        steps=len(walked) - 1,
        groups=len(names),
        hurt_share=mean,
        p_value=p,
        least_groups=least_groups(guarantee),
    )
    return walked[step], certified
