"""Exit policies: the table of families, and the keys that name policies.

A policy reduces the logits of an exit to one confidence per image
(``mess_tf.policies.confidence``). Every family has a module with its reference in numpy
and the same numbers in ``keras.ops``, side by side.

Families (equation numbers of "Multi-Exit Semantic Segmentation Networks"):

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
  to 1 for harder ones (``class_scaled_numpy``);
* ``gate``    a learned guess of the exit's quality (``mess_tf.policies.gate``);
* ``region_k`` how far the exit cuts the image into the same regions as the earlier exit
  ``k`` ("Early-Exit Criteria", 2025; ``mess_tf.policies.region_agreement``).

``cbt`` and ``gate`` are *fitted*: they have parameters per head, which are fitted
on training images when statistics are taken (``mess_tf.evaluation.fit``).
``region`` *compares*: it also reads the logits of the reference head of an earlier exit
(``mess_tf.policies.comparison_exit``), which its key names; the first exit lacks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.policies.class_thresholds import class_scaled_numpy, class_scaled_ops
from mess_tf.policies.entropy import entropy_confidence_numpy, entropy_confidence_ops
from mess_tf.policies.gate import gate_numpy, gate_ops, gate_parameters
from mess_tf.policies.median_smoothing import majority_ops, median_smoothed_numpy
from mess_tf.policies.region_agreement import agreement_numpy, agreement_ops
from mess_tf.policies.top1 import top1_numpy, top1_ops


@dataclass(frozen=True)
class Policy:
    """A policy family with what it needs; None where the family does not.

    Attributes:
        family: a key of ``POLICIES``.
        pixel_threshold: that a cell must reach.
        reference: earlier exit (1-based) that is compared with.
    """

    family: str
    pixel_threshold: float | None = None
    reference: int | None = None

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
        compares = POLICIES[self.family].compares
        if compares != (self.reference is not None):
            raise MessError(
                f"Policy {self.family!r} compares with {'an' if compares else 'no'}"
                f" earlier exit; got {self.reference}. Write e.g. 'mean' or 'region_1'."
            )

    @property
    def key(self) -> str:
        """The policy's name in statistics and configurations, e.g. ``eq7@0.9``."""
        if self.reference is not None:
            return f"{self.family}_{self.reference}"
        if self.pixel_threshold is None:
            return self.family
        return f"{self.family}@{self.pixel_threshold:g}"

    @classmethod
    def parse(cls, key: str) -> Policy:
        name, at, threshold = key.partition("@")
        family = family_of(name)
        try:
            return cls(
                family,
                float(threshold) if at else None,
                None if family == name else int(name.removeprefix(f"{family}_")),
            )
        except ValueError:
            raise MessError(
                f"Policy {key!r} cannot be read: {threshold!r} is no number."
            ) from None

    def parameters(self, classes: int) -> int:
        """Number of fitted parameters per head; 0 where it is not fitted."""
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


@dataclass(frozen=True)
class Family:
    """A policy family: its map of confidences per cell, in numpy and ``keras.ops``.

    Attributes:
        numpy, ops: logits (B, h, w, C) -> confidences of cells (B, h, w); a fitted
            family takes its parameters (P,) too, one that compares the logits of the
            other head.
        needs_pixel_threshold: whether the confidence of an image is the share of cells
            that reach a threshold, or the mean over cells.
        parameters: number of classes -> how many numbers a fitted family has per head.
        filter_cells: cells that reach the threshold (B, h, w) and logits -> those that
            do after smoothing, where ``ops`` does not smooth but ``numpy`` does.
    """

    numpy: Callable[..., np.ndarray]
    ops: Callable[..., Any]
    needs_pixel_threshold: bool = False
    parameters: Callable[[int], int] | None = None
    filter_cells: Callable[[Any, Any], Any] | None = None
    compares: bool = False


def keys(
    families: Sequence[str],
    pixel_thresholds: Sequence[float],
    references: Sequence[int],
) -> list[str]:
    """All policy keys of ``families``.

    Args:
        pixel_thresholds: of the families that need one.
        references: exits that those families compare with which do
            (``mess_tf.policies.comparison_exit``).
    """
    result = []
    for name in families:
        if POLICIES[name].compares:
            result += [Policy(name, reference=index).key for index in references]
        elif POLICIES[name].needs_pixel_threshold:
            result += [Policy(name, t).key for t in pixel_thresholds]
        else:
            result.append(name)
    return result


def family_of(policy: str) -> str:
    """The family of a policy key, or of a family's name."""
    name = policy.partition("@")[0]
    family, _, number = name.rpartition("_")
    return family if family in POLICIES and number.isdecimal() else name


def keys_at(policy_keys: Iterable[str], reference: int | None) -> list[str]:
    """Those policy keys that an exit can be asked for.

    Args:
        reference: the exit that it is compared with
            (``mess_tf.policies.comparison_exit``), if any.
    """
    compared = {key: Policy.parse(key).reference for key in policy_keys}
    return [key for key, index in compared.items() if index in (None, reference)]


def fitted_families(policy_keys: Iterable[str]) -> list[str]:
    """Families among policy keys (or family names) that have numbers per head."""
    families = dict.fromkeys(map(family_of, policy_keys))
    return [name for name in families if POLICIES[name].parameters is not None]


POLICIES: dict[str, Family] = {
    "mean": Family(top1_numpy, top1_ops),
    "eq7": Family(top1_numpy, top1_ops, needs_pixel_threshold=True),
    "eq7+9": Family(
        median_smoothed_numpy,
        top1_ops,
        needs_pixel_threshold=True,
        filter_cells=majority_ops,
    ),
    "entropy": Family(entropy_confidence_numpy, entropy_confidence_ops),
    "cbt": Family(
        class_scaled_numpy,
        class_scaled_ops,
        needs_pixel_threshold=True,
        parameters=lambda classes: classes,
    ),
    "gate": Family(gate_numpy, gate_ops, parameters=gate_parameters),
    "region": Family(agreement_numpy, agreement_ops, compares=True),
}
