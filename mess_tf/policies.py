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
  maximal class with a 4-neighbour), grown by one cell (our reading of "erode").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.errors import MessError

MEDIAN_REACH = 2  # cells to each side: Eq. 9's 2 * output stride on the native grid


@dataclass(frozen=True)
class Policy:
    """A policy family with its pixel threshold (None where the family has none)."""

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

        top1 = _softmax_max_ops(logits)
        top1 = POLICIES[self.family].refine(top1, logits)
        if self.pixel_threshold is not None:
            top1 = ops.cast(top1 >= self.pixel_threshold, "float32")
        return ops.mean(top1, axis=(1, 2))


@dataclass(frozen=True)
class Family:
    """What a family does to the top-1 map before it is reduced."""

    needs_pixel_threshold: bool
    refine: Callable[[Any, Any], Any]


def keys(families: tuple[str, ...], pixel_thresholds: tuple[float, ...]) -> list[str]:
    """All policy keys of ``families`` over a grid of pixel thresholds."""
    result = []
    for family in families:
        if Policy(family, None if family == "mean" else 0.5).pixel_threshold is None:
            result.append(family)
        else:
            result += [Policy(family, t).key for t in pixel_thresholds]
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
    policies = [Policy.parse(key) for key in policy_keys]
    top1 = _softmax_max_numpy(logits.astype(np.float32, copy=False))
    smooth = top1
    if any(policy.family == "eq7+9" for policy in policies):
        smooth = _smooth_numpy(top1, logits)
    result = {}
    for policy in policies:
        values = smooth if policy.family == "eq7+9" else top1
        if policy.pixel_threshold is not None:
            values = values >= np.float32(policy.pixel_threshold)
        result[policy.key] = values.mean(axis=(1, 2), dtype=np.float32)
    return result


def _softmax_max_numpy(logits: np.ndarray) -> np.ndarray:
    # The largest softmax value is exp(0) over the sum of exp(l - max l).
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.float32(1) / np.exp(shifted).sum(axis=-1, dtype=np.float32)


def _softmax_max_ops(logits: Any) -> Any:
    from keras import ops

    # Classes go before cells: reducing over long rows is what LiteRT's kernels do fast.
    # A softmax over the last axis of a 60x80x11 map takes 3.6 times as long there.
    _, height, width, classes = logits.shape
    rows = ops.transpose(ops.reshape(logits, (-1, height * width, classes)), (0, 2, 1))
    shifted = rows - ops.max(rows, axis=1, keepdims=True)
    top1 = 1.0 / ops.sum(ops.exp(shifted), axis=1)
    return ops.reshape(top1, (-1, height, width))


def _smooth_numpy(top1: np.ndarray, logits: np.ndarray) -> np.ndarray:
    top = logits >= logits.max(axis=-1, keepdims=True)
    edge = np.zeros(top1.shape, bool)
    for axis in (1, 2):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differs = ~(top[tuple(low)] & top[tuple(high)]).any(axis=-1)
        edge[tuple(low)] |= differs
        edge[tuple(high)] |= differs
    grown = np.pad(edge, ((0, 0), (1, 1), (1, 1)))
    grown = np.lib.stride_tricks.sliding_window_view(grown, (3, 3), axis=(1, 2))
    r = MEDIAN_REACH
    padded = np.pad(top1, ((0, 0), (r, r), (r, r)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (2 * r + 1, 2 * r + 1), axis=(1, 2)
    )
    near_edge = grown.any(axis=(3, 4))
    smooth = top1.copy()
    if near_edge.any():  # a median of no windows is an error
        smooth[near_edge] = np.median(windows[near_edge], axis=(1, 2))
    return smooth


def _smooth_ops(top1: Any, logits: Any) -> Any:
    from keras import ops

    # A one-hot map of the maxima instead of argmax, which LiteRT's converter lacks for
    # keras.ops; two cells carry the same label if their maps overlap.
    top = ops.cast(logits >= ops.max(logits, axis=-1, keepdims=True), "float32")
    rows = ops.cast(ops.sum(top[:, 1:] * top[:, :-1], axis=-1) < 0.5, "float32")
    columns = ops.cast(
        ops.sum(top[:, :, 1:] * top[:, :, :-1], axis=-1) < 0.5, "float32"
    )
    edge = ops.maximum(
        ops.maximum(
            ops.pad(rows, ((0, 0), (0, 1), (0, 0))),
            ops.pad(rows, ((0, 0), (1, 0), (0, 0))),
        ),
        ops.maximum(
            ops.pad(columns, ((0, 0), (0, 0), (0, 1))),
            ops.pad(columns, ((0, 0), (0, 0), (1, 0))),
        ),
    )
    grown = ops.max_pool(edge[..., None], 3, strides=1, padding="same")[..., 0]
    r = MEDIAN_REACH
    height, width = top1.shape[1], top1.shape[2]
    padded = ops.pad(top1, ((0, 0), (r, r), (r, r)), mode="symmetric")
    windows = ops.stack(
        [
            padded[:, i : i + height, j : j + width]
            for i in range(2 * r + 1)
            for j in range(2 * r + 1)
        ],
        axis=-1,
    )
    middle = (2 * r + 1) ** 2 // 2 + 1
    median = ops.top_k(windows, middle)[0][..., -1]
    return ops.where(grown > 0.5, median, top1)


POLICIES: dict[str, Family] = {
    "mean": Family(needs_pixel_threshold=False, refine=lambda top1, logits: top1),
    "eq7": Family(needs_pixel_threshold=True, refine=lambda top1, logits: top1),
    "eq7+9": Family(needs_pixel_threshold=True, refine=_smooth_ops),
}
