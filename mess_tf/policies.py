"""Confidence of an exit in its own output: one value per image, from its logits.

Every policy exists twice: ``confidence_numpy`` is the reference, ``confidence_ops`` the
same numbers in ``keras.ops`` (for evaluation on any backend, and for the exported
graph). Both work on the head's native grid, before upsampling: the paper evaluates at
image resolution, ours costs a few hundred microseconds there instead of milliseconds.

Policies (equation numbers of "Multi-Exit Semantic Segmentation Networks"):

* ``mean``    mean over the grid of the top-1 softmax probability;
* ``eq7@t``   Eq. 7, the share of cells whose top-1 probability is at least ``t``;
* ``eq7+9@t`` Eq. 7 after Eq. 9: cells near a label change take the median of their
  5x5 neighbourhood first. On the native grid the paper's window of +-2 output strides
  is +-2 cells; the mask of Eq. 8 is the label-change boundary (cells without a common
  maximal class with a 4-neighbour), grown by one cell (our reading of "erode");
* ``entropy`` 1 less the mean over the grid of the normalised entropy ("Early-Exit
  Criteria for Edge Semantic Segmentation", 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.confidence_maps import (
    certainty_numpy,
    certainty_ops,
    smoothed_numpy,
    smoothed_ops,
    top1_numpy,
    top1_ops,
)
from mess_tf.errors import MessError


@dataclass(frozen=True)
class Policy:
    """A policy family with its pixel threshold (None where the family has none).

    Attributes:
        family: a key of ``POLICIES``.
        pixel_threshold: that a cell must reach.
    """

    family: str
    pixel_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.family not in POLICIES:
            raise MessError(
                f"Policy {self.family!r} is unknown; accepted: {sorted(POLICIES)}."
            )
        needs = POLICIES[self.family].needs_pixel_threshold
        if needs != (self.pixel_threshold is not None):
            raise MessError(
                f"Policy {self.family!r} takes {'a' if needs else 'no'} pixel"
                f" threshold; got {self.pixel_threshold}. Write e.g. 'mean' or"
                " 'eq7@0.9'."
            )

    @property
    def key(self) -> str:
        """The policy's name in statistics and configurations, e.g. ``eq7@0.9``."""
        if self.pixel_threshold is None:
            return self.family
        return f"{self.family}@{self.pixel_threshold:g}"

    @classmethod
    def parse(cls, key: str) -> Policy:
        family, at, threshold = key.partition("@")
        try:
            return cls(family, float(threshold) if at else None)
        except ValueError:
            raise MessError(
                f"Policy {key!r} cannot be read: {threshold!r} is no number."
            ) from None

    def confidence_numpy(self, logits: np.ndarray) -> np.ndarray:
        """Reference: float32 logits (B, h, w, C) -> float32 confidences (B,)."""
        return confidences_numpy(logits, [self.key])[self.key]

    def confidence_ops(self, logits: Any) -> Any:
        """The same in ``keras.ops``: logits tensor (B, h, w, C) -> tensor (B,)."""
        from keras import ops

        cells = POLICIES[self.family].ops(logits)
        if self.pixel_threshold is not None:
            cells = ops.cast(cells >= self.pixel_threshold, "float32")
        return ops.mean(cells, axis=(1, 2))


@dataclass(frozen=True)
class Family:
    """What a family makes of logits before it is reduced to one number.

    Attributes:
        numpy, ops: logits (B, h, w, C) -> (B, h, w), how sure every cell is.
        needs_pixel_threshold: whether cells count that reach one, or their mean.
    """

    numpy: Callable[[np.ndarray], np.ndarray]
    ops: Callable[[Any], Any]
    needs_pixel_threshold: bool = False


def keys(families: tuple[str, ...], pixel_thresholds: tuple[float, ...]) -> list[str]:
    """All policy keys of ``families`` over a grid of pixel thresholds."""
    result = []
    for name in families:
        if POLICIES[name].needs_pixel_threshold:
            result += [Policy(name, t).key for t in pixel_thresholds]
        else:
            result.append(name)
    return result


def confidences_numpy(
    logits: np.ndarray, policy_keys: Sequence[str]
) -> dict[str, np.ndarray]:
    """Several policies on the same logits; each map is computed once.

    Args:
        logits: float32 array (B, h, w, C), on the head's native grid.
        policy_keys: e.g. ``["mean", "eq7@0.9"]``.

    Returns:
        Per key, float32 confidences (B,) in 0..1.
    """
    logits = logits.astype(np.float32, copy=False)
    maps: dict[Callable[[np.ndarray], np.ndarray], np.ndarray] = {}
    result = {}
    for policy in [Policy.parse(key) for key in policy_keys]:
        family = POLICIES[policy.family]
        if family.numpy not in maps:
            maps[family.numpy] = family.numpy(logits)
        cells = maps[family.numpy]
        if policy.pixel_threshold is not None:
            cells = cells >= np.float32(policy.pixel_threshold)
        result[policy.key] = cells.mean(axis=(1, 2), dtype=np.float32)
    return result


POLICIES: dict[str, Family] = {
    "mean": Family(top1_numpy, top1_ops),
    "eq7": Family(top1_numpy, top1_ops, needs_pixel_threshold=True),
    "eq7+9": Family(smoothed_numpy, smoothed_ops, needs_pixel_threshold=True),
    "entropy": Family(certainty_numpy, certainty_ops),
}
