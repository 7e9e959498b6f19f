"""Links chosen pieces into one ``.tflite`` that decides per image where to stop.

The main graph runs up to the first exit and its decision; ``IF(confidence >=
threshold)`` then returns that exit's logits or runs the rest, which is built the same
way. Only tensors that the rest reads pass through an IF. Weights are stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.compile.build import GraphBuilder, ModelBuilder
from mess_tf.compile.schema import Graph, quantization, read_file, scale_of
from mess_tf.compile.small import add_decision, add_resize
from mess_tf.errors import MessError
from mess_tf.files import write_atomically
from mess_tf.records import (
    IMAGE_TENSOR,
    Configuration,
    ExitChoice,
    Pieces,
    SupernetSpec,
    head_name,
    segment_name,
)

LOGITS = "logits"
EXIT = "exit"


def link_configuration(
    pieces: Pieces, spec: SupernetSpec, configuration: Configuration, path: Path
) -> None:
    """Writes a configuration as one file with the signature ``serve``.

    Input ``image`` (1, H, W, 3), outputs ``logits`` (1, oh, ow, classes) on the
    supernet's output grid and ``exit``, int32 (1,): the exit point taken, 1-based.
    float32 or int8 as the pieces are; int8 logits have one scale whatever the exit.

    Args:
        pieces: of ``compile_supernet``.
        spec: of the supernet they come from.
        configuration: exits in order of depth; one exit gives a static file.
        path: to write.

    Raises:
        MessError: a piece is missing or damaged, or the file cannot be written.
    """
    _Linker(pieces, spec, configuration.exits).write_dynamic(path)


def link_static(
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    path: Path,
    upto: int | None = None,
) -> None:
    """Writes the network without decisions that runs all kept heads up to one exit.

    Outputs ``logits`` of that exit on the output grid, and ``logits_<k>`` of the
    earlier kept exits on their own grids, so that nothing computed can be left out.

    Args:
        pieces, spec, configuration, path: as for ``link_configuration``.
        upto: exit point of the configuration to end at; None for the last.

    Raises:
        MessError: as above, or ``upto`` is no exit of the configuration.
    """
    kept = [choice.exit for choice in configuration.exits]
    end = kept[-1] if upto is None else upto
    if end not in kept:
        raise MessError(f"Exit {end} is not in the configuration; its exits: {kept}.")
    choices = configuration.exits[: kept.index(end) + 1]
    _Linker(pieces, spec, choices).write_static(path)


@dataclass(frozen=True)
class _Stage:
    """One exit: the pieces to run before its logits, and what it reads and makes."""

    choice: ExitChoice
    graphs: tuple[Graph, ...]
    reads: frozenset[str]
    makes: frozenset[str] = field(default_factory=frozenset)


class _Linker:
    def __init__(
        self, pieces: Pieces, spec: SupernetSpec, choices: Sequence[ExitChoice]
    ) -> None:
        self._output_size = spec.output_size
        self._graphs: dict[str, Graph] = {}
        self._pieces = pieces
        self._stages = self._plan(choices)
        self._scale = _common_scale([self._head(c) for c in choices])

    def _graph(self, name: str) -> Graph:
        if name not in self._graphs:
            self._graphs[name] = Graph(read_file(self._pieces.path(name)))
        return self._graphs[name]

    def _head(self, choice: ExitChoice) -> Graph:
        return self._graph(head_name(choice.exit, choice.head))

    def _plan(self, choices: Sequence[ExitChoice]) -> list[_Stage]:
        stages, done = [], 0
        for choice in choices:
            names = [segment_name(k) for k in range(done + 1, choice.exit + 1)]
            graphs = [self._graph(name) for name in names] + [self._head(choice)]
            makes = {g.name(t) for g in graphs for t in g.outputs}
            reads = {g.name(t) for g in graphs for t in g.inputs} - makes
            stages.append(
                _Stage(choice, tuple(graphs), frozenset(reads), frozenset(makes))
            )
            done = choice.exit
        return stages

    def write_dynamic(self, path: Path) -> None:
        builder = ModelBuilder()
        main = builder.add_graph("main")
        known = {IMAGE_TENSOR: self._add_image(main)}
        self._add_stage(builder, main, known, 0)
        for tensor, name in zip(main.outputs, (LOGITS, EXIT), strict=True):
            main.rename(tensor, name)
        _write(path, builder)

    def write_static(self, path: Path) -> None:
        builder = ModelBuilder()
        main = builder.add_graph("main")
        known = {IMAGE_TENSOR: self._add_image(main)}
        outputs = []
        for stage in self._stages:
            logits = self._run(main, known, stage)
            outputs.append((f"logits_{stage.choice.exit}", logits))
        outputs[-1] = (LOGITS, add_resize(main, outputs[-1][1], self._output_size))
        for name, tensor in outputs:
            main.rename(tensor, name)
        main.outputs = [tensor for _, tensor in reversed(outputs)]
        _write(path, builder)

    def _add_image(self, graph: GraphBuilder) -> int:
        first = self._graph(segment_name(1))
        image = graph.add_like(first.info(first.tensor(IMAGE_TENSOR)))
        graph.inputs = [image]
        return image

    def _run(self, graph: GraphBuilder, known: dict[str, int], stage: _Stage) -> int:
        """Appends a stage's pieces; ``known`` learns their outputs. Returns logits."""
        logits = -1
        for source in stage.graphs:
            given = {}
            for tensor in source.inputs:
                given[tensor] = known[source.name(tensor)]
                _check_scale(source, tensor, graph.tensors[given[tensor]])
            here = graph.append(source, range(len(source.operators)), given)
            known.update({source.name(t): here[t] for t in source.outputs})
            logits = here[source.outputs[0]]
        return logits

    def _add_stage(
        self, builder: ModelBuilder, graph: GraphBuilder, known: dict[str, int], at: int
    ) -> None:
        """Builds stage ``at`` and all after it; sets the graph's outputs."""
        stage = self._stages[at]
        logits = self._run(graph, known, stage)
        if at == len(self._stages) - 1:
            graph.outputs = self._answer(graph, logits, stage.choice)
            return
        leave = self._add_test(graph, logits, stage.choice)
        later = self._stages[at + 1 :]
        made_later: set[str] = set()
        carried: list[str] = []
        for following in later:
            carried += sorted(following.reads - made_later - set(carried))
            made_later |= following.makes
        passed = {LOGITS: logits, **{name: known[name] for name in carried}}

        stop = builder.add_graph(f"stop_{stage.choice.exit}")
        inside = _receive(graph, stop, passed)
        stop.outputs = self._answer(stop, inside[LOGITS], stage.choice)
        rest = builder.add_graph(f"after_{stage.choice.exit}")
        inside = _receive(graph, rest, passed)
        self._add_stage(builder, rest, inside, at + 1)

        outputs = [graph.add_twin(stop.tensors[tensor]) for tensor in stop.outputs]
        graph.add_operator(
            fb.BuiltinOperator.IF,
            1,
            [leave, *passed.values()],
            outputs,
            fb.BuiltinOptions.IfOptions,
            fb.IfOptionsT(thenSubgraphIndex=stop.index, elseSubgraphIndex=rest.index),
        )
        graph.outputs = outputs

    def _add_test(self, graph: GraphBuilder, logits: int, choice: ExitChoice) -> int:
        confidence = add_decision(graph, logits, str(choice.policy))
        threshold = np.array([choice.threshold], np.float32)
        limit = graph.add_tensor("threshold", (1,), "float32", value=threshold)
        leave = graph.add_tensor("leave", (1,), "bool")
        graph.add_operator(
            fb.BuiltinOperator.GREATER_EQUAL,
            1,
            [confidence, limit],
            [leave],
            fb.BuiltinOptions.GreaterEqualOptions,
            fb.GreaterEqualOptionsT(),
        )
        return leave

    def _answer(
        self, graph: GraphBuilder, logits: int, choice: ExitChoice
    ) -> list[int]:
        """Logits on the output grid in the common scale, and the exit's number."""
        answer = add_resize(graph, logits, self._output_size)
        if self._scale is not None and scale_of(graph.tensors[answer]) != self._scale:
            shape = graph.tensors[answer].shape
            common = quantization(*self._scale)
            requantised = graph.add_tensor("answer", shape, "int8", common)
            graph.add_quantize(answer, requantised)
            answer = requantised
        number = np.array([choice.exit], np.int32)
        return [answer, graph.add_tensor("exit_number", (1,), "int32", value=number)]


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


def _check_scale(source: Graph, tensor: int, here: Any) -> None:
    info = source.info(tensor)
    if info.scale and (info.scale, info.zero_point) != scale_of(here):
        raise MessError(
            f"Pieces disagree on the scale of {info.name!r}: they come from different"
            " conversions; run `mess compile` again."
        )


def _receive(
    outer: GraphBuilder, inner: GraphBuilder, passed: dict[str, int]
) -> dict[str, int]:
    """Gives ``inner`` one input per passed tensor of ``outer``."""
    inside = {
        name: inner.add_twin(outer.tensors[tensor], name)
        for name, tensor in passed.items()
    }
    inner.inputs = list(inside.values())
    return inside


def _write(path: Path, builder: ModelBuilder) -> None:
    content = builder.finish()
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)
