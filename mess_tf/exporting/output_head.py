"""The output head of an export: an exit's logits resized, rescaled, as class ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mess_tf.converting.decision_graphs import add_resize
from mess_tf.core.configuration import ExitChoice
from mess_tf.exporting.exit_stages import PieceGraphs
from mess_tf.exporting.model_io import add_classes, add_logits_as
from mess_tf.exporting.options import ExportForm
from mess_tf.flatbuffer.graph_builder import GraphBuilder
from mess_tf.flatbuffer.reader import Graph, scale_of
from mess_tf.flatbuffer.schema import per_tensor_quantization
from mess_tf.runtime.signature_names import CLASSES, EXIT, LOGITS


class OutputHead:
    """Appends the outputs of a form to graphs; int8 logits share one scale.

    Args:
        piece_graphs: graphs of the pieces.
        choices: all exits of the configuration.
        form: which outputs, of which type and resolution.
    """

    def __init__(
        self, piece_graphs: PieceGraphs, choices: Sequence[ExitChoice], form: ExportForm
    ) -> None:
        self._size = form.answer_size(piece_graphs.spec)
        self._form = form
        self._scale = _common_scale([piece_graphs.head(choice) for choice in choices])

    def append(self, graph: GraphBuilder, logits: int) -> list[int]:
        """Appends resize, common scale and ARG_MAX; returns logits and/or class ids.

        Class ids are taken before logits are brought to the common, coarser scale.
        """
        resized = add_resize(graph, logits, self._size)
        outputs = []
        if self._form.gives_logits:
            outputs.append(self._at_common_scale(graph, resized))
        if self._form.gives_classes:
            outputs.append(add_classes(graph, resized))
        return outputs

    def append_with_exit(
        self, graph: GraphBuilder, logits: int, exit_index: int
    ) -> list[int]:
        """Appends the same; returns logits and/or class ids and the exit point."""
        number = np.array([exit_index], np.int32)
        return [
            *self.append(graph, logits),
            graph.add_tensor("exit_number", (1,), "int32", value=number),
        ]

    def set_outputs(self, graph: GraphBuilder, outputs: Sequence[int]) -> None:
        """Makes tensors a graph's outputs, in their final type and by their names.

        Args:
            graph: that they are in.
            outputs: of ``append`` or ``append_with_exit``.
        """
        final = list(outputs)
        if self._form.gives_logits:
            final[0] = add_logits_as(graph, final[0], self._form.output)
        names = [LOGITS] if self._form.gives_logits else []
        names += [CLASSES] if self._form.gives_classes else []
        for tensor, name in zip(final, [*names, EXIT], strict=False):
            graph.rename(tensor, name)
        graph.outputs = final

    def _at_common_scale(self, graph: GraphBuilder, logits: int) -> int:
        tensor = graph.tensors[logits]
        if self._scale is None or scale_of(tensor) == self._scale:
            return logits
        common = per_tensor_quantization(*self._scale)
        requantised = graph.add_tensor("answer", tensor.shape, "int8", common)
        graph.add_quantize(logits, requantised)
        return requantised


def _common_scale(heads: Sequence[Graph]) -> tuple[float, int] | None:
    """(scale, zero point) whose range covers every head's logits; None for float heads.

    The widest head's, where its range covers all.
    """
    infos = [head.info(head.outputs[0]) for head in heads]
    if not any(info.scale for info in infos):
        return None
    lows = [info.scale * (-128 - info.zero_point) for info in infos]
    highs = [info.scale * (127 - info.zero_point) for info in infos]
    low, high = min(lows), max(highs)
    for info, head_low, head_high in zip(infos, lows, highs, strict=True):
        if head_low == low and head_high == high:
            return info.scale, info.zero_point
    scale = float(np.float32((high - low) / 255))
    return scale, round(-128 - low / scale)
