"""Objective and constraints of one run, in the solver's units."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Objective and constraints of one run.

    Attributes:
        minimise_latency: True minimises the mean latency; False maximises the mIoU.
        min_miou: least data-set mIoU, 0..1.
        max_latency_ms: highest mean latency; infinite where not limited.
        max_p90_ms: highest 90th percentile; infinite where not limited.
        max_size_bytes: most that a configuration's pieces may take together; infinite
            where not limited.
    """

    minimise_latency: bool
    min_miou: float
    max_latency_ms: float = math.inf
    max_p90_ms: float = math.inf
    max_size_bytes: float = math.inf
