"""Cuts a graph between named tensors into subgraphs, each a flatbuffer.

A cut keeps what the converter decided: operators, weights, scales. Pieces of an int8
graph have int8 inputs and outputs, so a chain of pieces is the whole graph bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mess_tf.core.errors import MessError
from mess_tf.core.pieces import TensorInfo
from mess_tf.flatbuffer.graph_builder import GraphBuilder, ModelBuilder
from mess_tf.flatbuffer.reader import Graph, scale_of
from mess_tf.flatbuffer.schema import per_tensor_quantization

SAME_SCALE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Cut:
    """A subgraph: operators and boundary tensors, by index."""

    name: str
    operators: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def cut_between(
    graph: Graph, name: str, inputs: Sequence[str], outputs: Sequence[str]
) -> Cut:
    """The operators that compute ``outputs`` from ``inputs``, both given by name.

    Raises:
        MessError: a name is missing, or another input of the graph is needed too.
    """
    given = [graph.tensor(tensor) for tensor in inputs]
    targets = [graph.tensor(tensor) for tensor in outputs]
    operators = graph.operators_between(given, targets)
    needed = _outside(graph, operators)
    if lacking := needed & set(graph.inputs) - set(given):
        names = sorted(graph.name(tensor) for tensor in lacking)
        raise MessError(f"Piece {name} also needs {names}, which it was not given.")
    return Cut(
        name, tuple(operators), tuple(t for t in given if t in needed), tuple(targets)
    )


def cut_in_sequence(
    graph: Graph, names: Sequence[str], ends: Sequence[str]
) -> list[Cut]:
    """Cuts a graph into consecutive pieces, piece k ending at the tensor ``ends[k]``.

    Every operator belongs to the first piece that needs it. Outputs of a piece are its
    end and every tensor that later pieces read.
    """
    targets = [graph.tensor(end) for end in ends]
    available = set(graph.inputs)
    per_piece: list[list[int]] = []
    for target in targets:
        operators = graph.operators_between(available, [target])
        per_piece.append(operators)
        available.update(t for i in operators for t in graph.writes(i))
    cuts = []
    for k, (name, operators) in enumerate(zip(names, per_piece, strict=True)):
        made = {t for i in operators for t in graph.writes(i)}
        later = {t for ops in per_piece[k + 1 :] for t in _outside(graph, ops)}
        crossing = sorted((made & later) - {targets[k]})
        cuts.append(
            Cut(
                name,
                tuple(operators),
                tuple(sorted(_outside(graph, operators))),
                (targets[k], *crossing),
            )
        )
    return cuts


def crossing_names(cuts: Sequence[Cut]) -> dict[int, str]:
    """Names for tensors that later pieces read and that are no exit tensor."""
    return {
        tensor: f"carried_{cut.name}_{number}"
        for cut in cuts
        for number, tensor in enumerate(cut.outputs[1:], start=1)
    }


def _outside(graph: Graph, operators: Sequence[int]) -> set[int]:
    """Computed tensors that ``operators`` read and do not write."""
    made = {tensor for index in operators for tensor in graph.writes(index)}
    read = {
        tensor for index in operators for tensor in graph.reads(index) if tensor >= 0
    }
    sources = set(graph.producer) | set(graph.inputs)
    return (read - made) & sources


def write_cut(
    graph: Graph,
    cut: Cut,
    names: Mapping[int, str],
    producers: Mapping[str, TensorInfo] | None = None,
) -> bytes:
    """The flatbuffer of a cut.

    Args:
        graph: that was cut.
        cut: to write.
        names: new names of boundary tensors, by id.
        producers: by name, input tensors as the pieces that make them declare them. An
            input of another scale is requantised first.

    Raises:
        MessError: an input has another shape or type than its producer declares.
    """
    builder = ModelBuilder()
    piece = builder.add_graph(cut.name)
    given = {}
    for tensor in cut.inputs:
        info = graph.info(tensor)
        source = (producers or {}).get(info.name, info)
        if (source.shape, source.dtype) != (info.shape, info.dtype):
            raise MessError(f"Piece {cut.name} reads {info} where {source} comes in.")
        given[tensor] = piece.add_tensor_from_info(source)
    piece.inputs = list(given.values())
    known = {
        t: _requantise_if_needed(piece, here, graph, t) for t, here in given.items()
    }
    here = piece.append(graph, cut.operators, known)
    piece.outputs = [here[tensor] for tensor in cut.outputs]
    for tensor in cut.outputs:
        piece.rename(here[tensor], names.get(tensor, graph.name(tensor)))
    for tensor in cut.inputs:
        piece.rename(given[tensor], names.get(tensor, graph.name(tensor)))
    return builder.finish()


def _requantise_if_needed(
    piece: GraphBuilder, incoming: int, graph: Graph, tensor: int
) -> int:
    """The tensor ``incoming`` of a piece at the scale that a graph's tensor has.

    Returns:
        ``incoming`` itself, or the output of a QUANTIZE appended behind it.
    """
    if scale_of(piece.tensors[incoming]) == scale_of(graph.tensors[tensor]):
        return incoming
    copy = piece.add_tensor_like(graph.tensors[tensor], "requantised")
    piece.add_quantize(incoming, copy)
    return copy


def snap_input_scales(graph: Graph, producers: Mapping[str, TensorInfo]) -> None:
    """Sets scales of input tensors to their producers' where only rounding differs.

    Calibrating one tensor in two graphs agrees to some 1e-7: far below a quantisation
    step, but enough for an operator in between to be needed. Tensors inside that share
    an input's scale (of pooling, resizing, concatenation) follow it.

    Args:
        graph: is changed in place.
        producers: by name, input tensors as the pieces that make them declare them.
    """
    for tensor in graph.inputs:
        producer = producers.get(graph.name(tensor))
        current = scale_of(graph.tensors[tensor])
        if producer is None or not current[0] or not producer.scale:
            continue
        wanted = (producer.scale, producer.zero_point)
        close = math.isclose(current[0], wanted[0], rel_tol=SAME_SCALE_TOLERANCE)
        if current == wanted or current[1] != wanted[1] or not close:
            continue
        for other in graph.tensors:
            if scale_of(other) == current:
                other.quantization = per_tensor_quantization(*wanted)
