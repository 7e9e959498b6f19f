"""Pieces beside segments and heads: exit decisions, resizes of logits, probes.

Probes are linked networks that are measured like pieces; the latency of a linked file
is composed by them (``mess_tf.compiling.latency_composition``).
"""

from __future__ import annotations

from collections.abc import Sequence

from mess_tf.compiling.latency_composition import probe_policy
from mess_tf.compiling.piece_folder import PieceWriter
from mess_tf.converting.decision_graphs import (
    decision_piece,
    output_piece,
    placeholder_parameters,
    with_pixel_threshold,
)
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.piece_names import (
    WHOLE_PROBE,
    branch_probe,
    decision_name,
    output_name,
    single_probe,
)
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.exit_stages import PieceGraphs
from mess_tf.exporting.linking import link_configuration
from mess_tf.policies.comparison_exit import reference_exit
from mess_tf.policies.registry import POLICIES, Policy, family_of


def add_auxiliary(
    spec: SupernetSpec, writer: PieceWriter, policies: Sequence[str]
) -> None:
    """Adds decisions, output resizes and probes to a folder of segments and heads.

    Args:
        spec: structure of the supernet.
        writer: holds all segments and heads of the spec.
        policies: policy keys or families, as for ``compile_supernet``.

    Raises:
        MessError: a policy that does not work on a head's grid, or a failed check.
    """
    families = {family_of(policy): policy for policy in policies}
    compare = {name for name in families if POLICIES[name].compares}
    alone = [policy for name, policy in families.items() if name not in compare]
    _add_decisions_and_resizes(spec, writer, alone)
    for family in sorted(compare):
        _add_comparisons(spec, writer, family)
    _add_probes(spec, writer, alone)


def _add_decisions_and_resizes(
    spec: SupernetSpec, writer: PieceWriter, policies: Sequence[str]
) -> None:
    classes = len(spec.classes)
    sizes = {
        spec.head_size(point.index, head)
        for point, heads in zip(spec.exit_points, spec.heads, strict=True)
        for head in heads
    }
    for size in sorted(sizes):
        for policy in policies:
            content = decision_piece(policy, size, classes, writer.precision)
            writer.add(decision_name(policy, size), "decision", content)
        if size != spec.output_size:
            content = output_piece(size, spec.output_size, classes, writer.precision)
            writer.add(output_name(size), "output", content)


def _add_comparisons(spec: SupernetSpec, writer: PieceWriter, family: str) -> None:
    """Adds the decisions of a family that compares; they contain the other head."""
    piece_graphs = PieceGraphs(writer.written(), spec)
    done = set()
    for point, heads in zip(spec.exit_points, spec.heads, strict=True):
        reference = reference_exit(spec, point.index)
        if reference is None:
            continue
        policy = Policy(family, reference=reference).key
        for size in sorted({spec.head_size(point.index, head) for head in heads}):
            if (name := decision_name(policy, size)) not in done:
                head = piece_graphs.reference(reference)
                content = decision_piece(
                    policy, size, len(spec.classes), writer.precision, head
                )
                writer.add(name, "decision", content)
                done.add(name)


def _add_probes(
    spec: SupernetSpec, writer: PieceWriter, policies: Sequence[str]
) -> None:
    """Adds per exit the network that ends there, and the final one behind an IF."""
    policy = with_pixel_threshold(probe_policy(family_of(p) for p in policies))
    parameters = placeholder_parameters(policy, len(spec.classes))
    final = ExitChoice(spec.exit_points[-1].index, spec.final_head.id)
    never = 2.0  # no confidence reaches it: the branch behind the exit always runs
    probes: dict[str, tuple[ExitChoice, ...]] = {WHOLE_PROBE: (final,)}
    for point, heads in zip(spec.exit_points[:-1], spec.heads, strict=False):
        if heads:
            index, head = point.index, heads[0].id
            probes[single_probe(index)] = (ExitChoice(index, head),)
            asked = ExitChoice(index, head, policy, never, parameters)
            probes[branch_probe(index)] = (asked, final)
    pieces = writer.written()
    for name, choices in probes.items():
        path = writer.folder / f"{name}.tflite"
        link_configuration(pieces, spec, Configuration(choices), path)
        writer.add(name, "probe", path.read_bytes())
