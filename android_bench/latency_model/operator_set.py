"""The distinct operators of some models: incidence counts and prior covariance.

Pieces cut from one network share most of their operators, so a few measured pieces tell
about many others. The set turns that into matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from android_bench.latency_model.features import Operator
from android_bench.latency_model.work_model import kind_of

KIND_VARIANCE = 0.003
"""Of what operators of one kind and precision share beyond the work model."""

ALIKE_VARIANCE = 0.01
"""Of what operators of nearly the same size have in common, too."""

OWN_VARIANCE = 0.003
"""Of what one operator has for itself. All three are of the factor between an
operator's time and the work model's; how they were found stands in docs/search.md."""

REACH = {
    "cells": 1.0,
    "channels_in": 1.0,
    "channels_out": 0.4,
    "kernel": 1.0,
    "stride": 1.0,
    "dilation": 3.0,
}
"""Logarithm of the factor in a size at which alikeness has fallen to 61 %."""


class OperatorSet:
    """Distinct operators of some models.

    Attributes:
        operators: sorted, each once.
        counts: float array (n_models, n_operators), how often each occurs.
    """

    def __init__(self, models: Sequence[Sequence[Operator]]) -> None:
        self.operators = sorted({o for operators in models for o in operators})
        place = {operator: i for i, operator in enumerate(self.operators)}
        self.counts = np.zeros((len(models), len(place)))
        for row, operators in enumerate(models):
            for operator in operators:
                self.counts[row, place[operator]] += 1

    def covariance(self) -> np.ndarray:
        """Of relative deviations from the work model, (n_operators, n_operators)."""
        kinds = [(kind_of(o), o.precision, o.weights) for o in self.operators]
        number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
        kind = np.array([number[k] for k in kinds])
        sizes = np.log([[getattr(o, name) for name in REACH] for o in self.operators])
        sizes /= list(REACH.values())
        squares = np.sum((sizes[:, None] - sizes[None]) ** 2, axis=-1)
        alike = ALIKE_VARIANCE * np.exp(-squares / 2)
        same = kind[:, None] == kind[None]
        return same * (KIND_VARIANCE + alike) + OWN_VARIANCE * np.eye(len(kind))

    def monotone(self, operator_ms: np.ndarray) -> np.ndarray:
        """Times made monotone in the work: no operator is faster than a smaller one.

        Halfway between the largest time of those with no more and the least of those
        with no less to do: both grow with the work, so their mean does.
        """
        not_more = self._not_more()
        lower = np.where(not_more, operator_ms[:, None], -np.inf).max(axis=0)
        upper = np.where(not_more, operator_ms[None], np.inf).min(axis=1)
        return (lower + upper) / 2

    def _not_more(self) -> np.ndarray:
        """Whether the first has at most as much to do of everything as the second."""
        kinds = [(o.kind, o.precision, o.weights, o.dilation) for o in self.operators]
        number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
        kind = np.array([number[k] for k in kinds])
        work = np.array(
            [
                (o.cells, o.channels_in, o.channels_out, o.kernel, o.stride, o.macs)
                + (o.read_bytes, o.weight_bytes, o.written_bytes)
                for o in self.operators
            ]
        )
        less = np.all(work[:, None] <= work[None], axis=-1)
        return np.logical_and(less, kind[:, None] == kind[None])
