"""Where exit points go: the block ends nearest to equal steps of backbone MACs."""

from __future__ import annotations

from collections.abc import Sequence

from mess_tf.core.errors import MessError


def place_exits(cumulative_macs: Sequence[int], count: int) -> tuple[int, ...]:
    """Chooses ``count`` block ends, the last block's included.

    Exit k of N goes to the block end whose cumulative MACs are nearest to k/N of the
    whole backbone; no block end is used twice. Dilated backbones are coarse late, so
    spacing is only as equal as the blocks allow.

    Args:
        cumulative_macs: backbone MACs up to each block end, growing.
        count: exit points wanted, the final one included.

    Returns:
        Positions in ``cumulative_macs``, growing; the last is the last block end.

    Raises:
        MessError: more exit points than blocks, or fewer than one.
    """
    blocks = len(cumulative_macs)
    if not 1 <= count <= blocks:
        raise MessError(
            f"{count} exit points do not fit a backbone of {blocks} blocks; accepted:"
            f" 1 to {blocks}."
        )
    total = cumulative_macs[-1]
    chosen: list[int] = []
    for k in range(1, count):
        # Leave room for the exits still to come, so that order is kept.
        first = chosen[-1] + 1 if chosen else 0
        last = blocks - 1 - (count - k)
        target = total * k / count
        chosen.append(
            min(range(first, last + 1), key=lambda i: abs(cumulative_macs[i] - target))
        )
    return (*chosen, blocks - 1)
