"""A network that was brought along, as a backbone like the built-in ones.

What is stored of it (``SupernetSpec.backbone_options``) is plain data: Keras'
configuration of its flat graph, in two parts. The *body* leads from the image to the
final exit point; the *end*, if the network segments already, from there to its logits:
the head ``own`` of the final exit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from mess_tf.core.errors import MessError
from mess_tf.core.files import UNREADABLE
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.models.exit_candidates import (
    CutPoint,
    Operation,
    cut_before_head,
    find_cut_points,
    read_operations,
    spaced_cut_points,
    stride_of,
)
from mess_tf.models.flatten import Copier, output_of

ADOPTED = "adopted"
"""Name of such backbones in ``SupernetSpec.backbone``."""

NEAR_END = 0.02
"""Part of a network's MACs within which its end begins at the smallest tensor."""
LARGEST_END = 0.25
"""Part of a network's MACs: an end with more is no head but half the network."""


def open_model(path: Path) -> keras.Model:
    """Reads a ``.keras`` file in Keras' safe mode: no code in it is run.

    Raises:
        MessError: no such file, broken, or with layers that are not known here.
    """
    if not path.is_file():
        raise MessError(f"No network at {path}; give a file that model.save() wrote.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (*UNREADABLE, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MessError(
            f"{path} cannot be opened: {reason} A network with layers of your own has"
            " to be flattened in Python first: mess_tf.flatten(model).save(...)."
        ) from error


@dataclass(frozen=True, eq=False)
class _SplitNetwork:
    """A flat network with its places for exits.

    Attributes:
        operations: up to its logits, or to its features.
        cuts: in order of depth.
        last: where the final exit point is.
        features: Keras tensor of ``last``.
        logits: Keras tensor of the network's own logits; None where it has no end.
    """

    operations: list[Operation]
    cuts: list[CutPoint]
    last: CutPoint
    features: Any
    logits: Any


def network_options(
    flat: keras.Model,
    preprocessing: Preprocessing,
    *,
    own_end: bool,
    exits: int | None,
    logits_stride: int | None,
) -> dict[str, Any]:
    """What has to be stored of a network to build it as a backbone.

    Args:
        flat: of ``flatten``.
        preprocessing: how it takes images.
        own_end: whether it ends in logits; else its output is the last features.
        exits: exit points that will be placed: cuts nearer than a quarter of a step
            are thinned out. None keeps all.
        logits_stride: cuts on finer grids are left out; None is the end's own stride,
            or 4.

    Raises:
        MessError: it ends in no map, or there is no place for a final exit.
    """
    split = _with_end(flat) if own_end else _without_end(flat)
    image = split.operations[0].grid
    strides = {
        c.operation: stride_of(split.operations[c.operation], image) or 0
        for c in split.cuts
    }
    end_stride = None
    if split.logits is not None:
        end_stride = stride_of(split.operations[-1], image)
    least = logits_stride or end_stride or 4
    fitting = [c for c in split.cuts if strides[c.operation] % least == 0]
    near = split.last.macs / (4 * exits) if exits else 0.0
    kept = spaced_cut_points(fitting, split.last, near)
    features = keras.Model(flat.input, split.features)
    depthwise = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    options: dict[str, Any] = {
        "name": flat.name,
        "body": keras.saving.serialize_keras_object(features),
        "end": None,
        "end_stride": end_stride,
        "coarsest": max(strides.values()),
        "cuts": [
            [split.operations[c.operation].name, strides[c.operation]] for c in kept
        ],
        "size": None,
        "mobile": any(isinstance(layer, depthwise) for layer in flat.layers),
        "wide": split.features.shape[-1] >= 1024,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }
    if split.logits is not None:
        given = keras.Input(split.features.shape[1:], name="features")
        (own,) = Copier().copy([split.logits], {id(split.features): given})
        end = keras.Model(given, own, name="end")
        options["end"] = keras.saving.serialize_keras_object(end)
        options["classes"] = int(own.shape[-1])
    if not _works_at_other_sizes(options, image or (0, 0)):
        options["size"] = list(image or ())
    return options


def build_body(image: Any, options: Mapping[str, Any]) -> list[tuple[Any, int]]:
    """The body on an image, randomly initialised: (tensor, stride) per cut."""
    body = _read(options["body"])
    tensors = [output_of(body, name) for name, _ in options["cuts"]]
    built = Copier().copy(tensors, {id(body.inputs[0]): image})
    return [(t, s) for t, (_, s) in zip(built, options["cuts"], strict=True)]


def build_end(features: Any, options: Mapping[str, Any], name: str) -> Any:
    """The network's own end on features: its logits, as a layer called ``name``."""
    end = _read(options["end"])
    (logits,) = Copier().copy(end.outputs, {id(end.inputs[0]): features})
    return keras.layers.Activation("linear", name=name)(logits)


