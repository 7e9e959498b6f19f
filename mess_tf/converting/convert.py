"""Conversion of a Keras model or traceable function to a flatbuffer of batch 1.

The function is traced with its weights as constants and handed to the converter: many
times faster than ``from_keras_model``, and no variable is left inside. The converter's
time grows faster than its graph, so callers keep groups small.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from mess_tf.converting.calibrate import Calibration, set_activation_ranges
from mess_tf.converting.dilated_conv import NativeDilations
from mess_tf.core.errors import MessError
from mess_tf.core.precisions import CONVERTED, Precision
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.flatbuffer.writer import write_model
from mess_tf.terminal.output_capture import capture_output


@dataclass(frozen=True)
class InputSpec:
    """A named float32 input; ``shape`` starts with the batch, 1."""

    name: str
    shape: tuple[int, ...]


def convert_model(
    model: keras.Model,
    inputs: Sequence[str],
    outputs: Sequence[str],
    precision: Precision,
    calibration: Calibration | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> bytes:
    """Converts a flat functional Keras model with native dilations.

    Args:
        model: its inputs and outputs in the order of the names.
        inputs: tensor names, one per model input.
        outputs: tensor names, one per model output.
        precision: ``int8`` gives int8 inputs, outputs and activations; of the others
            only the weights differ. int8 weights are quantised per channel.
        calibration: for int8.
        sizes: (height, width) per input where the model leaves them open.

    Returns:
        The flatbuffer; its outputs are called as asked, in that order.
    """
    specs = []
    for position, (name, tensor) in enumerate(zip(inputs, model.inputs, strict=True)):
        shape = [1, *tensor.shape[1:]]
        if sizes is not None:
            shape[1:3] = sizes[position]
        if None in shape:
            raise MessError(
                f"Input {name!r} has no fixed size ({tuple(shape)}); compile a model of"
                " fixed height and width."
            )
        specs.append(InputSpec(name, tuple(shape)))

    return convert_function(
        NativeDilations(model), specs, outputs, precision, calibration
    )


def as_inputs(
    model: keras.Model, tensors: Sequence[tf.Tensor]
) -> tf.Tensor | list[tf.Tensor]:
    """Tensors in the structure a functional model was built with: a list, or one."""
    return list(tensors) if isinstance(model.input, list | tuple) else tensors[0]


def convert_function(
    function: Callable[..., Sequence[tf.Tensor]],
    inputs: Sequence[InputSpec],
    outputs: Sequence[str],
    precision: Precision,
    calibration: Calibration | None = None,
) -> bytes:
    """Converts a traceable function of float32 tensors to a list of tensors.

    Raises:
        MessError: int8 without calibration data, or an operator LiteRT lacks.
    """
    _check_backend()
    with capture_output():
        warnings.simplefilter("ignore")  # put back by capture_output()
        traced = tf.function(lambda *t: list(function(*t)), autograph=False)
        concrete = traced.get_concrete_function(
            *(tf.TensorSpec(s.shape, tf.float32, name=s.name) for s in inputs)
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    content = _convert(converter, precision, calibration, f"{outputs[0]}, ...")
    # The converter names outputs after the traced function's identities and does not
    # keep their order; the traced function knows which is which.
    names = [tensor.name.split(":")[0] for tensor in concrete.outputs]
    return _rename(content, inputs, dict(zip(names, outputs, strict=True)))


def convert_plain(
    model: keras.Model, precision: Precision, calibration: Calibration | None = None
) -> bytes:
    """Converts by ``TFLiteConverter.from_keras_model``: the baseline of benchmarks.

    No native dilations: dilated layers may leave SPACE_TO_BATCH_ND in the file.

    Args:
        model: with one input of fixed height and width.
        precision: ``float32`` or ``int8`` (int8 input and output).
        calibration: as for ``convert_model``.
    """
    _check_backend()
    with capture_output():
        warnings.simplefilter("ignore")  # put back by capture_output()
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    return _convert(converter, precision, calibration, model.name)


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise MessError(
            "Compiling needs Keras on TensorFlow; it runs on"
            f" {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )


def _convert(
    converter: tf.lite.TFLiteConverter,
    precision: Precision,
    calibration: Calibration | None,
    what: str,
) -> bytes:
    _set_up(converter, precision, calibration)
    with capture_output() as captured:
        warnings.simplefilter("ignore")  # put back by capture_output()
        try:
            content = bytes(converter.convert())
            if calibration is None or precision != "int8":
                return content
            # What the converter itself does after calibration, with chosen ranges.
            return bytes(
                mlir_quantize(
                    set_activation_ranges(content, calibration),
                    input_data_type=tf.int8,
                    output_data_type=tf.int8,
                )
            )
        except MessError:
            raise
        # The converter raises bare Exceptions of several kinds for one and the same
        # condition, so the whole family is turned into one line here.
        except Exception as error:
            reason = _reason(f"{error}\n{captured()}")
            raise MessError(f"{what} cannot be converted: {reason}") from error


def _set_up(
    converter: tf.lite.TFLiteConverter,
    precision: Precision,
    calibration: Calibration | None,
) -> None:
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision not in CONVERTED:
        raise MessError(f"Precision {precision!r} is not one of {CONVERTED}.")
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        if calibration is None or not len(calibration.samples):
            raise MessError(
                "int8 needs calibration images; give some tens of training images."
            )
        samples = calibration.samples

        def representative() -> Iterable[list[np.ndarray]]:
            for sample in samples:
                yield [np.asarray(array, np.float32) for array in sample]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        converter._experimental_calibrate_only = True


def _reason(text: str) -> str:
    operators = sorted(set(re.findall(r"\btf\.([A-Z]\w+)", text)))
    if operators:
        names = ", ".join(operators)
        return f"LiteRT has no operator for {names}; use other layers there."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "the converter gave no reason."


def _rename(
    content: bytes, inputs: Sequence[InputSpec], outputs: dict[str, str]
) -> bytes:
    model = read_model(content, "the converter's result")
    graph = Graph(model)
    got = [graph.name(tensor) for tensor in graph.inputs]
    expected = [spec.name for spec in inputs]
    if got != expected:
        raise MessError(f"The converter changed the inputs {expected} into {got}.")
    by_name = {graph.name(tensor): tensor for tensor in graph.outputs}
    if set(by_name) != set(outputs):
        raise MessError(
            f"The converter changed the outputs {list(outputs)} into {list(by_name)};"
            " two of them may be the same tensor."
        )
    for tensor in graph.tensors:
        if tensor.name.decode() in outputs.values():
            tensor.name = b"inner_" + tensor.name
    for old, new in outputs.items():
        graph.tensors[by_name[old]].name = new.encode()
    graph.subgraph.outputs = np.array([by_name[old] for old in outputs], np.int32)
    return write_model(model)
