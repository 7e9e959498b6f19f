"""Confidence of an exit in its output: one value per image, from its logits.

``confidence_numpy`` is the reference, ``confidence_ops`` the same numbers in
``keras.ops``, for evaluation on any backend and for the exported graph. Both work on
the head's native grid, before upsampling: the paper evaluates at image resolution,
which takes milliseconds where the native grid takes a few hundred microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.policies.registry import POLICIES, Policy


def confidence_numpy(
    policy: Policy,
    logits: np.ndarray,
    parameters: Sequence[float] = (),
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Confidence per image, the reference: logits (B, h, w, C) -> float32 (B,).

    Args:
        parameters: the head's, of a fitted policy.
        reference: for a policy that compares, float32 logits (B, h', w', C).
    """
    given = {policy.family: np.array(parameters, np.float32)}
    return confidences_numpy(logits, [policy.key], given, reference)[policy.key]


def confidence_ops(
    policy: Policy, logits: Any, parameters: Any = (), reference: Any = None
) -> Any:
    """``confidence_numpy`` in ``keras.ops``: tensor (B, h, w, C) -> tensor (B,).

    Args:
        parameters: of a fitted policy, a tensor or array of shape (P,).
        reference: for a policy that compares, a tensor (B, h', w', C).
    """
    from keras import ops

    family = POLICIES[policy.family]
    further = [parameters] if family.parameters is not None else []
    further += [reference] if family.compares else []
    cells = family.ops(logits, *further)
    if policy.pixel_threshold is not None:
        cells = ops.cast(cells >= policy.pixel_threshold, "float32")
    if family.filter_cells is not None:
        cells = family.filter_cells(cells, logits)
    return ops.mean(cells, axis=(1, 2))


def confidences_numpy(
    logits: np.ndarray,
    policy_keys: Sequence[str],
    parameters: Mapping[str, np.ndarray] | None = None,
    reference: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Confidences by several policies on the same logits; each map is computed once.

    Args:
        logits: float32 array (B, h, w, C), on the head's native grid.
        policy_keys: e.g. ``["mean", "eq7@0.9"]``.
        parameters: per fitted family, the head's numbers.
        reference: for a policy that compares, the other head's logits (B, h', w', C);
            all keys that compare are about the same one.

    Returns:
        Per key, float32 confidences (B,) in 0..1.

    Raises:
        MessError: a fitted policy lacks its numbers, or one that compares the logits.
    """
    logits = logits.astype(np.float32, copy=False)
    maps: dict[Callable[..., np.ndarray], np.ndarray] = {}
    result = {}
    for policy in [Policy.parse(key) for key in policy_keys]:
        family = POLICIES[policy.family]
        fitted = np.asarray((parameters or {}).get(policy.family, ()), np.float32)
        policy.check_parameters(logits.shape[-1], len(fitted))
        further = [fitted] if len(fitted) else []
        if family.compares:
            if reference is None:
                raise MessError(
                    f"Policy {policy.key!r} needs the logits of exit"
                    f" {policy.reference}'s reference head, too; none were given."
                )
            further.append(reference)
        if family.numpy not in maps:
            maps[family.numpy] = family.numpy(logits, *further)
        cells = maps[family.numpy]
        if policy.pixel_threshold is not None:
            cells = cells >= np.float32(policy.pixel_threshold)
        result[policy.key] = cells.mean(axis=(1, 2), dtype=np.float32)
    return result
