"""Any functional Keras model as one flat graph of Keras' own layers and operations.

Nested models are opened, and so are layers of other packages whose ``call`` is made of
Keras layers and ``keras.ops``: what is left needs no code but Keras' to be built again.
Every layer is a copy with a name and weights of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import keras

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.models.macs import has_known_macs


def flatten(model: keras.Model, image_size: tuple[int, int] | None = None) -> Any:
    """Copies a network into one flat functional model of fixed image size.

    Its output equals the original's. What only training would see differently: a
    ``training=False`` that a nested model was called with is not kept.

    Args:
        model: functional (nested models are fine), one RGB image in, one tensor out,
            channels last, float32.
        image_size: (height, width) in pixels; None takes the model's own input size.

    Returns:
        ``keras.Model`` from ``image`` (B, H, W, 3) to the original's output.

    Raises:
        MessError: what cannot be adopted, by the layer's name, and why.
    """
    _check_borders(model)
    shape = image_size or tuple(model.inputs[0].shape[1:3])
    if None in shape:
        raise MessError(
            f"Model {model.name!r} takes images of any size; say for which size it is"
            " to be compiled by image_size=(height, width)."
        )
    image = keras.Input((*shape, 3), name=IMAGE_TENSOR)
    copier = Copier()
    (output,) = copier.copy(model.outputs, {id(model.inputs[0]): image})
    return keras.Model(image, output, name=model.name)


def output_of(model: Any, name: str) -> Any:
    """The Keras tensor that a layer or operation of a flat model makes."""
    for operation in model.operations:
        if operation.name == name:
            return operation.output
    raise MessError(f"Model {model.name!r} has no layer {name!r}.")


class Copier:
    """Copies calls into a new graph; one copier per graph keeps its names apart."""

    def __init__(self) -> None:
        self._names = {IMAGE_TENSOR}
        self._copied: set[int] = set()

    def copy(
        self, outputs: Sequence[Any], values: Mapping[int, Any], outer: str = ""
    ) -> list[Any]:
        """Repeats what leads to ``outputs`` on other tensors, with copied layers.

        Args:
            outputs: Keras tensors.
            values: id of a Keras tensor -> tensor that takes its place.
            outer: model or layer that is being opened, for names.

        Returns:
            The tensors in place of ``outputs``.
        """
        here = dict(values)
        for node in nodes_in_order(outputs, here):
            results = self._repeat(node, here, outer)
            here.update(zip(map(id, node.outputs), results, strict=True))
        return [here[id(tensor)] for tensor in outputs]

    def _repeat(self, node: Any, here: Mapping[int, Any], outer: str) -> list[Any]:
        operation = node.operation
        if not node.input_tensors:
            refuse(operation, "it is a second input; one image is all that comes in")
        if isinstance(operation, keras.Model) and operation.inputs:
            given = [here[id(tensor)] for tensor in node.input_tensors]
            inside = dict(zip(map(id, operation.inputs), given, strict=True))
            return self.copy(operation.outputs, inside, operation.name)
        if _is_foreign(operation):
            return self._open(node, here)
        _check(operation, outer)
        if operation_weights(operation):
            if id(operation) in self._copied:
                refuse(
                    operation, "it is called twice; give each call its own layer", outer
                )
            self._copied.add(id(operation))
        args, kwargs = node.arguments.fill_in(here)
        kwargs.pop("training", None)
        copied = self._copy_layer(operation, outer)
        results = keras.tree.flatten(copied(*args, **kwargs))
        if operation_weights(operation):
            copied.set_weights(operation.get_weights())
        return results

    def _open(self, node: Any, here: Mapping[int, Any]) -> list[Any]:
        """Copies what the ``call`` of a layer of another package is made of."""
        layer = node.operation
        inner = [v for sub in layer._flatten_layers(False) for v in sub.weights]
        if any(all(own is not v for v in inner) for own in layer.weights):
            refuse(layer, "it holds weights itself; use Keras layers for them")
        stand_ins = {
            id(t): keras.Input(batch_shape=here[id(t)].shape, dtype=t.dtype)
            for t in node.input_tensors
        }
        args, kwargs = node.arguments.fill_in(stand_ins)
        kwargs.pop("training", None)
        # Whatever the foreign code raises on Keras tensors is the reason.
        try:
            outputs = keras.tree.flatten(layer.call(*args, **kwargs))
            nodes_in_order(outputs)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            refuse(layer, f"its call is not made of Keras layers and ops: {reason}")
        values = {id(stand_in): here[key] for key, stand_in in stand_ins.items()}
        return self.copy(outputs, values, layer.name)

    def _copy_layer(self, operation: Any, outer: str) -> Any:
        try:
            config = keras.saving.serialize_keras_object(operation)
            config["config"]["name"] = self._name(operation, outer)
            # Else the copy counts as built and does not look at its new inputs.
            config.pop("build_config", None)
            return keras.saving.deserialize_keras_object(config, safe_mode=True)
        except (TypeError, ValueError, NotImplementedError, KeyError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            refuse(operation, f"it cannot be stored and built again: {reason}")

    def _name(self, operation: Any, outer: str) -> str:
        name = operation.name
        if not isinstance(operation, keras.layers.Layer):
            # Keras numbers these through all models of a process.
            name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", type(operation).__name__)
            name = name.lower()
        if name in self._names and outer:
            name = f"{outer}_{name}"
        unique, number = name, 1
        while unique in self._names:
            unique, number = f"{name}_{number}", number + 1
        self._names.add(unique)
        return unique


def refuse(operation: Any, reason: str, outer: str = "") -> NoReturn:
    """Raises the one line that says what cannot be adopted.

    Args:
        operation: layer or operation.
        reason: why not.
        outer: name of the model or layer it is inside of, if any.
    """
    inside = f" inside {outer!r}" if outer else ""
    raise MessError(
        f"Layer {operation.name!r} ({type(operation).__name__}){inside} cannot be"
        f" adopted: {reason}."
    )


def operation_weights(operation: Any) -> list[Any]:
    """Weights of a layer; operations have none."""
    return operation.weights if isinstance(operation, keras.layers.Layer) else []


def _check(operation: Any, outer: str) -> None:
    """Refuses what cannot be a part of an adopted network."""
    reason = ""
    if isinstance(operation, keras.layers.Lambda):
        reason = "a Lambda is Python code, which is not stored; use keras.ops"
    elif isinstance(operation, keras.layers.RNN | keras.layers.Bidirectional):
        reason = "a recurrent layer keeps a state"
    elif not has_known_macs(operation):
        reason = (
            "its multiply-accumulates are unknown, so that exits cannot be placed; use"
            " convolutions and Dense"
        )
    elif isinstance(operation, keras.layers.Layer):
        if type(operation).__name__.startswith("Random"):
            reason = (
                "it varies the image inside the network, where the labels do not"
                " follow; leave that to the recipe's [training]"
            )
        elif operation.compute_dtype != "float32":
            reason = f"it computes in {operation.compute_dtype}, not in float32"
        elif getattr(operation, "data_format", None) == "channels_first":
            reason = "its channels come first; they must come last"
    if reason:
        refuse(operation, reason, outer)


def _is_foreign(operation: Any) -> bool:
    package = type(operation).__module__.split(".")[0]
    return isinstance(operation, keras.layers.Layer) and package not in (
        "keras",
        "mess_tf",
    )


def _check_borders(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise MessError(
            f"Got {type(model).__name__} as a network; give a keras.Model of Keras 3."
        )
    if not getattr(model, "inputs", None):
        raise MessError(
            f"Model {model.name!r} ({type(model).__name__}) is not functional: it has"
            " no graph to cut. Build it with keras.Model(inputs, outputs)."
        )
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            names = [t._keras_history.operation.name for t in tensors]
            raise MessError(
                f"Model {model.name!r} has {len(tensors)} {kind}s ({', '.join(names)});"
                f" one is accepted. Make a keras.Model with one of them."
            )
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] != 3:
        raise MessError(
            f"Model {model.name!r} takes {tuple(shape)}; accepted are RGB images"
            " (batch, height, width, 3)."
        )
