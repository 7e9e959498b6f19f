"""What the benchmark tool feeds a model: given shapes, files and ranges, or chance."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.phone_double.benchmark.errors import Failed, Fatal
from tests.phone_double.benchmark.options import Options
from tests.phone_double.benchmark.report import Log


@dataclass(frozen=True)
class InputLayer:
    """One input as the command line describes it."""

    name: str
    shape: tuple[int, ...]
    file: str | None = None
    bounds: tuple[int, int] | None = None


def read_layers(options: Options, log: Log) -> list[InputLayer]:
    """All inputs as described, or none.

    Raises:
        Failed: descriptions do not fit together.
        Fatal: a name is unknown, or a shape no list of numbers.
    """
    names = _split(options.text("input_layer"), ",")
    shapes = _split(options.text("input_layer_shape"), ":")
    if len(names) != len(shapes):
        log.error(
            f"The number of items in --input_layer_shape"
            f" ({options.text('input_layer_shape')}, with {len(shapes)} items) must"
            f" match the number of items in --input_layer"
            f" ({options.text('input_layer')}, with {len(names)} items). For example"
            " --input_layer=input1,input2 --input_layer_shape=1,224,224,4:1,20"
        )
        raise Failed
    layers = {
        name: InputLayer(name, _shape(text, log))
        for name, text in zip(names, shapes, strict=True)
    }
    for item in _split(options.text("input_layer_value_range"), ":"):
        name, bounds = _range(item, log)
        layer = _find(layers, name, options)
        layers[name] = dataclasses.replace(layer, bounds=bounds)
    for item in _split(options.text("input_layer_value_files"), ","):
        name, path = _name_and_file(item, log)
        layer = _find(layers, name, options)
        layers[name] = dataclasses.replace(layer, file=path)
    return list(layers.values())


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if text else []


def _shape(text: str, log: Log) -> tuple[int, ...]:
    if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
        raise Fatal(f"Incorrect size string specified: {text}")
    shape = tuple(map(int, text.split(",")))
    if -1 in shape:
        log.error(
            "Any unknown sizes in the shapes (-1's) must be replaced with the size you"
            " want to benchmark with."
        )
        raise Failed
    return shape


def _range(item: str, log: Log) -> tuple[str, tuple[int, int]]:
    match = re.fullmatch(r"([^,]*),(-?\d+),(-?\d+)", item)
    if match is None or int(match[2]) > int(match[3]):
        log.error(f"Wrong input value range item specified: {item}")
        raise Failed
    return match[1], (int(match[2]), int(match[3]))


def _name_and_file(item: str, log: Log) -> tuple[str, str]:
    """Parts at the one colon that is not doubled."""
    parts = re.split(r"(?<!:):(?!:)", item)
    if len(parts) != 2:
        why = (
            "contains more than one delimiter"
            if len(parts) > 2
            else "doesn't contain any delimiter"
        )
        log.error(f"{item} {why}.")
        log.error(f"Wrong input value file item specified: {item}")
        raise Failed
    name, path = (part.replace("::", ":") for part in parts)
    return name, path


def _find(layers: Mapping[str, InputLayer], name: str, options: Options) -> InputLayer:
    if name not in layers:
        raise Fatal(
            f"Cannot find the corresponding input_layer name({name}) in --input_layer"
            f" as {options.text('input_layer')}"
        )
    return layers[name]


def make_array(
    detail: Mapping[str, Any], layer: InputLayer | None, generator: np.random.Generator
) -> np.ndarray:
    """The values of one input: from its file, else drawn.

    Raises:
        Fatal: the file cannot be read or has another size than the tensor.
    """
    shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
    if layer is not None and layer.file is not None:
        return _read_array(layer.file, shape, dtype)
    if layer is not None and layer.bounds is not None:
        low, high = layer.bounds
        return generator.integers(low, high, shape, endpoint=True).astype(dtype)
    if dtype.kind == "f":
        return generator.uniform(-0.5, 0.5, shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    high = 127 if dtype == np.int8 else 254 if dtype == np.uint8 else 99
    low = -127 if dtype == np.int8 else 0
    return generator.integers(low, high, shape, endpoint=True).astype(dtype)


def _read_array(path: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Fatal(f"Failed to read the input_layer_value_file:{path}") from error
    size = int(np.prod(shape)) * dtype.itemsize
    if len(data) != size:
        raise Fatal(
            f"The size of {path} is {len(data)} bytes. It should be {size} bytes."
        )
    return np.frombuffer(data, dtype).reshape(shape)
