"""Gaussian-process prediction of model latencies from measured models.

An operator takes the work model's time (``android_bench.latency_model.work_model``)
times a factor near 1, which a Gaussian process learns: factors of operators of one
kind, and more so of one size, deviate together. A model's time is the sum over its
operators, so measured models are linear equations in the factors, and the posterior is
exact. Models with operators in common tell about one another; the rest of the variance
is the interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.model_selection import KFold

from android_bench.errors import BenchError
from android_bench.latency_model.features import Operator
from android_bench.latency_model.operator_set import OperatorSet
from android_bench.latency_model.work_model import (
    fit_work_model,
    kind_of,
    work_model_ms,
)

LEVEL = 0.95
"""Part of the predictions whose interval is to hold the measured latency."""

LEAST_MODELS = 20
"""Fewer than 19 held-out models cannot tell what 95 % of them keep."""

NOISE_VARIANCE = 8e-4
"""Of a measurement's relative error, and of what no sum of operators explains."""

OUTLIER_DEVIATIONS = 3.5
"""Standard deviations from its leave-one-out prediction that make an outlier."""

OUTLIER_NOISE_FACTOR = 100.0
"""Factor on the noise of such a measurement: other work on a machine can double it."""

OUTLIER_SHARE = 0.02
"""How many measurements are expected to be like that."""

VARIANCE_FACTORS = (1.0, 4.0, 16.0)
"""Factors to choose from, on the variances of deviations from the work model."""

TRANSFER = 0.5
"""Part, on a logarithmic scale, of another device's deviations that is taken over: all
of them did more harm between one and two threads than none (docs/search.md)."""

OUTLIER_ROUNDS = 5
FOLDS = 10
LEAST_TIME_FACTOR = 0.05
"""Least part of the work model's time that is predicted: no time is below 0."""

Models = Mapping[str, Sequence[Operator]]


