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
  Criteria for Edge Semantic Segmentation", 2025);
* ``cbt@t``   Eq. 7 with a threshold per predicted class ("Class Based Thresholding in
  Early Exit Semantic Segmentation Networks", 2022): ``t`` for the easiest class, nearer
  to 1 for harder ones (``class_based_numpy``);
* ``gate``    a learned guess of the exit's quality (``mess_tf.gate``).

The last two are *fitted*: they have numbers of their own per head, which are fitted on
training images when statistics are taken (``mess_tf.evaluation.fit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.confidence_maps import (
    certainty_numpy,
    certainty_ops,
    class_based_numpy,
    class_based_ops,
    smoothed_numpy,
    top1_numpy,
    top1_ops,
    voted_ops,
)
from mess_tf.errors import MessError
from mess_tf.gate import gate_numpy, gate_ops, gate_parameters


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

    def parameters(self, classes: int) -> int:
        """How many numbers of its own it has per head; 0 where it is not fitted."""
        count = POLICIES[self.family].parameters
        return 0 if count is None else count(classes)

    def check_parameters(self, classes: int, count: int) -> None:
        """Raises MessError where a head's numbers are not as many as they must be."""
        if count != self.parameters(classes):
            raise MessError(
                f"Policy {self.key!r} takes {self.parameters(classes)} numbers per head"
                f" for {classes} classes; got {count}. They come from"
                " `mess evaluate`; run it and `mess search` again."
            )

    def confidence_numpy(
        self, logits: np.ndarray, parameters: Sequence[float] = ()
    ) -> np.ndarray:
        """Reference: float32 logits (B, h, w, C) -> float32 confidences (B,).

        Args:
            parameters: the head's, of a fitted policy.
        """
        given = {self.family: np.array(parameters, np.float32)}
        return confidences_numpy(logits, [self.key], given)[self.key]

    def confidence_ops(self, logits: Any, parameters: Any = ()) -> Any:
        """The same in ``keras.ops``: logits tensor (B, h, w, C) -> tensor (B,).

        Args:
            parameters: of a fitted policy, a tensor or array of shape (P,).
        """
        from keras import ops

        fitted = POLICIES[self.family].parameters is not None
        cells = POLICIES[self.family].ops(logits, *([parameters] if fitted else []))
        if self.pixel_threshold is not None:
            cells = ops.cast(cells >= self.pixel_threshold, "float32")
        if (vote := POLICIES[self.family].vote_ops) is not None:
            cells = vote(cells, logits)
        return ops.mean(cells, axis=(1, 2))


@dataclass(frozen=True)
class Family:
    """What a family makes of logits before it is reduced to one number.

    Attributes:
        numpy, ops: logits (B, h, w, C) -> (B, h, w), how sure every cell is; of a
            fitted family also its numbers (P,).
        needs_pixel_threshold: whether cells count that reach one, or their mean.
        parameters: number of classes -> how many numbers a fitted family has per head.
        vote_ops: cells that reach the threshold (B, h, w) and logits -> those that do
            after smoothing, where ``ops`` does not smooth but ``numpy`` does.
    """

    numpy: Callable[..., np.ndarray]
    ops: Callable[..., Any]
    needs_pixel_threshold: bool = False
    parameters: Callable[[int], int] | None = None
    vote_ops: Callable[[Any, Any], Any] | None = None


def keys(families: tuple[str, ...], pixel_thresholds: tuple[float, ...]) -> list[str]:
    """All policy keys of ``families`` over a grid of pixel thresholds."""
    result = []
    for name in families:
        if POLICIES[name].needs_pixel_threshold:
            result += [Policy(name, t).key for t in pixel_thresholds]
        else:
            result.append(name)
    return result


def fitted_families(policy_keys: Iterable[str]) -> list[str]:
    """Families among policy keys (or family names) that have numbers per head."""
    families = dict.fromkeys(key.partition("@")[0] for key in policy_keys)
    return [name for name in families if POLICIES[name].parameters is not None]


def confidences_numpy(
    logits: np.ndarray,
    policy_keys: Sequence[str],
    parameters: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Several policies on the same logits; each map is computed once.

    Args:
        logits: float32 array (B, h, w, C), on the head's native grid.
        policy_keys: e.g. ``["mean", "eq7@0.9"]``.
        parameters: per fitted family, the head's numbers.

    Returns:
        Per key, float32 confidences (B,) in 0..1.

    Raises:
        MessError: a fitted policy lacks its numbers.
    """
    logits = logits.astype(np.float32, copy=False)
    maps: dict[Callable[[np.ndarray], np.ndarray], np.ndarray] = {}
    result = {}
    for policy in [Policy.parse(key) for key in policy_keys]:
        family = POLICIES[policy.family]
        own = np.asarray((parameters or {}).get(policy.family, ()), np.float32)
        policy.check_parameters(logits.shape[-1], len(own))
        if family.numpy not in maps:
            maps[family.numpy] = family.numpy(logits, *([own] if len(own) else []))
        cells = maps[family.numpy]
        if policy.pixel_threshold is not None:
            cells = cells >= np.float32(policy.pixel_threshold)
        result[policy.key] = cells.mean(axis=(1, 2), dtype=np.float32)
    return result


POLICIES: dict[str, Family] = {
    "mean": Family(top1_numpy, top1_ops),
    "eq7": Family(top1_numpy, top1_ops, needs_pixel_threshold=True),
    "eq7+9": Family(
        smoothed_numpy, top1_ops, needs_pixel_threshold=True, vote_ops=voted_ops
    ),
    "entropy": Family(certainty_numpy, certainty_ops),
    "cbt": Family(
        class_based_numpy,
        class_based_ops,
        needs_pixel_threshold=True,
        parameters=lambda classes: classes,
    ),
    "gate": Family(gate_numpy, gate_ops, parameters=gate_parameters),
}
