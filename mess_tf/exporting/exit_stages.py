"""Exit stages of a configuration: the pieces between one chosen exit and the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as fb

from mess_tf.converting.decision_graphs import add_decision, add_reference
from mess_tf.core.configuration import ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR, head_name, segment_name
from mess_tf.core.pieces import Pieces, TensorInfo
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.flatbuffer.graph_builder import GraphBuilder
from mess_tf.flatbuffer.reader import Graph, read_file, scale_of
from mess_tf.policies.comparison_exit import reference_head
from mess_tf.policies.registry import Policy


@dataclass(frozen=True)
class ExitStage:
    """The subnetwork between one chosen exit and the next: segments and a head.

    Attributes:
        choice: the exit at its end.
        graphs: segments in order, then the exit's head.
        reads: tensors of earlier stages that it takes, by name.
        makes: tensors that later stages may take, and the logits, by name.
        compares: tensors that the decision takes beside the logits, by name.
        reference: head that the decision has to run on them; None where the policy
            compares with nothing, or with logits that an earlier stage has made.
    """

    choice: ExitChoice
    graphs: tuple[Graph, ...]
    reads: frozenset[str]
    makes: frozenset[str]
    compares: frozenset[str]
    reference: Graph | None

    @property
    def logits(self) -> str:
        """Name of the head's output."""
        return head_name(self.choice.exit, self.choice.head)

    def append(self, graph: GraphBuilder, known: dict[str, int]) -> int:
        """Appends the stage's pieces; ``known`` learns their outputs.

        Args:
            graph: to append to.
            known: tensors by name, their ids in ``graph``.

        Returns:
            The logits.

        Raises:
            MessError: pieces of different conversions.
        """
        logits = -1
        for source in self.graphs:
            given = _given(source, graph, known)
            here = graph.append(source, range(len(source.operators)), given)
            known.update({source.name(t): here[t] for t in source.outputs})
            logits = here[source.outputs[0]]
        return logits

    def decide(self, graph: GraphBuilder, known: dict[str, int]) -> int:
        """Appends the decision; returns the confidence.

        Args:
            graph: to append to.
            known: the logits and what is compared with, their ids in ``graph``.
        """
        other = None
        if self.reference is not None:
            given = _given(self.reference, graph, known)
            other = add_reference(graph, self.reference, given)
        elif self.compares:
            (name,) = self.compares
            other = known[name]
        choice = self.choice
        return add_decision(
            graph, known[self.logits], str(choice.policy), choice.parameters, other
        )


class PieceGraphs:
    """Parsed graphs of a folder's pieces, each read once."""

    def __init__(self, pieces: Pieces, spec: SupernetSpec) -> None:
        self.spec = spec
        self.pieces = pieces
        self._graphs: dict[str, Graph] = {}

    def head(self, choice: ExitChoice) -> Graph:
        """The graph of an exit's head."""
        return self._graph(head_name(choice.exit, choice.head))

    @property
    def image(self) -> TensorInfo:
        """The image as the first segment takes it."""
        first = self._graph(segment_name(1))
        return first.info(first.tensor(IMAGE_TENSOR))

    def stages(self, choices: Sequence[ExitChoice]) -> list[ExitStage]:
        """One stage per chosen exit, in order of depth."""
        stages, done = [], 0
        made: set[str] = set()
        for choice in choices:
            names = [segment_name(k) for k in range(done + 1, choice.exit + 1)]
            graphs = [self._graph(name) for name in names] + [self.head(choice)]
            makes = {g.name(t) for g in graphs for t in g.outputs}
            reads = {g.name(t) for g in graphs for t in g.inputs} - makes
            compares, reference = self._compared(choice, made)
            stages.append(
                ExitStage(
                    choice,
                    tuple(graphs),
                    frozenset(reads),
                    frozenset(makes),
                    frozenset(compares),
                    reference,
                )
            )
            done = choice.exit
            made |= makes
        return stages

    def reference(self, exit_index: int) -> Graph:
        """The graph of the head of an exit that others are compared with."""
        head = reference_head(self.spec, exit_index)
        return self._graph(head_name(exit_index, head.id))

    def _compared(
        self, choice: ExitChoice, made: set[str]
    ) -> tuple[set[str], Graph | None]:
        """(tensors a decision takes beside its logits, head it runs on them or None).

        Args:
            made: what earlier stages have made.
        """
        policy = None if choice.policy is None else Policy.parse(choice.policy)
        if policy is None or policy.reference is None:
            return set(), None
        if not 1 <= policy.reference < choice.exit:
            raise MessError(
                f"Exit {choice.exit} has no policy {policy.key!r}: an exit is compared"
                " with an earlier one."
            )
        head = self.reference(policy.reference)
        logits = head.name(head.outputs[0])
        if logits in made:
            return {logits}, None
        return {head.name(tensor) for tensor in head.inputs}, head

    def _graph(self, name: str) -> Graph:
        if name not in self._graphs:
            self._graphs[name] = Graph(read_file(self.pieces.path(name)))
        return self._graphs[name]


def carried_beyond(later: Sequence[ExitStage]) -> list[str]:
    """Tensors that the stages ``later`` take and do not make themselves."""
    made: set[str] = set()
    carried: list[str] = []
    for stage in later:
        carried += sorted(stage.reads - made - set(carried))
        made |= stage.makes
        carried += sorted(stage.compares - made - set(carried))
    return carried


def _given(
    source: Graph, graph: GraphBuilder, known: Mapping[str, int]
) -> dict[int, int]:
    """A piece's inputs, their ids in ``graph``."""
    given = {tensor: known[source.name(tensor)] for tensor in source.inputs}
    for tensor, here in given.items():
        _check_scale(source, tensor, graph.tensors[here])
    return given


def _check_scale(source: Graph, tensor: int, here: fb.TensorT) -> None:
    info = source.info(tensor)
    if info.scale and (info.scale, info.zero_point) != scale_of(here):
        raise MessError(
            f"Pieces disagree on the scale of {info.name!r}: they come from different"
            " conversions; run `mess compile` again."
        )
