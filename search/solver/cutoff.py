"""Least mIoU and highest latency of a configuration that would improve on the best."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Cutoff:
    """Limits that an improving configuration keeps; each new incumbent tightens them.

    Attributes:
        min_miou: least data-set mIoU, 0..1.
        max_latency_ms: highest mean latency.
    """

    min_miou: float
    max_latency_ms: float
