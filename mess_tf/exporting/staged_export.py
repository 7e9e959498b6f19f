"""A configuration as one file per exit stage and a plan, for delegates without IF.

Delegates for GPUs and NPUs run a straight graph or nothing. So every stage (segments
and head up to the next exit) is a separate file, without decision; the small decision
and the output head are files too, meant for the CPU. The plan says what feeds
what and when to stop; ``mess_tf.runtime.stage_plan`` follows it, and so can any app.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.files import write_file
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.core.pieces import Pieces, TensorInfo
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.exit_stages import ExitStage, PieceGraphs, carried_beyond
from mess_tf.exporting.model_io import add_image
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.output_head import OutputHead
from mess_tf.flatbuffer.graph_builder import GraphBuilder, ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.runtime.signature_names import CONFIDENCE
from mess_tf.runtime.stage_plan import PlannedStage, StagePlan


def link_stages(
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    folder: Path,
    form: ExportForm | None = None,
) -> StagePlan:
    """Writes ``plan.json`` and the files that it names.

    Args:
        pieces: of ``compile_supernet``.
        spec: of the supernet they come from.
        configuration: exits in order of depth.
        folder: to write into.
        form: types and contents of image and answer.

    Raises:
        MessError: a piece is missing or damaged, or a file cannot be written.
        UsageError: a form that does not go with the pieces.
    """
    return _write(pieces, spec, configuration.exits, folder, form)


def link_progressive(
    pieces: Pieces,
    spec: SupernetSpec,
    heads: Sequence[tuple[int, str]],
    folder: Path,
    form: ExportForm | None = None,
) -> StagePlan:
    """Writes a plan in which every exit answers: for the anytime setting.

    No stage decides anything. Whoever follows the plan takes each answer as it comes,
    and stops when the time is up.

    Args:
        heads: (exit index, head id) in order of depth.

    Others, and raises: as ``link_stages``.
    """
    choices = [ExitChoice(exit_index, head_id) for exit_index, head_id in heads]
    return _write(pieces, spec, choices, folder, form)


def _write(
    pieces: Pieces,
    spec: SupernetSpec,
    choices: Sequence[ExitChoice],
    folder: Path,
    form: ExportForm | None,
) -> StagePlan:
    form = form or ExportForm("stages")
    form.check(pieces.precision, len(spec.classes))
    plan, files = _StageWriter(pieces, spec, choices, form).write()
    for name, content in files.items():
        write_file(folder / name, content)
    plan.save(folder)
    return plan


class _StageWriter:
    def __init__(
        self,
        pieces: Pieces,
        spec: SupernetSpec,
        choices: Sequence[ExitChoice],
        form: ExportForm,
    ) -> None:
        self._form, self._spec = form, spec
        self._piece_graphs = PieceGraphs(pieces, spec)
        self._stages = self._piece_graphs.stages(choices)
        self._output_head = OutputHead(self._piece_graphs, choices, form)
        self._files: dict[str, bytes] = {}
        self._tensors: dict[str, TensorInfo] = {}

    def write(self) -> tuple[StagePlan, dict[str, bytes]]:
        planned = []
        for at, stage in enumerate(self._stages):
            exit_index, policy = stage.choice.exit, stage.choice.policy
            inputs, outputs = self._add_stage(at)
            logits = self._tensors[stage.logits]
            answer = self._add_answer(f"answer_{exit_index}.tflite", logits)
            decision = None
            if policy is not None:
                decision = f"decision_{exit_index}.tflite"
                self._add_decision(decision, stage)
            planned.append(
                PlannedStage(
                    exit=exit_index,
                    file=f"stage_{exit_index}.tflite",
                    inputs=inputs,
                    outputs=outputs,
                    logits=stage.logits,
                    decision=decision,
                    compares=tuple(sorted(stage.compares)),
                    policy=policy,
                    threshold=stage.choice.threshold,
                    answer=answer,
                )
            )
        return StagePlan(tuple(planned)), self._files

    def _add_stage(
        self, at: int
    ) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Writes a stage's file; returns its inputs and outputs."""
        stage = self._stages[at]
        builder = ModelBuilder()
        graph = builder.add_graph(f"stage_{stage.choice.exit}")
        known = self._add_branch_inputs(graph, stage)
        stage.append(graph, known)
        later = self._stages[at + 1 :]
        read = {*carried_beyond(later), *stage.compares} - {stage.logits}
        passed_on = sorted(read & stage.makes)
        for name in (stage.logits, *passed_on):
            graph.rename(known[name], name)
        graph.outputs = [known[name] for name in (stage.logits, *passed_on)]
        made = self._finish(f"stage_{stage.choice.exit}.tflite", builder)
        outputs = tuple(made.info(tensor) for tensor in made.outputs)
        self._tensors.update({info.name: info for info in outputs})
        return tuple(made.info(tensor) for tensor in made.inputs), outputs

    def _add_branch_inputs(
        self, graph: GraphBuilder, stage: ExitStage
    ) -> dict[str, int]:
        known = {}
        if IMAGE_TENSOR in stage.reads:
            known[IMAGE_TENSOR] = add_image(
                graph,
                self._piece_graphs.image,
                self._form.input,
                self._spec.preprocessing,
            )
        for name in sorted(stage.reads - {IMAGE_TENSOR}):
            known[name] = graph.add_tensor_from_info(self._tensors[name])
            graph.inputs = [*graph.inputs, known[name]]
        return known

    def _add_decision(self, file: str, stage: ExitStage) -> None:
        builder = ModelBuilder()
        graph = builder.add_graph("decision")
        read = (stage.logits, *sorted(stage.compares))
        known = {name: graph.add_tensor_from_info(self._tensors[name]) for name in read}
        confidence = stage.decide(graph, known)
        graph.rename(confidence, CONFIDENCE)
        graph.inputs, graph.outputs = list(known.values()), [confidence]
        self._finish(file, builder)

    def _add_answer(self, name: str, logits: TensorInfo) -> str | None:
        """Writes the output head of an exit; None if its logits are the output."""
        builder = ModelBuilder()
        graph = builder.add_graph("answer")
        given = graph.add_tensor_from_info(logits)
        graph.inputs = [given]
        self._output_head.set_outputs(graph, self._output_head.append(graph, given))
        if graph.outputs == graph.inputs:
            return None
        self._finish(name, builder)
        return name

    def _finish(self, name: str, builder: ModelBuilder) -> Graph:
        self._files[name] = builder.finish()
        return Graph(read_model(self._files[name], name))


def stage_files(plan: StagePlan) -> Sequence[str]:
    """Names of all files that a plan refers to."""
    named = [(s.file, s.decision, s.answer) for s in plan.stages]
    return [name for names in named for name in names if name is not None]