def copy_weights(
    flat: keras.Model, supernet: keras.Model, options: Mapping[str, Any]
) -> None:
    """Fills body and end of a supernet with the weights of the network it is made of.

    Args:
        flat: the network.
        supernet: may lack what no exit needs.
        options: it was built from.

    Raises:
        MessError: it is made of another network.
    """
    own = {layer.name: layer for layer in flat.layers}
    parts = [options["body"], options["end"]]
    ours = {row["name"] for part in parts if part for row in part["config"]["layers"]}
    for layer in supernet.layers:
        if not layer.weights or layer.name not in ours:
            continue
        values = own[layer.name].get_weights() if layer.name in own else []
        if [v.shape for v in values] != [tuple(w.shape) for w in layer.weights]:
            raise MessError(
                f"Layer {layer.name!r} is not in {flat.name!r} with the same weights:"
                " the file holds another network than the one that was adopted."
            )
        layer.set_weights(values)


def _read(config: Mapping[str, Any]) -> Any:
    # Keras takes what it reads out of the configuration.
    own = copy.deepcopy(config)
    return keras.saving.deserialize_keras_object(own, safe_mode=True)


def _without_end(flat: keras.Model) -> _SplitNetwork:
    operations = read_operations(flat)
    operation = flat.output._keras_history.operation
    if stride_of(operations[-1], operations[0].grid) is None:
        raise MessError(
            f"Model {flat.name!r} ends in {operation.name!r} of shape"
            f" {tuple(flat.output.shape)}, which is no map of features with a whole"
            f" number of pixels per cell at {operations[0].grid}. End it before its"
            " classifier (include_top=False), or take another image size."
        )
    last = CutPoint(
        operation=len(operations) - 1,
        live=(len(operations) - 1,),
        macs=sum(operation.macs for operation in operations),
        size=operations[-1].size,
    )
    return _SplitNetwork(
        operations, [*find_cut_points(operations), last], last, flat.output, None
    )


def _with_end(flat: keras.Model) -> _SplitNetwork:
    """Parts a segmenting network; its end is as small as it can be.

    Bilinear enlarging at the very end is left out: outside of the exits, all logits are
    brought to the answer's size alike. It is kept where it is all that could be an end.
    """
    logits, enlarged = _logits_of(flat)
    for own in (logits, enlarged):
        if own is None:
            continue
        operations = read_operations(keras.Model(flat.input, own))
        if stride_of(operations[-1], operations[0].grid) is None:
            continue
        total = sum(operation.macs for operation in operations)
        cuts = find_cut_points(operations)
        last = cut_before_head(cuts, NEAR_END * total)
        if last is not None and last.macs >= (1 - LARGEST_END) * total:
            kept = [cut for cut in cuts if cut.operation <= last.operation]
            features = output_of(flat, operations[last.operation].name)
            return _SplitNetwork(operations, kept, last, features, own)
    operation = logits._keras_history.operation
    raise MessError(
        f"Layer {operation.name!r} ({type(operation).__name__}) of {flat.name!r} cannot"
        f" be the end of an adopted network: its output {tuple(logits.shape)} must have"
        f" a whole number of pixels per cell at {flat.inputs[0].shape[1:3]}, and a map"
        " that all paths lead through must come shortly before it. Where it joins"
        " paths, end the network with a convolution or bilinear UpSampling2D."
    )


def _logits_of(flat: keras.Model) -> tuple[Any, Any]:
    """(logits, the same enlarged or None), without softmax.

    Raises:
        MessError: the network ends in no map of two classes or more.
    """
    tensor, enlarged = flat.output, None
    while True:
        operation = tensor._keras_history.operation
        if _only_answers(operation):
            tensor = operation.input
        elif _enlarges(operation):
            enlarged, tensor = tensor, operation.input
        else:
            break
    activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
    if activation == "softmax":
        # The layer is a copy of ours; the same kernel gives logits without it.
        operation.activation = keras.activations.linear
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[-1] < 2 or activation == "sigmoid":
        raise MessError(
            f"Model {flat.name!r} ends in {operation.name!r} with the shape {shape} and"
            f" the activation {activation}; accepted is a map (batch, height, width,"
            " classes) with one logit per class, two classes at least. Of a network"
            " without such an end, set another final head than 'own'."
        )
    return tensor, enlarged


def _only_answers(operation: Any) -> bool:
    """Whether an operation turns logits into probabilities, or does nothing."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation.__name__ in ("softmax", "linear")
    return type(operation).__name__ == "Softmax"


def _enlarges(operation: Any) -> bool:
    kinds = (keras.layers.UpSampling2D, keras.layers.Resizing)
    bilinear = getattr(operation, "interpolation", None) == "bilinear"
    return isinstance(operation, kinds) and bilinear


def _works_at_other_sizes(options: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether the network can be built for images of any size.

    Some have their size inside: a resize to so many pixels, a pooling over the whole
    map. One more cell of the coarsest grid shows it.
    """
    larger = (size[0] + options["coarsest"], size[1] + options["coarsest"])
    try:
        for height, width in (larger, (None, None)):
            ends = build_body(keras.Input((height, width, 3)), options)
            if options["end"] is not None:
                logits = build_end(ends[-1][0], options, "logits")
                ends.append((logits, options["end_stride"]))
            if height is None or width is None:
                continue
            if any(t.shape[1:3] != (height // s, width // s) for t, s in ends):
                return False
    # So Keras and its layers refuse a shape, which is the answer asked for.
    except (ValueError, TypeError, NotImplementedError):
        return False
    return True
