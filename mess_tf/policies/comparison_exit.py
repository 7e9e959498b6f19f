"""Which head an exit's answer is compared with by policies that compare two.

Such a policy's key names the exit it compares with (``region_2``), and of that exit it
is the first head without skips: the recipe's first plain one, which needs nothing but
the exit's features.
"""

from __future__ import annotations

from collections.abc import Iterable

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec


def reference_exit(spec: SupernetSpec, exit_index: int) -> int | None:
    """The exit that an early exit is compared with: the nearest before it that has a
    reference head. None for the first exit, and for the final one, which decides
    nothing."""
    if exit_index == spec.exit_points[-1].index:
        return None
    before = range(exit_index - 1, 0, -1)
    return next((k for k in before if _plain(spec, k) is not None), None)


def reference_exits(spec: SupernetSpec) -> tuple[int, ...]:
    """All exits that another one is compared with, in order of depth."""
    found = {
        reference_exit(spec, point.index)
        for point, heads in zip(spec.exit_points, spec.heads, strict=True)
        if heads
    }
    return tuple(sorted(index for index in found if index is not None))


def reference_head(spec: SupernetSpec, exit_index: int) -> HeadSpec:
    """The head of an exit that others are compared with.

    Raises:
        MessError: the exit has none.
    """
    if (head := _plain(spec, exit_index)) is None:
        raise MessError(
            f"No policy can compare with exit {exit_index}: it has no head without"
            " skips."
        )
    return head


def compared_with(
    spec: SupernetSpec, heads: Iterable[tuple[int, str]]
) -> set[tuple[int, str]]:
    """The reference heads that ``heads`` are compared with, and these with in turn.

    With them a part of a supernet's heads is compared as the whole is.

    Args:
        heads: (exit index, head id).
    """
    found: set[tuple[int, str]] = set()
    exits = {exit_index for exit_index, _ in heads}
    while exits:
        earlier = {reference_exit(spec, exit_index) for exit_index in exits}
        exits = {index for index in earlier if index is not None}
        found |= {(index, reference_head(spec, index).id) for index in exits}
    return found


def is_reference(spec: SupernetSpec, exit_index: int, head_id: str) -> bool:
    """Whether others are compared with this head."""
    head = _plain(spec, exit_index)
    return head is not None and head.id == head_id


def _plain(spec: SupernetSpec, exit_index: int) -> HeadSpec | None:
    heads = spec.heads[exit_index - 1]
    return next((head for head in heads if not head.skips), None)
