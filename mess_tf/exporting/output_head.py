"""From an exit's logits to the answer of a file, the same whichever exit it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mess_tf.converting.decision_graphs import add_resize
from mess_tf.core.configuration import ExitChoice
from mess_tf.exporting.model_io import add_classes, add_logits_as
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.stage_graphs import Parts
from mess_tf.flatbuffer.graph_builder import GraphBuilder
from mess_tf.flatbuffer.reader import Graph, scale_of
from mess_tf.flatbuffer.schema import per_tensor_quantization
from mess_tf.runtime.signature_names import CLASSES, EXIT, LOGITS


class Answering:
    """Appends to graphs what the form asks for; int8 logits get one scale for all.

    Args:
        parts: the pieces.
        choices: all exits of the configuration.
        form: what is asked for.
    """

    def __init__(
        self, parts: Parts, choices: Sequence[ExitChoice], form: ExportForm
    ) -> None:
        self._size = form.answer_size(parts.spec)
        self._form = form
        self._scale = _common_scale([parts.head(choice) for choice in choices])

    def values(self, graph: GraphBuilder, logits: int) -> list[int]:
        """Appends what makes logits and/or class ids; class ids see the finer scale."""
        given = add_resize(graph, logits, self._size)
        answers = []
        if self._form.gives_logits:
            answers.append(self._at_common_scale(graph, given))
        if self._form.gives_classes:
            answers.append(add_classes(graph, given))
        return answers

    def add(self, graph: GraphBuilder, logits: int, exit_index: int) -> list[int]:
        """Appends the same and the exit's number."""
        number = np.array([exit_index], np.int32)
        return [
            *self.values(graph, logits),
            graph.add_tensor("exit_number", (1,), "int32", value=number),
        ]

    def finish(self, graph: GraphBuilder, answers: Sequence[int]) -> None:
        """Makes answers a graph's outputs, in their final type and by their names.

        Args:
            answers: of ``values`` or ``add``.
        """
        final = list(answers)
        if self._form.gives_logits:
            final[0] = add_logits_as(graph, final[0], self._form.output)
        names = [LOGITS] if self._form.gives_logits else []
        names += [CLASSES] if self._form.gives_classes else []
        for tensor, name in zip(final, [*names, EXIT], strict=False):
            graph.rename(tensor, name)
        graph.outputs = final

    def _at_common_scale(self, graph: GraphBuilder, answer: int) -> int:
        tensor = graph.tensors[answer]
        if self._scale is None or scale_of(tensor) == self._scale:
            return answer
        common = per_tensor_quantization(*self._scale)
        requantised = graph.add_tensor("answer", tensor.shape, "int8", common)
        graph.add_quantize(answer, requantised)
        return requantised


def _common_scale(heads: Sequence[Graph]) -> tuple[float, int] | None:
    """Scale that covers every head's logits: the widest head's own where it can be."""
    infos = [head.info(head.outputs[0]) for head in heads]
    if not any(info.scale for info in infos):
        return None
    lows = [info.scale * (-128 - info.zero_point) for info in infos]
    highs = [info.scale * (127 - info.zero_point) for info in infos]
    low, high = min(lows), max(highs)
    for info, its_low, its_high in zip(infos, lows, highs, strict=True):
        if its_low == low and its_high == high:
            return info.scale, info.zero_point
    scale = float(np.float32((high - low) / 255))
    return scale, round(-128 - low / scale)