@dataclass(frozen=True)
class Prediction:
    """A predicted latency and its interval of coverage ``LEVEL``, milliseconds."""

    latency_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class LatencyModel:
    """A fitted model of latencies on one device with one setting.

    Attributes:
        work_weights: milliseconds per unit of work, by term.
        models: operators of the measured models, by name.
        latency_ms: their latencies.
        interval_scale: standard deviations from the prediction to the interval's ends,
            on a logarithmic scale.
        errors: predicted / measured - 1 of each model when it was held out.
        variance_factor: factor on the variances of operators' deviations from the work
            model.
        outliers: names of measured models that the others contradict; they have a
            small weight.
        prior: of another device or setting; ``TRANSFER`` of what its operators deviate
            from its work model is expected here, too.
        about: what was measured: device fingerprint, settings, tool.
    """

    work_weights: Mapping[str, float]
    models: Models
    latency_ms: Mapping[str, float]
    interval_scale: float
    errors: Mapping[str, float]
    variance_factor: float = 1.0
    outliers: frozenset[str] = frozenset()
    prior: LatencyModel | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> set[tuple[str, str]]:
        """Kind and precision of the operators that can be predicted."""
        return _kinds(self.models.values())

    def predict(self, models: Models) -> dict[str, Prediction]:
        """Latencies of models, measured or not.

        Within one call no operator is taken to be faster than another of its kind,
        precision and dilation that has less to do, and none takes no time at all.

        Raises:
            BenchError: a model has a kind of operator that no measured model has.
        """
        known = self.kinds
        for name, operators in models.items():
            unknown = _kinds([operators]) - known
            if unknown:
                raise BenchError(
                    f"Model {name} has operators of a kind that no measured model has:"
                    f" {', '.join(' '.join(kind) for kind in sorted(unknown))}."
                    " Measure it, or one like it, first (`mess profile`)."
                )
        typical, deviation = self._posterior(models)
        ends = np.exp(self.interval_scale * deviation)
        return {
            name: Prediction(float(ms), float(ms / end), float(ms * end))
            for name, ms, end in zip(models, typical, ends, strict=True)
        }

    def operator_ms(self, operators: Sequence[Operator]) -> np.ndarray:
        """Milliseconds of single operators, float array of shape (n_operators,)."""
        return self._posterior({str(i): [o] for i, o in enumerate(operators)})[0]

    def _base_ms(self, operators: Sequence[Operator]) -> np.ndarray:
        """Prior mean of operators' times, milliseconds."""
        expected: np.ndarray = work_model_ms(self.work_weights, operators)
        if self.prior is not None:
            there_ms = self.prior.operator_ms(operators)
            deviation = there_ms / work_model_ms(self.prior.work_weights, operators)
            expected = expected * deviation**TRANSFER
        return expected

    def _posterior(self, models: Models) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean (ms) and relative standard deviation, each (n_models,)."""
        measured = len(self.models)
        operator_set = OperatorSet([*self.models.values(), *models.values()])
        base_ms = self._base_ms(operator_set.operators)
        covariance = self._covariance(operator_set, base_ms)
        counts, asked = operator_set.counts[:measured], operator_set.counts[measured:]
        reported = counts @ covariance
        factor = cho_factor(reported @ counts.T + np.diag(self._noise_ms2()))
        missing_ms = self._measured_ms() - counts @ base_ms
        operator_ms = base_ms + reported.T @ cho_solve(factor, missing_ms)
        operator_ms = operator_set.monotone(
            np.maximum(operator_ms, LEAST_TIME_FACTOR * base_ms)
        )
        typical = asked @ operator_ms
        shared = asked @ reported.T
        variance = np.einsum("ij,jk,ik->i", asked, covariance, asked)
        variance -= np.einsum("ij,ij->i", shared, cho_solve(factor, shared.T).T)
        relative = np.maximum(variance, 0) / typical**2 + NOISE_VARIANCE
        return typical, np.sqrt(relative)

    def find_outliers(self) -> tuple[frozenset[str], float]:
        """Measured models ``OUTLIER_DEVIATIONS`` off their leave-one-out prediction.

        Leaving one out of a Gaussian process has a closed form (Rasmussen and Williams,
        Gaussian Processes for Machine Learning, eq. 5.12).

        Returns:
            Their names; and the logarithm of the measurements' probability, with those
            outliers now taken as such.
        """
        operator_set = OperatorSet(list(self.models.values()))
        base_ms = self._base_ms(operator_set.operators)
        measured_ms, noise = self._measured_ms(), self._noise_ms2()
        # Relative to the measurements, so that no unit remains.
        relative = operator_set.counts / measured_ms[:, None]
        noise = noise / measured_ms**2
        covariance = relative @ self._covariance(operator_set, base_ms) @ relative.T
        covariance += np.diag(noise)
        inverse = np.linalg.inv(covariance)
        missing = 1 - relative @ base_ms
        off = inverse @ missing / np.diag(inverse)
        # Judged with an inlier's noise, or no outlier could become an inlier again.
        variance = 1 / np.diag(inverse) - noise + NOISE_VARIANCE
        doubtful = np.abs(off) > OUTLIER_DEVIATIONS * np.sqrt(variance)
        likelihood = -0.5 * (
            missing @ inverse @ missing + np.linalg.slogdet(covariance)[1]
        )
        share = OUTLIER_SHARE
        likelihood += len(self.outliers) * math.log(share / (1 - share))
        return frozenset(np.array(list(self.models))[doubtful].tolist()), likelihood

    def _covariance(self, operator_set: OperatorSet, base_ms: np.ndarray) -> np.ndarray:
        """Of the times of the set's operators, milliseconds squared."""
        return (
            self.variance_factor
            * operator_set.covariance()
            * np.outer(base_ms, base_ms)
        )

    def _measured_ms(self) -> np.ndarray:
        return np.array([self.latency_ms[name] for name in self.models])

    def _noise_ms2(self) -> np.ndarray:
        """Variance of each measurement, milliseconds squared."""
        factor = [
            OUTLIER_NOISE_FACTOR if name in self.outliers else 1.0
            for name in self.models
        ]
        variance: np.ndarray = NOISE_VARIANCE * self._measured_ms() ** 2 * factor
        return variance


