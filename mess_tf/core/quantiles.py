"""Quantiles by rank: a quantile is always one of the values."""

from __future__ import annotations

import math

import numpy as np


def quantile_rank(q: float, count: int) -> int:
    """Rank, from 1, of the ``q`` quantile among ``count`` sorted values.

    Args:
        q: 0..1.
        count: number of values, at least 1.
    """
    # 0.55 x 100 is rank 55, though the product is rounded to more than 55.
    return max(1, math.ceil(q * count - 1e-9))


def quantile(values: np.ndarray, q: float) -> float:
    """Smallest value that at least the share ``q`` of the values does not exceed.

    This is the value of rank ``quantile_rank``. An interpolated quantile, NumPy's
    default, lies below it: a latency limit could be met that too many images exceed.

    Args:
        values: float array of shape (N,), N at least 1.
        q: 0..1.
    """
    rank = quantile_rank(q, len(values))
    # NumPy's "inverted_cdf", but for products of q and N that rounding moves past a
    # rank: of 100 values, its 0.55 quantile is the 56th.
    return float(np.partition(values, rank - 1)[rank - 1])
