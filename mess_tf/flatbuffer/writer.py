"""Writes a model of the TFLite schema; equal tables and vectors are stored once.

Subgraphs of one file repeat one another: the same weights' scales per channel, shapes,
names, whole operators. The format refers to tables by offset, so equal ones can share
one; the schema's packer writes each anew, which can cost more than shared weights save.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.flatbuffer.schema import IDENTIFIER

BUFFER_ALIGNMENT = 16  # the schema's force_align, which the Python packer ignores


def write_model(model: fb.ModelT) -> bytes:
    """The flatbuffer of a model; data buffers are aligned as the schema demands."""
    size = sum(0 if b.data is None else len(b.data) for b in model.buffers)
    # The builder doubles when full; one start size that fits spares the copies.
    builder = _DeduplicatingBuilder(size + 4096 * (1 + len(model.subgraphs)))
    builder.Finish(_with_packers(model).Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Table(Protocol):
    """An object of the schema, as far as its packer is concerned."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Writes the table and returns its offset."""


class _DeduplicatingBuilder(flatbuffers.Builder):
    """A builder that returns the offset of an equal vector, string or table."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.offsets: dict[Hashable, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self.offsets:
            self.offsets[key] = int(super().CreateNumpyVector(x))
        return self.offsets[key]

    def CreateString(
        self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict"
    ) -> int:
        content = s.encode(encoding, errors) if isinstance(s, str) else s
        key = ("text", content)
        if key not in self.offsets:
            self.offsets[key] = int(super().CreateString(content))
        return self.offsets[key]


class _SharedTable:
    """Packs a table once per content.

    Args:
        table: to pack.
        content: of the table, nested ones included.
    """

    def __init__(self, table: _Table, content: Hashable) -> None:
        self._table = table
        self._content = content

    def Pack(self, builder: _DeduplicatingBuilder) -> int:
        if self._content not in builder.offsets:
            builder.offsets[self._content] = int(self._table.Pack(builder))
        return builder.offsets[self._content]


class _AlignedBuffer:
    """Packs a data buffer at an offset that is a multiple of ``BUFFER_ALIGNMENT``."""

    def __init__(self, buffer: fb.BufferT) -> None:
        self._data = buffer.data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self._data is not None:
            content = np.asarray(self._data, np.uint8).tobytes()
            builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
            builder.head = builder.Head() - len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            data = builder.EndVector()
        fb.BufferStart(builder)
        if data is not None:
            fb.BufferAddData(builder, data)
        return int(fb.BufferEnd(builder))


def _with_packers(model: fb.ModelT) -> fb.ModelT:
    """A shallow copy whose buffers, tensors and operators pack as this module does."""
    packed = copy.copy(model)
    packed.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers]
    packed.subgraphs = [_with_shared_tables(graph) for graph in model.subgraphs]
    return packed


def _with_shared_tables(subgraph: fb.SubGraphT) -> fb.SubGraphT:
    packed = copy.copy(subgraph)
    if subgraph.tensors is not None:
        packed.tensors = [_shared_tensor(tensor) for tensor in subgraph.tensors]
    if subgraph.operators is not None:
        packed.operators = [_SharedTable(o, _content(o)) for o in subgraph.operators]
    return packed


def _shared_tensor(tensor: fb.TensorT) -> _SharedTable:
    packed, scales = copy.copy(tensor), tensor.quantization
    if scales is not None:
        packed.quantization = _SharedTable(scales, _content(scales))
    return _SharedTable(packed, _content(tensor))


def _content(value: object) -> Hashable:
    """What a schema object holds, nested ones included: equal for equal objects."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, list | tuple):
        return tuple(_content(item) for item in value)
    if hasattr(value, "__dict__"):
        fields = sorted(vars(value).items())
        return type(value).__name__, tuple((k, _content(v)) for k, v in fields)
    if not isinstance(value, Hashable):
        raise TypeError(f"A {type(value).__name__} is no value of the schema.")
    return value
