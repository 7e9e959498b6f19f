"""From what values do, the ranges that int8 stands for.

The converter calibrates in two steps: it notes the smallest and largest value of every
tensor of the float graph, then quantises by these ranges. In between, ranges can be
chosen otherwise: by the values' distribution, or because they are known (an image's
pixels go from 0 to 255, whichever images calibrate). Everything else is the
converter's own: which tensors share a scale, weights per channel, biases.
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

BINS = 2048
CUT = 1e-4
"""Of a tensor's values, the part that ``percentile`` cuts off at either end."""
_SHRINKS = np.linspace(1.0, 0.2, 41)

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What int8's ranges come from.

    Attributes:
        samples: per sample, one float32 array of shape (1, ...) per input.
        method: ``minmax`` keeps every value in range; ``percentile`` cuts the outermost
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
    """The converter's calibrated float graph with the ranges that were asked for.

    Args:
        content: float flatbuffer whose tensors carry their smallest and largest value.
        calibration: the same samples.
    """
    model = read_model(content, "the calibrated graph")
    graph = Graph(model)
    noted = {
        index: (float(tensor.quantization.min[0]), float(tensor.quantization.max[0]))
        for index, tensor in enumerate(graph.tensors)
        if graph.constant(index) is None
        and tensor.quantization is not None
        and tensor.quantization.min is not None
    }
    chosen = dict(noted)
    if calibration.method != "minmax":
        choose = {"percentile": percentile_range, "mse": mse_range}[calibration.method]
        counts = _histograms(content, graph, noted, calibration.samples)
        chosen = {t: choose(counts[t], *noted[t]) for t in counts}
    for name, span in calibration.known.items():
        chosen[graph.tensor(name)] = span
    for tensor, (low, high) in chosen.items():
        parameters = graph.tensors[tensor].quantization
        parameters.min = np.array([low], np.float32)
        parameters.max = np.array([high], np.float32)
    return write_model(model)


def percentile_range(counts: np.ndarray, low: float, high: float) -> Range:
    """Range without the outermost values; 0 stays in it.

    Args:
        counts: int64 array of shape (BINS,) of values between ``low`` and ``high``.
        low, high: smallest and largest value seen.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(share, CUT, side="right"))
    last = int(np.searchsorted(share, 1 - CUT, side="left"))
    return min(float(edges[first]), 0.0), max(float(edges[last + 1]), 0.0)


def mse_range(counts: np.ndarray, low: float, high: float) -> Range:
    """Range whose 255 steps lose least: squares of what is clipped and what is rounded.

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
    """TensorFlow's, without delegates; with ``keep_all`` every tensor can be read."""
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
    noted: Mapping[int, Range],
    samples: Sequence[Sequence[np.ndarray]],
) -> dict[int, np.ndarray]:
    """Per tensor, how its values lie between their smallest and largest."""
    interpreter = _interpreter(content, keep_all=True)
    counts = {tensor: np.zeros(BINS, np.int64) for tensor in noted}
    for sample in samples:
        for tensor, array in zip(graph.inputs, sample, strict=True):
            interpreter.set_tensor(tensor, np.asarray(array, np.float32))
        interpreter.invoke()
        for tensor, span in noted.items():
            values = interpreter.get_tensor(tensor)
            low, high = span if span[0] < span[1] else (span[0], span[0] + 1)
            counts[tensor] += np.histogram(values, BINS, (low, high))[0]
    return counts
