"""Graphs of exit decisions, and of resizing logits to the output grid.

They have no weights, but for decisions that compare with another head, which they
contain. On int8 networks they start from the int8 logits, as in a linked file: the
decision dequantises a small map and continues in float (an int8 softmax has steps of
1/256, so a threshold of 0.999 could never be met), the resize stays int8. As pieces
they have a placeholder scale, which costs the same as a head's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import decision_name, output_name
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.flatbuffer.graph_builder import GraphBuilder, ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.flatbuffer.schema import per_tensor_quantization
from mess_tf.policies.confidence import confidence_ops
from mess_tf.policies.registry import Policy
from mess_tf.runtime.signature_names import CONFIDENCE

LOGITS = "logits"
REFERENCE = "reference"
DECISION = "decision_"  # before the names of a decision's tensors
PLACEHOLDER_SCALE = 0.1
_LEAST_SMOOTHED = 2  # MIRROR_PAD adds at most a side's length
PLACEHOLDER_PIXEL_THRESHOLD = 0.9


@functools.lru_cache(maxsize=64)
def decision_graph(
    policy: str,
    size: tuple[int, int],
    classes: int,
    parameters: tuple[float, ...] = (),
    reference_size: tuple[int, int] | None = None,
) -> Graph:
    """Float graph logits (1, h, w, classes) -> confidence (1,) of a policy key.

    A policy that compares has a second input, ``reference``.

    Args:
        policy: its key.
        size: (h, w).
        classes: how many.
        parameters: of a fitted policy, for one head; they become constants.
        reference_size: (h', w') of the logits that a policy compares with.

    Raises:
        MessError: a grid or a number of parameters that the policy cannot work with.
    """
    # TensorFlow is needed here alone; a linker of finished pieces starts without it.
    from mess_tf.converting.convert import InputSpec, convert_function

    parsed = Policy.parse(policy)
    parsed.check_parameters(classes, len(parameters))
    if parsed.family == "eq7+9" and min(size) < _LEAST_SMOOTHED:
        raise MessError(
            "Policy eq7+9 smooths over 5x5 cells; a head's grid has"
            f" {size[0]}x{size[1]}, and it needs at least"
            f" {_LEAST_SMOOTHED}x{_LEAST_SMOOTHED}. Take larger images, a smaller"
            " output stride, or leave eq7+9 out of the recipe's statistics.policies."
        )

    fitted = np.array(parameters, np.float32)

    def function(logits: Any, reference: Any = None) -> list[Any]:
        return [confidence_ops(parsed, logits, fitted, reference)]

    specs = [InputSpec(LOGITS, (1, *size, classes))]
    if reference_size is not None:
        specs.append(InputSpec(REFERENCE, (1, *reference_size, classes)))
    content = convert_function(function, specs, [CONFIDENCE], "float32")
    return Graph(read_model(content, f"the decision {policy}"))


def confidences_file(
    policies: Sequence[str],
    size: tuple[int, int],
    classes: int,
    reference_size: tuple[int, int] | None = None,
) -> bytes:
    """Flatbuffer of several policies at once: float logits -> a confidence per key.

    These are the operators of the decisions in a linked file, so that an image whose
    confidence lies at a threshold leaves at the same exit in both. Outputs are named
    by policy key. The parameters of fitted families are inputs of shape (P,), named by
    ``parameters_input``, so that one file serves all heads of a size. Policies that
    compare read the float logits ``reference``, of the grid ``reference_size``.
    """
    from mess_tf.converting.convert import InputSpec, convert_function

    parsed = [Policy.parse(policy) for policy in policies]
    fitted = {p.family: p.parameters(classes) for p in parsed if p.parameters(classes)}

    specs = [InputSpec(LOGITS, (1, *size, classes))]
    specs += [InputSpec(parameters_input(f), (n,)) for f, n in fitted.items()]
    if reference_size is not None:
        specs.append(InputSpec(REFERENCE, (1, *reference_size, classes)))

    def function(*tensors: Any) -> list[Any]:
        given = {spec.name: t for spec, t in zip(specs, tensors, strict=True)}
        return [
            confidence_ops(
                p,
                given[LOGITS],
                given.get(parameters_input(p.family), ()),
                given.get(REFERENCE),
            )
            for p in parsed
        ]

    return convert_function(function, specs, list(policies), "float32")


def parameters_input(family: str) -> str:
    """Name of the input for a fitted family's parameters."""
    return f"parameters_{family}"


def with_pixel_threshold(policy: str) -> str:
    """The policy key, completed by a placeholder pixel threshold where it needs one."""
    from mess_tf.policies.registry import POLICIES

    family = POLICIES.get(policy)
    if family is not None and family.needs_pixel_threshold:
        return f"{policy}@{PLACEHOLDER_PIXEL_THRESHOLD}"
    return policy


