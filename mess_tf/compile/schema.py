"""Reading, walking and building flatbuffers of the TFLite schema.

``Graph`` is a view of one subgraph that finds tensors by name and operators by what
they produce. ``ModelBuilder`` assembles a new file out of operators copied from such
graphs, with every buffer and operator code stored once. Tensors are found by name,
never by a number that another pass may change.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.errors import MessError
from mess_tf.records import TensorInfo

IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # the schema's force_align, which the Python packer ignores

OPERATOR_NAMES: dict[int, str] = {
    value: name
    for name, value in vars(fb.BuiltinOperator).items()
    if isinstance(value, int)
}
_NUMPY_TYPES: dict[int, str] = {
    fb.TensorType.FLOAT32: "float32",
    fb.TensorType.FLOAT16: "float16",
    fb.TensorType.INT32: "int32",
    fb.TensorType.INT64: "int64",
    fb.TensorType.INT8: "int8",
    fb.TensorType.UINT8: "uint8",
    fb.TensorType.BOOL: "bool",
}
TYPE_CODES: dict[str, int] = {name: code for code, name in _NUMPY_TYPES.items()}


class _AlignedBuffer(fb.BufferT):
    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None:
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
            builder.head = builder.Head() - len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            data = builder.EndVector()
        fb.BufferStart(builder)
        if data is not None:
            fb.BufferAddData(builder, data)
        return int(fb.BufferEnd(builder))


def read_model(content: bytes, what: str | Path) -> fb.ModelT:
    """Parses a flatbuffer.

    Args:
        content: of a ``.tflite`` file.
        what: file or description, for the error line.

    Raises:
        MessError: truncated or not a TFLite file.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise MessError(
            f"{what} is not a .tflite file (no {IDENTIFIER.decode()} mark)."
        )
    try:
        model = fb.ModelT.InitFromPackedBuf(content, 0)
        _check_whole(model)
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as error:
        raise MessError(
            f"{what} is a damaged .tflite file ({error}); make or copy it again."
        ) from error
    return model


def read_file(path: Path) -> fb.ModelT:
    """Reads and parses a ``.tflite`` file; MessError if it is missing or damaged."""
    try:
        return read_model(path.read_bytes(), path)
    except OSError as error:
        raise MessError(f"Cannot read {path}: {error.strerror}.") from error


def _check_whole(model: fb.ModelT) -> None:
    """Raises ValueError when parts refer to what is not there."""
    if not model.subgraphs or not model.buffers:
        raise ValueError("no subgraph or no buffers")
    for subgraph in model.subgraphs:
        count = len(subgraph.tensors or ())
        for tensor in subgraph.tensors or ():
            if tensor.buffer >= len(model.buffers):
                raise ValueError("a tensor refers to a missing buffer")
        for operator in subgraph.operators or ():
            used = [*_ids(operator.inputs), *_ids(operator.outputs)]
            if any(not -1 <= tensor < count for tensor in used):
                raise ValueError("an operator refers to a missing tensor")
            if operator.opcodeIndex >= len(model.operatorCodes or ()):
                raise ValueError("an operator has no code")


