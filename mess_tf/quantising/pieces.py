"""Pieces of a fine-tuned network: one int8 graph, cut at the exit tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mess_tf.compiling.auxiliary_pieces import add_auxiliary
from mess_tf.compiling.piece_folder import PieceWriter, write_pieces
from mess_tf.compiling.slice import (
    crossing_names,
    cut_between,
    cut_in_sequence,
    write_cut,
)
from mess_tf.core.piece_names import exit_tensor, head_name, segment_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.quantising.fake_quantisation import FakeQuantised
from mess_tf.quantising.int8_conversion import convert_quantised


def write_quantised(
    trained: FakeQuantised, spec: SupernetSpec, folder: Path, policies: Sequence[str]
) -> Pieces:
    """Converts a fine-tuned network and writes the folder of its pieces.

    All exits come from one conversion, so every tensor has one scale in all pieces.

    Args:
        trained: fine-tuned, with the heads of ``spec`` as outputs.
        spec: the supernet's structure with the chosen heads only.
        folder: to write or replace, whole or not at all.
        policies: policy families, as for ``compile_supernet``.

    Raises:
        MessError: the converter refuses, something stayed in float, a disk refuses.
    """
    graph = Graph(read_model(convert_network(trained, spec), "the fine-tuned network"))

    def fill(writer: PieceWriter) -> None:
        _add_segments(graph, spec, writer)
        for exit_index, head_id in spec.head_names():
            name = head_name(exit_index, head_id)
            read = (exit_index, *HeadSpec.parse(head_id).skips)
            given = [exit_tensor(index) for index in read]
            cut = cut_between(graph, name, given, [name])
            writer.add(name, "head", write_cut(graph, cut, {}))
        add_auxiliary(spec, writer, policies)

    return write_pieces(folder, "int8-qat", fill)


def convert_network(trained: FakeQuantised, spec: SupernetSpec) -> bytes:
    """The whole network as one int8 file: outputs are all exit tensors, all logits."""
    outputs = {exit_tensor(point.index): point.layer for point in spec.exit_points}
    names = [head_name(*head) for head in spec.head_names()]
    outputs |= {name: f"{name}_logits" for name in names}
    return convert_quantised(trained, (spec.image_height, spec.image_width), outputs)


def _add_segments(graph: Graph, spec: SupernetSpec, writer: PieceWriter) -> None:
    names = [segment_name(point.index) for point in spec.exit_points]
    ends = [exit_tensor(point.index) for point in spec.exit_points]
    cuts = cut_in_sequence(graph, names, ends)
    renamed = crossing_names(cuts)
    for cut in cuts:
        writer.add(cut.name, "segment", write_cut(graph, cut, renamed))
