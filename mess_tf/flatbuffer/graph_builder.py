"""Builds models of the TFLite schema from new operators and copied ones.

Every buffer and operator code is stored once, whichever subgraphs use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.pieces import TensorInfo
from mess_tf.flatbuffer.reader import Graph
from mess_tf.flatbuffer.schema import NUMPY_TYPES, TYPE_CODES, per_tensor_quantization
from mess_tf.flatbuffer.writer import write_model


class ModelBuilder:
    """A model under construction; subgraphs share its buffers and operator codes."""

    def __init__(self) -> None:
        # By convention of the format, buffer 0 is the empty one of computed tensors.
        self._buffers: list[fb.BufferT] = [fb.BufferT()]
        self._buffer_ids: dict[bytes, int] = {}
        self._codes: list[fb.OperatorCodeT] = []
        self._code_ids: dict[tuple[int, int, bytes | None], int] = {}
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

    def finish(self, signatures: Mapping[str, GraphBuilder] | None = None) -> bytes:
        """Packs the model.

        Args:
            signatures: name -> subgraph with its inputs and outputs; None makes one,
                ``serve``, of the first.
        """
        definitions = [
            fb.SignatureDefT(
                graph.tensor_maps(graph.inputs),
                graph.tensor_maps(graph.outputs),
                name.encode(),
                graph.index,
            )
            for name, graph in (signatures or {"serve": self.graphs[0]}).items()
        ]
        return write_model(
            fb.ModelT(
                version=3,
                operatorCodes=self._codes,
                subgraphs=[graph.finish() for graph in self.graphs],
                description=b"MESS for TensorFlow",
                buffers=self._buffers,
                signatureDefs=definitions,
            )
        )


class GraphBuilder:
    """One subgraph under construction; made by ``ModelBuilder.add_graph``."""

    def __init__(self, model: ModelBuilder, name: str, index: int) -> None:
        self._model = model
        self._name = name
        self.index = index
        self.tensors: list[fb.TensorT] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._operators: list[fb.OperatorT] = []
        self._names: set[bytes] = set()

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantized: fb.QuantizationParametersT | None = None,
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

    def add_tensor_from_info(self, info: TensorInfo, name: str | None = None) -> int:
        """Adds a computed tensor of a record's shape, dtype and scale."""
        quantized = (
            per_tensor_quantization(info.scale, info.zero_point) if info.scale else None
        )
        return self.add_tensor(name or info.name, info.shape, info.dtype, quantized)

    def add_tensor_like(self, tensor: fb.TensorT, name: str | None = None) -> int:
        """Adds a computed tensor of the same shape, type and scale as ``tensor``."""
        dtype = NUMPY_TYPES[tensor.type]
        new_name = name or tensor.name.decode()
        return self.add_tensor(new_name, tensor.shape, dtype, tensor.quantization)

    def add_operator(
        self,
        builtin: int,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options_type: int = 0,
        options: object = None,
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
        """Appends QUANTIZE: ``source`` in the integer type and scale of ``target``."""
        from_float = self.tensors[source].type == fb.TensorType.FLOAT32
        self.add_operator(
            fb.BuiltinOperator.QUANTIZE,
            1 if from_float else 2,
            [source],
            [target],
            fb.BuiltinOptions.QuantizeOptions,
            fb.QuantizeOptionsT(),
        )

    def add_dequantize(self, source: int, target: int) -> None:
        """Appends DEQUANTIZE from int8 or uint8 ``source`` to float32 ``target``."""
        is_int8 = self.tensors[source].type == fb.TensorType.INT8
        self.add_operator(
            fb.BuiltinOperator.DEQUANTIZE,
            2 if is_int8 else 1,
            [source],
            [target],
            fb.BuiltinOptions.DequantizeOptions,
            fb.DequantizeOptionsT(),
        )

    def tensor_maps(self, tensors: Sequence[int]) -> list[fb.TensorMapT]:
        """Names and ids of tensors, as a signature lists them."""
        return [fb.TensorMapT(self.tensors[t].name, t) for t in tensors]

    def append(
        self,
        source: Graph,
        operators: Sequence[int],
        known: Mapping[int, int],
        prefix: str = "",
    ) -> dict[int, int]:
        """Copies operators of another model with their tensors, weights and scales.

        Args:
            source: where they come from.
            operators: their indices, in execution order.
            known: id in the source -> id here, of tensors that exist here already.
            prefix: before the names of the copied tensors.

        Returns:
            Source tensor id -> id here, for every tensor met.
        """
        here = dict(known)
        for index in operators:
            operator = source.operators[index]
            for tensor in (*source.reads(index), *source.writes(index)):
                if tensor >= 0 and tensor not in here:
                    here[tensor] = self._copy_tensor(source, tensor, prefix)
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

    def _copy_tensor(self, source: Graph, tensor: int, prefix: str) -> int:
        original = source.tensors[tensor]
        if original.type not in NUMPY_TYPES:
            source.info(tensor)  # raises with the tensor's name
        return self.add_tensor(
            prefix + source.name(tensor),
            source.shape(tensor),
            NUMPY_TYPES[original.type],
            original.quantization,
            source.model.buffers[original.buffer].data,
        )

    def rename(self, tensor: int, name: str) -> None:
        """Renames a tensor; another one of that name is renamed out of the way."""
        encoded = name.encode()
        for other in self.tensors:
            if other.name == encoded:
                other.name = b"inner_" + encoded
        self.tensors[tensor].name = encoded
        self._names.update((encoded, b"inner_" + encoded))

    def finish(self) -> fb.SubGraphT:
        """The subgraph as an object of the schema."""
        return fb.SubGraphT(
            tensors=self.tensors,
            inputs=np.array(self.inputs, np.int32),
            outputs=np.array(self.outputs, np.int32),
            operators=self._operators,
            name=self._name.encode(),
        )
