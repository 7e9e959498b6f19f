"""Greedy choice of models to measure that leaves the least variance of the others.

One after the other the model is taken whose measurement lowers the variances of all
models' relative errors most in sum (A-optimal design, greedily). In a Gaussian process
that does not depend on what is measured, so the whole list is known beforehand.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from android_bench.errors import BenchError
from android_bench.latency_model.model import NOISE_VARIANCE, LatencyModel, Models
from android_bench.latency_model.operator_set import OperatorSet
from android_bench.latency_model.work_model import kind_of, work_model_ms

# A small core: 2 us per operator, 10 GB/s, 20 GMAC/s. Only proportions matter, and they
# matter little: they tell how much of a model's time an operator is.
_TYPICAL_LAW = {"count": 2e-3, "bytes": 1e-7, "weight bytes": 1e-7}
_TYPICAL_MACS = 5e-8


def choose(
    models: Models,
    count: int,
    measured: Collection[str] = (),
    prior: LatencyModel | None = None,
) -> list[str]:
    """Names of ``count`` models, the most informative first.

    Args:
        models: all that are to be measured or predicted.
        count: how many to choose, beyond those measured.
        measured: names of those that are measured anyway.
        prior: of any device; tells what operators' times are likely to be.

    Raises:
        BenchError: ``count`` is not between 0 and the number of models left.
    """
    names = list(models)
    left = len(set(names) - set(measured))
    if not 0 <= count <= left:
        raise BenchError(
            f"{count} models of {left} cannot be chosen; give 0 to {left}."
        )
    covariance = _relative_covariance(models, prior)
    taken = [name in measured for name in names]
    for place in np.flatnonzero(taken).tolist():
        covariance = _conditioned(covariance, place)
    chosen: list[str] = []
    for _ in range(count):
        gain = (covariance**2).sum(axis=0) / (np.diag(covariance) + NOISE_VARIANCE)
        gain[taken] = -1.0
        place = int(gain.argmax())
        taken[place] = True
        chosen.append(names[place])
        covariance = _conditioned(covariance, place)
    return chosen


def _relative_covariance(models: Models, prior: LatencyModel | None) -> np.ndarray:
    operator_set = OperatorSet(list(models.values()))
    if prior is not None:
        expected_ms = prior.operator_ms(operator_set.operators)
    else:
        macs = {f"macs of {kind}": _TYPICAL_MACS for kind in _kinds(operator_set)}
        expected_ms = work_model_ms({**_TYPICAL_LAW, **macs}, operator_set.operators)
    shares = operator_set.counts * expected_ms
    shares /= shares.sum(axis=1, keepdims=True)
    covariance: np.ndarray = shares @ operator_set.covariance() @ shares.T
    return covariance


def _kinds(operator_set: OperatorSet) -> set[str]:
    return {kind_of(operator) for operator in operator_set.operators}


def _conditioned(covariance: np.ndarray, place: int) -> np.ndarray:
    """What is left of the covariance when one more model is measured."""
    shared = covariance[place]
    return covariance - np.outer(shared, shared) / (shared[place] + NOISE_VARIANCE)
