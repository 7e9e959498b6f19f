"""Trial conversion of a network, before hours of training."""

from __future__ import annotations

import keras

from mess_tf.converting.convert import convert_model
from mess_tf.converting.graph_checks import check_operators
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.flatbuffer.reader import Graph, read_model


def try_conversion(flat: keras.Model) -> None:
    """Converts a flat network of fixed image size once, in float32.

    Raises:
        MessError: names the layer that LiteRT cannot run, if one alone is to blame.
    """
    try:
        _convert(flat)
    except MessError as error:
        inputs = keras.layers.InputLayer
        kinds = {type(op): op for op in flat.operations if not isinstance(op, inputs)}
        for operation in kinds.values():
            try:
                _convert(keras.Model(operation.input, operation.output))
            except MessError as reason:
                raise MessError(
                    f"Layer {operation.name!r} ({type(operation).__name__}) cannot be"
                    f" adopted: {reason}"
                ) from error
        raise


def _convert(model: keras.Model) -> None:
    names = [f"{IMAGE_TENSOR}_{i}" for i in range(len(model.inputs))]
    content = convert_model(model, names, ["the network"], "float32")
    graph = Graph(read_model(content, "the converted network"))
    check_operators(graph, model.name, "segment", "float32")
