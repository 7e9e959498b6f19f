"""Small ``.tflite`` files made by hand, so that no test waits for a converter."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def convolutions(count: int = 2, size: int = 16, channels: int = 8) -> bytes:
    """A chain of 3 x 3 float convolutions.

    Input ``image`` and output ``result`` are float32 arrays of shape
    (1, size, size, channels); the weights are drawn, always the same.
    """
    model = schema.ModelT()
    model.version = 3
    model.description = b"tiny"
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name = b"main"
    graph.tensors, graph.operators = [], []
    generator = np.random.default_rng(7)

    def tensor(
        name: str, shape: tuple[int, ...], data: np.ndarray | None = None
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), 0
        made.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.astype("<f4").tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    shape = (1, size, size, channels)
    current = tensor("image", shape)
    graph.inputs = [current]
    for number in range(count):
        weights = generator.normal(0, 0.1, (channels, 3, 3, channels))
        kernel = tensor(f"kernel_{number}", weights.shape, weights)
        bias = tensor(f"bias_{number}", (channels,), np.full(channels, 0.01 * number))
        last = number == count - 1
        result = tensor("result" if last else f"layer_{number}", shape)
        graph.operators.append(_convolution([current, kernel, bias], result))
        current = result
    graph.outputs = [current]
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CONV_2D
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    model.operatorCodes = [code]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _convolution(inputs: list[int], output: int) -> schema.OperatorT:
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideW = options.strideH = 1
    options.dilationWFactor = options.dilationHFactor = 1
    made = schema.OperatorT()
    made.opcodeIndex = 0
    made.inputs, made.outputs = inputs, [output]
    made.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    made.builtinOptions = options
    return made
