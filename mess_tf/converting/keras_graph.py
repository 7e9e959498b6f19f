"""The graph of a functional Keras model: tensors, and the calls that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras


def node_of(tensor: keras.KerasTensor) -> Any:
    """The call that a Keras tensor comes from."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def nodes_in_order(
    outputs: Sequence[keras.KerasTensor], known: Mapping[int, Any] = {}
) -> list[Any]:
    """The calls that ``outputs`` need, inputs first.

    Args:
        outputs: Keras tensors.
        known: ids of tensors beyond which nothing is looked at.
    """
    order: list[Any] = []
    done: set[int] = set()
    # Deep networks would exhaust Python's stack: an explicit one instead of recursion.
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        node = node_of(tensor)
        if id(node) in done or id(tensor) in known:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((tensor, True))
        stack += [(t, False) for t in reversed(node.input_tensors)]
    return order
