"""The work model: an operator's time as a non-negative weighted sum of work terms.

A roofline without its corner: what an operator computes and what it moves are added,
because neither hides the other fully on a small core. With no negative weight, more of
any term is never predicted to be faster. What matters on a processor is left to the
measurements: multiply-accumulates as they are, or as matrix units do them, in whole
tiles of channels; bytes; the pointers that a convolution looks up per output position
and tap. It is coarse; what it misses is learnt in
``android_bench.latency_model.model``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import LinearRegression

from android_bench.latency_model.features import Operator

SHRINKAGE = 0.01
"""Pull of the weights to 0, relative to the largest column: where two terms explain
the measurements alike, the time is shared between them."""

MATRIX_TILE = 64
"""Channels in and out of a matrix unit's tile (AMX; XNNPACK's int8 kernels)."""

VECTOR_LANES = 16
"""Channels that a depthwise kernel takes at once (XNNPACK; 512 bits of float32)."""

LEAST_MS = 1e-6
"""What any operator takes, so that there is a time to be corrected."""


def kind_of(operator: Operator) -> str:
    """The kind whose operators are alike; 1x1 convolutions are a separate one."""
    if operator.kind == "CONV_2D" and operator.kernel == 1:
        return "POINTWISE"
    return operator.kind


def terms_of(operator: Operator) -> dict[str, float]:
    """Work by term name; none falls when an operator gets more to do."""
    terms = {
        "count": 1.0,
        "bytes": float(operator.read_bytes + operator.written_bytes),
        "weight bytes": float(operator.weight_bytes),
    }
    if operator.macs:
        kind, taps = kind_of(operator), operator.cells * operator.kernel
        terms[f"macs of {kind}"] = float(operator.macs)
        if operator.kernel > 1:
            terms[f"taps of {kind}"] = float(taps)
        if operator.kind == "CONV_2D":
            tiles = _whole(operator.channels_in, MATRIX_TILE)
            tiles *= _whole(operator.channels_out, MATRIX_TILE)
            terms["macs in matrix tiles"] = float(taps * tiles)
        if operator.kind == "DEPTHWISE_CONV_2D":
            lanes = _whole(operator.channels_out, VECTOR_LANES)
            terms["macs in vectors"] = float(taps * lanes)
    return terms


def _whole(channels: int, tile: int) -> int:
    """Channels that are computed where only whole tiles can be."""
    return -(-channels // tile) * tile


def fit_work_model(
    models: Sequence[Sequence[Operator]],
    latency_ms: np.ndarray,
    trust: np.ndarray | None = None,
) -> dict[str, float]:
    """Weights (milliseconds per unit of work) by least squares of relative errors.

    Args:
        models: operators per model.
        latency_ms: float array of shape (n_models,), all positive.
        trust: weight of each model's square, same shape; None is 1 for all.
    """
    rows = [_summed(operators) for operators in models]
    names = sorted({name for row in rows for name in row})
    work = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    relative = work / latency_ms[:, None]
    scale = relative.max(axis=0)
    design = np.vstack([relative / scale, SHRINKAGE * np.eye(len(names))])
    target = np.concatenate([np.ones(len(rows)), np.zeros(len(names))])
    trusted = np.ones(len(rows)) if trust is None else trust
    squares = np.concatenate([trusted, np.ones(len(names))])
    found = LinearRegression(positive=True, fit_intercept=False)
    found.fit(design, target, sample_weight=squares)
    return dict(zip(names, (found.coef_ / scale).tolist(), strict=True))


def work_model_ms(
    weights: Mapping[str, float], operators: Sequence[Operator]
) -> np.ndarray:
    """Milliseconds per operator, float array of shape (n_operators,)."""
    return np.array(
        [
            LEAST_MS
            + sum(
                weights.get(name, 0.0) * work
                for name, work in terms_of(operator).items()
            )
            for operator in operators
        ]
    )


def _summed(operators: Sequence[Operator]) -> dict[str, float]:
    total: dict[str, float] = {}
    for operator in operators:
        for name, work in terms_of(operator).items():
            total[name] = total.get(name, 0.0) + work
    return total
