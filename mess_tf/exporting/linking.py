"""Links chosen pieces into one ``.tflite`` file with early exits.

The main graph runs up to the first exit and its decision; ``IF(confidence >=
threshold)`` then returns that exit's outputs or runs the rest, which is built the same
way. Only tensors that the rest reads pass through an IF. Weights are stored once, also
where further signatures run the same pieces without decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.converting.decision_graphs import add_resize
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.files import write_file
from mess_tf.core.piece_names import IMAGE_TENSOR, exit_tensor
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.exit_stages import PieceGraphs, carried_beyond
from mess_tf.exporting.model_io import add_image
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.output_head import OutputHead
from mess_tf.flatbuffer.graph_builder import GraphBuilder, ModelBuilder
from mess_tf.runtime.signature_names import LOGITS, SERVE, THRESHOLDS


def link_configuration(
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    path: Path,
    form: ExportForm | None = None,
) -> None:
    """Writes a configuration as one file whose signature ``serve`` exits early by IF.

    Input ``image`` (1, H, W, 3) and, if asked for, ``thresholds`` float32 (n,), one per
    early exit. Outputs ``logits`` (1, h, w, classes), ``classes`` uint8 (1, h, w) or
    both, and ``exit``, int32 (1,): the exit point taken, 1-based. Without ``form``
    image and logits are float32 or int8 as the pieces are, the logits on the supernet's
    output grid. int8 logits have one scale whatever the exit.

    Args:
        pieces: of ``compile_supernet``.
        spec: of the supernet they come from.
        configuration: exits in order of depth; one exit gives a static file.
        path: to write.
        form: types and contents; its ``form`` itself has no meaning here.

    Raises:
        MessError: a piece is missing or damaged, or the file cannot be written.
        UsageError: a form that does not go with the pieces.
    """
    form = form or ExportForm()
    form.check(pieces.precision, len(spec.classes))
    linker = _Linker(pieces, spec, configuration.exits, form)
    write_file(path, linker.dynamic())


def link_static(
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    path: Path,
    upto: int | None = None,
    decisions: bool = False,
) -> None:
    """Writes the branch-free network of all chosen heads up to one exit.

    Outputs ``logits`` of that exit on the output grid, and ``logits_<k>`` of the
    earlier chosen exits on their native grids, so that nothing computed can be left
    out.

    Args:
        pieces, spec, configuration, path: as for ``link_configuration``.
        upto: exit point of the configuration to end at; None for the last.
        decisions: also compute the confidence of every early exit up to there, and give
            it as ``confidence_<k>``.

    Raises:
        MessError: as above, or ``upto`` is no exit of the configuration.
    """
    exits = [choice.exit for choice in configuration.exits]
    end = exits[-1] if upto is None else upto
    if end not in exits:
        raise MessError(f"Exit {end} is not in the configuration; its exits: {exits}.")
    choices = configuration.exits[: exits.index(end) + 1]
    write_file(path, _Linker(pieces, spec, choices, ExportForm()).static(decisions))


class _Linker:
    def __init__(
        self,
        pieces: Pieces,
        spec: SupernetSpec,
        choices: Sequence[ExitChoice],
        form: ExportForm,
    ) -> None:
        self._spec, self._form = spec, form
        self._piece_graphs = PieceGraphs(pieces, spec)
        self._stages = self._piece_graphs.stages(choices)
        self._output_head = OutputHead(self._piece_graphs, choices, form)
        self._builder = ModelBuilder()

    def dynamic(self) -> bytes:
        main = self._builder.add_graph("main")
        known = self._add_image(main)
        if self._form.threshold_input and len(self._stages) > 1:
            count = len(self._stages) - 1
            known[THRESHOLDS] = main.add_tensor(THRESHOLDS, (count,), "float32")
            main.inputs = [*main.inputs, known[THRESHOLDS]]
        self._output_head.set_outputs(main, self._add_stage(main, known, 0))
        signatures = {SERVE: main}
        if self._form.exit_signatures:
            for stage in self._stages:
                name = exit_tensor(stage.choice.exit)
                signatures[name] = self._add_prefix(name, stage.choice)
        return self._builder.finish(signatures)

    def static(self, decisions: bool) -> bytes:
        main = self._builder.add_graph("main")
        known, named = self._add_image(main), {}
        for stage in self._stages:
            logits = stage.append(main, known)
            named[f"logits_{stage.choice.exit}"] = logits
            if decisions and stage.choice.policy is not None:
                confidence = stage.decide(main, known)
                named[f"confidence_{stage.choice.exit}"] = confidence
        last = named.pop(f"logits_{self._stages[-1].choice.exit}")
        named = {LOGITS: add_resize(main, last, self._spec.output_size), **named}
        for name, tensor in named.items():
            main.rename(tensor, name)
        main.outputs = list(named.values())
        return self._builder.finish()

    def _add_image(self, graph: GraphBuilder) -> dict[str, int]:
        image = add_image(
            graph, self._piece_graphs.image, self._form.input, self._spec.preprocessing
        )
        return {IMAGE_TENSOR: image}

    def _add_prefix(self, name: str, choice: ExitChoice) -> GraphBuilder:
        """A subgraph up to one exit, without other heads or decisions."""
        graph = self._builder.add_graph(name)
        (stage,) = self._piece_graphs.stages([choice])
        logits = stage.append(graph, self._add_image(graph))
        outputs = self._output_head.append_with_exit(graph, logits, choice.exit)
        self._output_head.set_outputs(graph, outputs)
        return graph

    def _add_stage(
        self, graph: GraphBuilder, known: dict[str, int], at: int
    ) -> list[int]:
        """Builds the stages from index ``at`` on; returns their common outputs."""
        stage = self._stages[at]
        logits = stage.append(graph, known)
        if at == len(self._stages) - 1:
            return self._output_head.append_with_exit(graph, logits, stage.choice.exit)
        leave = self._add_exit_test(graph, known, at)
        carried = carried_beyond(self._stages[at + 1 :])
        if THRESHOLDS in known and at < len(self._stages) - 2:
            carried.append(THRESHOLDS)
        passed = {LOGITS: logits, **{name: known[name] for name in carried}}

        stop = self._builder.add_graph(f"stop_{stage.choice.exit}")
        inside = _add_branch_inputs(graph, stop, passed)
        stop.outputs = self._output_head.append_with_exit(
            stop, inside[LOGITS], stage.choice.exit
        )
        rest = self._builder.add_graph(f"after_{stage.choice.exit}")
        inside = _add_branch_inputs(graph, rest, passed)
        rest.outputs = self._add_stage(rest, inside, at + 1)

        outputs = [
            graph.add_tensor_like(stop.tensors[tensor]) for tensor in stop.outputs
        ]
        graph.add_operator(
            fb.BuiltinOperator.IF,
            1,
            [leave, *dict.fromkeys(passed.values())],
            outputs,
            fb.BuiltinOptions.IfOptions,
            fb.IfOptionsT(thenSubgraphIndex=stop.index, elseSubgraphIndex=rest.index),
        )
        return outputs

    def _add_exit_test(
        self, graph: GraphBuilder, known: dict[str, int], at: int
    ) -> int:
        stage = self._stages[at]
        confidence = stage.decide(graph, known)
        if THRESHOLDS in known:
            limit = _add_element(graph, known[THRESHOLDS], at)
        else:
            threshold = np.array([stage.choice.threshold], np.float32)
            limit = graph.add_tensor(
                "decision_threshold", (1,), "float32", value=threshold
            )
        leave = graph.add_tensor("decision_leave", (1,), "bool")
        graph.add_operator(
            fb.BuiltinOperator.GREATER_EQUAL,
            1,
            [confidence, limit],
            [leave],
            fb.BuiltinOptions.GreaterEqualOptions,
            fb.GreaterEqualOptionsT(),
        )
        return leave


def _add_element(graph: GraphBuilder, vector: int, position: int) -> int:
    begin = np.array([position], np.int32)
    size = np.array([1], np.int32)
    element = graph.add_tensor("decision_threshold", (1,), "float32")
    graph.add_operator(
        fb.BuiltinOperator.SLICE,
        1,
        [
            vector,
            graph.add_tensor("decision_position", (1,), "int32", value=begin),
            graph.add_tensor("decision_one", (1,), "int32", value=size),
        ],
        [element],
        fb.BuiltinOptions.SliceOptions,
        fb.SliceOptionsT(),
    )
    return element


def _add_branch_inputs(
    outer: GraphBuilder, inner: GraphBuilder, passed: dict[str, int]
) -> dict[str, int]:
    """Adds to ``inner`` an input per tensor of ``outer`` that an IF passes to it.

    Two names may be one tensor's.

    Returns:
        Input of ``inner`` by name.
    """
    by_tensor: dict[int, int] = {}
    for name, tensor in passed.items():
        if tensor not in by_tensor:
            by_tensor[tensor] = inner.add_tensor_like(outer.tensors[tensor], name)
    inner.inputs = list(by_tensor.values())
    return {name: by_tensor[tensor] for name, tensor in passed.items()}