def write_model(model: fb.ModelT) -> bytes:
    """Packs a model, data buffers aligned as the schema asks."""
    for buffer in model.buffers:
        buffer.__class__ = _AlignedBuffer
    size = sum(0 if b.data is None else len(b.data) for b in model.buffers)
    # The builder doubles when full; one start size that fits spares the copies.
    builder = flatbuffers.Builder(size + 4096 * (1 + len(model.subgraphs)))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _ids(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


class Graph:
    """One subgraph of a parsed model, with what is needed to walk it.

    Attributes:
        model, subgraph: the parsed objects.
        tensors: of the subgraph.
        operators: in execution order.
        inputs, outputs: tensor ids.
    """

    def __init__(self, model: fb.ModelT, subgraph: int = 0) -> None:
        self.model = model
        self.subgraph = model.subgraphs[subgraph]
        self.tensors: list[Any] = self.subgraph.tensors or []
        self.operators: list[Any] = self.subgraph.operators or []
        self.inputs = _ids(self.subgraph.inputs)
        self.outputs = _ids(self.subgraph.outputs)
        self._reads = [_ids(operator.inputs) for operator in self.operators]
        self._writes = [_ids(operator.outputs) for operator in self.operators]
        self.producer = {t: i for i, ids in enumerate(self._writes) for t in ids}

    def name(self, tensor: int) -> str:
        """Name of a tensor id."""
        name = self.tensors[tensor].name
        return name.decode() if isinstance(name, bytes) else str(name or "")

    def tensor(self, name: str) -> int:
        """Id of the tensor called ``name``; MessError if there is none."""
        for tensor in range(len(self.tensors)):
            if self.name(tensor) == name:
                return tensor
        raise MessError(f"The flatbuffer has no tensor named {name!r}.")

    def reads(self, operator: int) -> list[int]:
        """Tensor ids an operator reads; -1 stands for an absent optional input."""
        return self._reads[operator]

    def writes(self, operator: int) -> list[int]:
        """Tensor ids an operator writes."""
        return self._writes[operator]

    def operator_name(self, operator: int) -> str:
        """``CONV_2D``, ... ; a custom operator gives its own name."""
        code = self.model.operatorCodes[self.operators[operator].opcodeIndex]
        if code.customCode:
            return str(code.customCode.decode())
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return OPERATOR_NAMES.get(number, f"OPERATOR_{number}")

    def constant(self, tensor: int) -> np.ndarray | None:
        """Value of a constant tensor, None for one that is computed."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        if data is None or not len(data):
            return None
        dtype = _NUMPY_TYPES[self.tensors[tensor].type]
        return np.asarray(data, np.uint8).view(dtype).reshape(self.shape(tensor))

    def stored(self, tensor: int) -> int | None:
        """The constant behind a tensor: itself, or what a DEQUANTIZE unpacks into it.

        float16 weights are unpacked once, when a runtime prepares the graph.
        """
        if self.constant(tensor) is not None:
            return tensor
        maker = self.producer.get(tensor)
        if maker is None or self.operator_name(maker) != "DEQUANTIZE":
            return None
        return self.stored(self.reads(maker)[0])

    def unpacks(self, operator: int) -> bool:
        """Whether an operator only unpacks a constant."""
        written = self.writes(operator)
        return len(written) == 1 and self.stored(written[0]) is not None

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Static shape of a tensor id."""
        return tuple(_ids(self.tensors[tensor].shape))

    def info(self, tensor: int) -> TensorInfo:
        """A tensor's border record: name, shape, dtype, scale and zero point."""
        code = self.tensors[tensor].type
        if code not in _NUMPY_TYPES:
            raise MessError(
                f"Tensor {self.name(tensor)!r} has type code {code}; accepted:"
                f" {sorted(TYPE_CODES)}."
            )
        scale, zero_point = scale_of(self.tensors[tensor])
        return TensorInfo(
            self.name(tensor), self.shape(tensor), _NUMPY_TYPES[code], scale, zero_point
        )

    def needed_for(self, targets: Iterable[int], given: Iterable[int]) -> list[int]:
        """Operators that compute ``targets`` when ``given`` is known, in order."""
        known, stack, found = set(given), list(targets), set()
        while stack:
            tensor = stack.pop()
            if tensor in known or tensor < 0:
                continue
            known.add(tensor)
            operator = self.producer.get(tensor)
            if operator is not None and operator not in found:
                found.add(operator)
                stack.extend(self.reads(operator))
        return sorted(found)


def scale_of(tensor: Any) -> tuple[float, int]:
    """(scale, zero point) of a per-tensor quantised tensor, (0.0, 0) otherwise."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return 0.0, 0
    if len(quantization.scale) != 1:
        return 0.0, 0
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def quantization(scale: float, zero_point: int) -> fb.QuantizationParametersT:
    """Per-tensor parameters of the schema."""
    return fb.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


class ModelBuilder:
    """Assembles a model; buffers and operator codes are shared by all subgraphs."""

    def __init__(self) -> None:
        # By convention of the format, buffer 0 is the empty one of computed tensors.
        self._buffers: list[Any] = [fb.BufferT()]
        self._buffer_ids: dict[bytes, int] = {}
        self._codes: list[Any] = []
        self._code_ids: dict[tuple[Any, ...], int] = {}
        self.graphs: list[GraphBuilder] = []

    def add_graph(self, name: str) -> GraphBuilder:
        """Adds a subgraph; the first is the one that runs."""
        graph = GraphBuilder(self, name, len(self.graphs))
        self.graphs.append(graph)
        return graph

    def buffer(self, data: np.ndarray | None) -> int:
        """Id of a buffer with these bytes, stored once."""
        if data is None or not data.size:
            return 0
        content = np.ascontiguousarray(data).tobytes()
        digest = hashlib.sha256(content).digest()
        if digest not in self._buffer_ids:
            self._buffer_ids[digest] = len(self._buffers)
            self._buffers.append(fb.BufferT(data=np.frombuffer(content, np.uint8)))
        return self._buffer_ids[digest]

    def code(self, builtin: int, version: int, custom: bytes | None = None) -> int:
        """Index of an operator code, stored once."""
        key = (builtin, version, custom)
        if key not in self._code_ids:
            self._code_ids[key] = len(self._codes)
            # Codes above 127 need the newer field, smaller ones are read from both.
            self._codes.append(
                fb.OperatorCodeT(min(builtin, 127), custom, version, builtin)
            )
        return self._code_ids[key]

    def finish(self, signature: str = "serve") -> bytes:
        """Packs the model with one signature over the first subgraph's borders."""
        main = self.graphs[0]

        def maps(tensors: Sequence[int]) -> list[Any]:
            return [fb.TensorMapT(main.tensors[t].name, t) for t in tensors]

        definition = fb.SignatureDefT(
            maps(main.inputs), maps(main.outputs), signature.encode(), 0
        )
        return write_model(
            fb.ModelT(
                version=3,
                operatorCodes=self._codes,
                subgraphs=[graph.finish() for graph in self.graphs],
                description=b"MESS for TensorFlow",
                buffers=self._buffers,
                signatureDefs=[definition],
            )
        )


class GraphBuilder:
    """One subgraph under construction; made by ``ModelBuilder.add_graph``."""

    def __init__(self, model: ModelBuilder, name: str, index: int) -> None:
        self._model = model
        self._name = name
        self.index = index
        self.tensors: list[Any] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._operators: list[Any] = []
        self._names: set[bytes] = set()

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantized: Any = None,
        value: np.ndarray | None = None,
    ) -> int:
        """Adds a computed tensor, or a constant where ``value`` is given."""
        encoded, number = name.encode(), 1
        while encoded in self._names:
            encoded, number = f"{name}_{number}".encode(), number + 1
        self._names.add(encoded)
        self.tensors.append(
            fb.TensorT(
                shape=np.array(shape, np.int32),
                type=TYPE_CODES[dtype],
                buffer=self._model.buffer(value),
                name=encoded,
                quantization=quantized,
                # Rank 0 and an absent shape look alike without it.
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def add_like(self, info: TensorInfo, name: str | None = None) -> int:
        """Adds a computed tensor of a border record's shape, dtype and scale."""
        quantized = quantization(info.scale, info.zero_point) if info.scale else None
        return self.add_tensor(name or info.name, info.shape, info.dtype, quantized)

    def add_twin(self, tensor: Any, name: str | None = None) -> int:
        """Adds a computed tensor of the same shape, type and scale as ``tensor``."""
        dtype = _NUMPY_TYPES[tensor.type]
        own_name = name or tensor.name.decode()
        return self.add_tensor(own_name, tensor.shape, dtype, tensor.quantization)

    def add_operator(
        self,
        builtin: int,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options_type: int = 0,
        options: Any = None,
    ) -> None:
        """Appends an operator of the builtin set."""
        self._operators.append(
            fb.OperatorT(
                opcodeIndex=self._model.code(builtin, version),
                inputs=np.array(inputs, np.int32),
                outputs=np.array(outputs, np.int32),
                builtinOptionsType=options_type,
                builtinOptions=options,
            )
        )

    def add_quantize(self, source: int, target: int) -> None:
        """Appends QUANTIZE, which brings int8 ``source`` to the scale of ``target``."""
        self.add_operator(
            fb.BuiltinOperator.QUANTIZE,
            2,
            [source],
            [target],
            fb.BuiltinOptions.QuantizeOptions,
            fb.QuantizeOptionsT(),
        )

    def append(
        self, source: Graph, operators: Sequence[int], known: Mapping[int, int]
    ) -> dict[int, int]:
        """Copies operators of another model with their tensors, weights and scales.

        Args:
            source: where they come from.
            operators: their indices, in execution order.
            known: tensors of the source that already exist here, by their id here.

        Returns:
            Source tensor id -> id here, for every tensor met.
        """
        here = dict(known)
        for index in operators:
            operator = source.operators[index]
            for tensor in (*source.reads(index), *source.writes(index)):
                if tensor >= 0 and tensor not in here:
                    here[tensor] = self._copy_tensor(source, tensor)
            code = source.model.operatorCodes[operator.opcodeIndex]
            self._operators.append(
                fb.OperatorT(
                    opcodeIndex=self._model.code(
                        max(code.builtinCode, code.deprecatedBuiltinCode),
                        code.version,
                        code.customCode,
                    ),
                    inputs=np.array(
                        [here.get(t, -1) for t in source.reads(index)], np.int32
                    ),
                    outputs=np.array([here[t] for t in source.writes(index)], np.int32),
                    builtinOptionsType=operator.builtinOptionsType,
                    builtinOptions=operator.builtinOptions,
                    builtinOptions2Type=operator.builtinOptions2Type,
                    builtinOptions2=operator.builtinOptions2,
                )
            )
        return here

    def _copy_tensor(self, source: Graph, tensor: int) -> int:
        original = source.tensors[tensor]
        if original.type not in _NUMPY_TYPES:
            source.info(tensor)  # raises with the tensor's name
        return self.add_tensor(
            source.name(tensor),
            source.shape(tensor),
            _NUMPY_TYPES[original.type],
            original.quantization,
            source.model.buffers[original.buffer].data,
        )

    def rename(self, tensor: int, name: str) -> None:
        """Gives a border tensor its name, whatever was called so before."""
        encoded = name.encode()
        for other in self.tensors:
            if other.name == encoded:
                other.name = b"inner_" + encoded
        self.tensors[tensor].name = encoded
        self._names.update((encoded, b"inner_" + encoded))

    def finish(self) -> Any:
        """The schema's object."""
        return fb.SubGraphT(
            tensors=self.tensors,
            inputs=np.array(self.inputs, np.int32),
            outputs=np.array(self.outputs, np.int32),
            operators=self._operators,
            name=self._name.encode(),
        )