def placeholder_parameters(policy: str, classes: int) -> tuple[float, ...]:
    """Placeholder parameters of a fitted policy, where only its latency matters.

    No two are equal, so that the converter can leave nothing out.
    """
    count = Policy.parse(policy).parameters(classes)
    return tuple(np.linspace(1.25, 1.75, count).tolist())


def add_decision(
    graph: GraphBuilder,
    logits: int,
    policy: str,
    parameters: tuple[float, ...] = (),
    reference: int | None = None,
) -> int:
    """Appends a policy's decision on a logits tensor; returns the confidence.

    Args:
        reference: the other head's logits, for a policy that compares.
    """
    *_, classes = graph.tensors[logits].shape
    size = _grid(graph, logits)
    other = None if reference is None else _grid(graph, reference)
    source = decision_graph(policy, size, int(classes), parameters, other)
    given = {source.tensor(LOGITS): _as_float(graph, logits, LOGITS)}
    if reference is not None:
        given[source.tensor(REFERENCE)] = _as_float(graph, reference, REFERENCE)
    here = graph.append(source, range(len(source.operators)), given, DECISION)
    return here[source.tensor(CONFIDENCE)]


def _grid(graph: GraphBuilder, logits: int) -> tuple[int, int]:
    _, height, width, _ = graph.tensors[logits].shape
    return int(height), int(width)


def _as_float(graph: GraphBuilder, logits: int, name: str) -> int:
    """The tensor if it is float32, else its dequantised values."""
    tensor = graph.tensors[logits]
    if tensor.type == fb.TensorType.FLOAT32:
        return logits
    values = graph.add_tensor(f"{DECISION}{name}", tensor.shape, "float32")
    graph.add_dequantize(logits, values)
    return values


def add_resize(graph: GraphBuilder, logits: int, size: tuple[int, int]) -> int:
    """Appends a bilinear half-pixel resize to ``size`` unless the tensor has it."""
    tensor = graph.tensors[logits]
    batch, height, width, classes = (int(n) for n in tensor.shape)
    if (height, width) == tuple(size):
        return logits
    target = np.array(size, np.int32)
    target_id = graph.add_tensor("output_size", (2,), "int32", value=target)
    dtype = "float32" if tensor.type == fb.TensorType.FLOAT32 else "int8"
    resized = graph.add_tensor(
        "resized_logits", (batch, *size, classes), dtype, tensor.quantization
    )
    graph.add_operator(
        fb.BuiltinOperator.RESIZE_BILINEAR,
        3,  # the first version with half-pixel centres
        [logits, target_id],
        [resized],
        fb.BuiltinOptions.ResizeBilinearOptions,
        fb.ResizeBilinearOptionsT(alignCorners=False, halfPixelCenters=True),
    )
    return resized


def decision_piece(
    policy: str,
    size: tuple[int, int],
    classes: int,
    precision: Precision,
    reference: Graph | None = None,
) -> bytes:
    """Flatbuffer of a decision alone: logits -> confidence float32 (1,).

    A family that needs a pixel threshold or fitted parameters gets placeholders: they
    are constants and change no latency.

    Args:
        reference: the head that a policy compares with. It is part of the decision,
            whose further inputs are the features that this head reads.
    """
    policy = with_pixel_threshold(policy)
    builder = ModelBuilder()
    graph = builder.add_graph(decision_name(policy, size))
    logits = _add_logits(graph, size, classes, precision)
    parameters = placeholder_parameters(policy, classes)
    graph.inputs, other = [logits], None
    if reference is not None:
        known = {
            t: graph.add_tensor_from_info(reference.info(t)) for t in reference.inputs
        }
        graph.inputs += known.values()
        other = add_reference(graph, reference, known)
    confidence = add_decision(graph, logits, policy, parameters, other)
    graph.rename(confidence, CONFIDENCE)
    graph.outputs = [confidence]
    return builder.finish()


def add_reference(graph: GraphBuilder, head: Graph, known: Mapping[int, int]) -> int:
    """Appends the head that a decision compares with; returns its logits.

    Args:
        known: the head's inputs, their ids in ``graph``.
    """
    here = graph.append(head, range(len(head.operators)), known, DECISION)
    return here[head.outputs[0]]


def output_piece(
    size: tuple[int, int],
    output_size: tuple[int, int],
    classes: int,
    precision: Precision,
) -> bytes:
    """Flatbuffer of the resize alone: from the grid ``size`` to ``output_size``."""
    builder = ModelBuilder()
    graph = builder.add_graph(output_name(size))
    logits = _add_logits(graph, size, classes, precision)
    resized = add_resize(graph, logits, output_size)
    graph.inputs, graph.outputs = [logits], [resized]
    return builder.finish()


def _add_logits(
    graph: GraphBuilder, size: Sequence[int], classes: int, precision: Precision
) -> int:
    if not has_int8_activations(precision):
        return graph.add_tensor(LOGITS, (1, *size, classes), "float32")
    scale = per_tensor_quantization(PLACEHOLDER_SCALE, 0)
    return graph.add_tensor(LOGITS, (1, *size, classes), "int8", scale)
