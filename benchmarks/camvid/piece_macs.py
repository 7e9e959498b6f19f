"""Multiply-accumulates of every piece of a supernet, before anything is compiled."""

from __future__ import annotations

from typing import Any

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.core.piece_names import head_name, segment_name
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.models.flatten import output_of
from mess_tf.models.macs import model_macs


def piece_macs(model: Any, spec: SupernetSpec) -> dict[str, int]:
    """MACs of every segment and head of a supernet, by piece name, at batch 1.

    Args:
        model: the supernet's Keras model at a fixed size (``Supernet.at_size``).
        spec: its structure; the segments are the way to its exit points.
    """
    tensors = [output_of(model, point.layer) for point in spec.exit_points]
    known = {id(model.input): model.input}
    macs = {}
    for point, tensor in zip(spec.exit_points, tensors, strict=True):
        nodes = nodes_in_order([tensor], known)
        macs[segment_name(point.index)] = model_macs(n.operation for n in nodes)
        known |= {id(n.output_tensors[0]): n for n in nodes}
    for name in (head_name(*head) for head in spec.head_names()):
        nodes = nodes_in_order([output_of(model, f"{name}_logits")], known)
        macs[name] = model_macs(n.operation for n in nodes)
    return macs
