"""What a useful configuration must reach, in the search's own terms."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a useful configuration must reach.

    Attributes:
        minimise_latency: True: lowest mean latency with mIoU >= ``floor``; False:
            highest mIoU.
        floor: least mIoU, 0..1.
        ceiling_ms: highest mean latency; infinite where not limited.
        p90_ms: highest 90th percentile; infinite where not limited.
        size_bytes: most that the kept pieces may take; infinite where not limited.
    """

    minimise_latency: bool
    floor: float
    ceiling_ms: float = math.inf
    p90_ms: float = math.inf
    size_bytes: float = math.inf
