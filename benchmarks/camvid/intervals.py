"""What a few seeds say: their spread, and Student's interval of a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t


def spread(values: Sequence[float] | np.ndarray) -> str:
    """Mean, and in brackets the lowest and the highest."""
    return f"{np.mean(values):.1f} [{np.min(values):.1f}, {np.max(values):.1f}]"


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of two values or more, and the ends of its interval of 95 %."""
    mean, count = float(np.mean(values)), len(values)
    reach = t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return mean, mean - float(reach), mean + float(reach)


def difference(values: Sequence[float]) -> str:
    """A mean difference in points with its interval, if there are runs enough."""
    if len(values) < 2:
        return "too few runs"
    mean, low, high = student(values)
    return f"{mean:+.2f} pp [{low:+.2f}, {high:+.2f}]"
