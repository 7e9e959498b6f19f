"""Names of tensors and pieces: how they are found again, never by an index."""

from __future__ import annotations

IMAGE_TENSOR = "image"


def exit_tensor(index: int) -> str:
    """Tensor name of exit point ``index``'s features in every converted graph."""
    return f"exit_{index}"


def head_name(exit_index: int, head_id: str) -> str:
    """Piece name and output tensor name of a head."""
    return f"head_{exit_index}_{head_id}"


def segment_name(index: int) -> str:
    """Piece name of the backbone segment that ends at exit point ``index``."""
    return f"segment_{index}"


def decision_name(policy: str, size: tuple[int, int]) -> str:
    """Piece name of a policy's decision on logits of (height, width) ``size``.

    The pixel threshold is no part of it: it is a constant that costs nothing. The exit
    that a policy compares with (``region_2``) is.
    """
    return f"decision_{policy.split('@')[0]}_{size[0]}x{size[1]}"


def output_name(size: tuple[int, int]) -> str:
    """Piece name of what brings logits of (height, width) ``size`` to the output."""
    return f"output_{size[0]}x{size[1]}"


WHOLE_PROBE = "probe_whole"
"""Piece name of the final network in one file: what its pieces cost together."""


def is_probe(piece_name: str) -> bool:
    """Whether a piece is measured for what putting pieces together costs."""
    return piece_name.startswith("probe_")


def single_probe(exit_index: int) -> str:
    """Piece name of the network that ends at exit ``exit_index``, in one file."""
    return f"probe_single_{exit_index}"


def branch_probe(exit_index: int) -> str:
    """Piece name of the final network behind one IF after exit ``exit_index``."""
    return f"probe_branch_{exit_index}"


def branch_name(exit_index: int) -> str:
    """Name, among latencies, of what going on behind exit ``exit_index``'s IF costs."""
    return f"branch_{exit_index}"