def fit(
    models: Models,
    latency_ms: Mapping[str, float],
    prior: LatencyModel | None = None,
    about: Mapping[str, str] | None = None,
) -> LatencyModel:
    """Learns from measured models; the interval's width is cross-validated.

    Args:
        models: operators by name.
        latency_ms: measured, of all of them.
        prior: of another device or setting; the closer its operators' relative times
            are, the fewer models are needed.

    Raises:
        BenchError: too few models, or a latency that is no positive number.
    """
    if len(models) < LEAST_MODELS:
        raise BenchError(
            f"{len(models)} measured models are too few to predict others from; measure"
            f" at least {LEAST_MODELS}."
        )
    for name in models:
        if not 0 < latency_ms.get(name, math.nan) < math.inf:
            raise BenchError(
                f"Latency of {name} is {latency_ms.get(name)} ms; a positive number is"
                " needed: measure it again."
            )
    fitted = [
        _fit(models, latency_ms, prior, variance_factor)
        for variance_factor in VARIANCE_FACTORS
    ]
    model = max(fitted, key=lambda candidate: candidate.find_outliers()[1])
    inliers = {n: used for n, used in models.items() if n not in model.outliers}
    distances, errors = _held_out(inliers, latency_ms, prior, model.variance_factor)
    if len(distances) < LEAST_MODELS // 2:
        raise BenchError(
            f"Only {len(distances)} of {len(models)} measured models have operators of"
            " kinds that others have too; predict from models that are more alike."
        )
    rank = min(len(distances), math.ceil(LEVEL * (len(distances) + 1)))
    interval_scale = float(np.sort(distances)[rank - 1])
    return dataclasses.replace(
        model, interval_scale=interval_scale, errors=errors, about=dict(about or {})
    )


def _held_out(
    models: Models,
    latency_ms: Mapping[str, float],
    prior: LatencyModel | None,
    variance_factor: float,
) -> tuple[list[float], dict[str, float]]:
    """Per model that others can predict: deviations it is off, and relative error."""
    names = list(models)
    distances: list[float] = []
    errors: dict[str, float] = {}
    for training, held in KFold(FOLDS, shuffle=True, random_state=0).split(names):
        part = {names[i]: models[names[i]] for i in training}
        model = _fit(part, latency_ms, prior, variance_factor)
        known = model.kinds
        left = {
            names[i]: models[names[i]]
            for i in held
            if _kinds([models[names[i]]]) <= known
        }
        if not left:
            continue
        typical, deviation = model._posterior(left)
        for name, ms, deviates in zip(left, typical, deviation, strict=True):
            errors[name] = float(ms / latency_ms[name] - 1)
            distances.append(abs(math.log(ms / latency_ms[name])) / deviates)
    return distances, errors


def _fit(
    models: Models,
    latency_ms: Mapping[str, float],
    prior: LatencyModel | None,
    variance_factor: float,
) -> LatencyModel:
    """Fits everything but ``interval_scale``."""
    measured_ms = np.array([latency_ms[name] for name in models])
    outliers: frozenset[str] = frozenset()
    for _ in range(OUTLIER_ROUNDS):
        trust = np.array(
            [1 / OUTLIER_NOISE_FACTOR if name in outliers else 1.0 for name in models]
        )
        model = LatencyModel(
            work_weights=fit_work_model(list(models.values()), measured_ms, trust),
            models=models,
            latency_ms={name: float(latency_ms[name]) for name in models},
            interval_scale=math.nan,
            errors={},
            variance_factor=variance_factor,
            outliers=outliers,
            prior=prior,
        )
        found, _ = model.find_outliers()
        if found == outliers:
            break
        outliers = found
    return model


def _kinds(models: Iterable[Sequence[Operator]]) -> set[tuple[str, str]]:
    return {(kind_of(o), o.precision) for operators in models for o in operators}
