"""Post-training calibration: ranges of activations for int8 quantisation.

The converter calibrates in two steps: it records the smallest and largest value of
every tensor of the float graph, then quantises by these ranges. In between, ranges can
be chosen otherwise: by the values' distribution, or because they are known (an image's
pixels go from 0 to 255, whichever images calibrate). Everything else is left to the
converter: which tensors share a scale, weights per channel, biases.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mess_tf.core.precisions import CalibrationMethod
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.flatbuffer.reader import Graph, read_model
from mess_tf.flatbuffer.writer import write_model
from mess_tf.terminal.output_capture import capture_output

HISTOGRAM_BINS = 2048
CLIPPED_FRACTION = 1e-4
"""Part of a tensor's values that ``percentile`` clips at either end."""
_SHRINKS = np.linspace(1.0, 0.2, 41)

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration samples, and how ranges follow from them.

    Attributes:
        samples: per sample, one float32 array of shape (1, ...) per input.
        method: ``minmax`` covers every value; ``percentile`` cuts the outermost
            0.01 % at either end; ``mse`` makes the mean squared error of clipping and
            rounding, per tensor, least.
        known: ranges of inputs by name, known whatever the samples say.
    """

    samples: Sequence[Sequence[np.ndarray]]
    method: CalibrationMethod = "minmax"
    known: Mapping[str, Range] = field(default_factory=dict)


def pixel_range(preprocessing: Preprocessing) -> Range:
    """Range of the network's input over all pixels from 0 to 255."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return float((-mean / std).min()), float(((255 - mean) / std).max())


def set_activation_ranges(content: bytes, calibration: Calibration) -> bytes:
    """Sets the ranges of a calibrated float graph's activations by another method.

    Args:
        content: float flatbuffer whose tensors carry their smallest and largest value.
        calibration: the samples that the graph was calibrated on, and the method.

    Returns:
        The flatbuffer with the chosen ranges.
    """
    model = read_model(content, "the calibrated graph")
    graph = Graph(model)
    observed = {
        index: (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for index, tensor in enumerate(graph.tensors)
        if graph.constant(index) is None
        and tensor.quantization is not None
        and tensor.quantization.min is not None
    }
    chosen = dict(observed)
    if calibration.method != "minmax":
        choose = {"percentile": percentile_range, "mse": mse_range}[calibration.method]
        counts = _histograms(content, graph, observed, calibration.samples)
        chosen = {t: choose(counts[t], *observed[t]) for t in counts}
    for name, span in calibration.known.items():
        chosen[graph.tensor(name)] = span
    for tensor, (low, high) in chosen.items():
        parameters = graph.tensors[tensor].quantization
        parameters.min = np.array([low], np.float32)
        parameters.max = np.array([high], np.float32)
    return write_model(model)


def percentile_range(counts: np.ndarray, low: float, high: float) -> Range:
    """Range between two quantiles of the values, extended to contain 0.

    Args:
        counts: histogram of the values between ``low`` and ``high``, int64 array of
            shape (HISTOGRAM_BINS,).
        low, high: smallest and largest value seen.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(share, CLIPPED_FRACTION, side="right"))
    last = int(np.searchsorted(share, 1 - CLIPPED_FRACTION, side="left"))
    return min(float(edges[first]), 0.0), max(float(edges[last + 1]), 0.0)


def mse_range(counts: np.ndarray, low: float, high: float) -> Range:
    """Range of least mean squared error of clipping and rounding to 255 steps.

    Values in range are rounded by a twelfth of a squared step on average; exact zeros
    (of a ReLU) are the bin that holds 0 and lose nothing. Args as above.
    """
    if not low < high:
        return min(low, 0.0), max(high, 0.0)
    width = (high - low) / len(counts)
    centres = low + width * (np.arange(len(counts)) + 0.5)
    weights = counts / counts.sum()
    lows = np.unique(np.minimum(low, 0.0) * _SHRINKS)
    highs = np.unique(np.maximum(high, 0.0) * _SHRINKS)
    below = np.array([weights @ np.minimum(centres - cut, 0) ** 2 for cut in lows])
    above = np.array([weights @ np.maximum(centres - cut, 0) ** 2 for cut in highs])
    rounded = weights[np.abs(centres) > width].sum()
    step = (highs[None, :] - lows[:, None]) / 255
    error = below[:, None] + above[None, :] + rounded * step**2 / 12
    row, column = np.unravel_index(np.argmin(error), error.shape)
    return float(lows[row]), float(highs[column])


def run_reference_kernels(
    content: bytes, samples: Sequence[Sequence[np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Outputs of a float graph per sample, by the kernels that calibration runs on.

    XNNPACK's results differ in the last bits, and so would the scales of an exit tensor
    in the backbone and in the heads.
    """
    interpreter = _interpreter(content)
    result = []
    for sample in samples:
        for detail, array in zip(interpreter.get_input_details(), sample, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        result.append(
            {
                detail["name"]: interpreter.get_tensor(detail["index"])
                for detail in interpreter.get_output_details()
            }
        )
    return result


def _interpreter(content: bytes, keep_all: bool = False) -> Any:
    """TensorFlow's interpreter without delegates; ``keep_all`` keeps all tensors."""
    import tensorflow as tf

    with capture_output():
        # TensorFlow announces that its interpreter moves to LiteRT.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=(
                tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
            experimental_preserve_all_tensors=keep_all,
        )
        interpreter.allocate_tensors()
    return interpreter


def _histograms(
    content: bytes,
    graph: Graph,
    observed: Mapping[int, Range],
    samples: Sequence[Sequence[np.ndarray]],
) -> dict[int, np.ndarray]:
    """Histogram per tensor id between its smallest and largest value."""
    interpreter = _interpreter(content, keep_all=True)
    counts = {tensor: np.zeros(HISTOGRAM_BINS, np.int64) for tensor in observed}
    for sample in samples:
        for tensor, array in zip(graph.inputs, sample, strict=True):
            interpreter.set_tensor(tensor, np.asarray(array, np.float32))
        interpreter.invoke()
        for tensor, span in observed.items():
            values = interpreter.get_tensor(tensor)
            low, high = span if span[0] < span[1] else (span[0], span[0] + 1)
            counts[tensor] += np.histogram(values, HISTOGRAM_BINS, (low, high))[0]
    return counts
