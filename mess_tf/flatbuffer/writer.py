"""Packs a model of the TFLite schema, every equal part once.

Subgraphs of one file repeat one another: the same weights' scales per channel, shapes,
names, whole operators. The format refers to parts by offset, so equal ones can lie in
the file once; the packer of the schema writes each anew, which can cost more than the
weights that are shared.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.flatbuffer.schema import IDENTIFIER

BUFFER_ALIGNMENT = 16  # the schema's force_align, which the Python packer ignores


def write_model(model: fb.ModelT) -> bytes:
    """Packs a model; data buffers are aligned as the schema asks."""
    for buffer in model.buffers:
        buffer.__class__ = _AlignedBuffer
    for subgraph in model.subgraphs:
        for operator in subgraph.operators or ():
            operator.__class__ = _SharedOperator
        for tensor in subgraph.tensors or ():
            tensor.__class__ = _SharedTensor
            if tensor.quantization is not None:
                tensor.quantization.__class__ = _SharedQuantization
    size = sum(0 if b.data is None else len(b.data) for b in model.buffers)
    # The builder doubles when full; one start size that fits spares the copies.
    builder = _SharingBuilder(size + 4096 * (1 + len(model.subgraphs)))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """A builder that remembers where vectors, texts and tables lie."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.places: dict[Hashable, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self.places:
            self.places[key] = int(super().CreateNumpyVector(x))
        return self.places[key]

    def CreateString(
        self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict"
    ) -> int:
        content = s.encode(encoding, errors) if isinstance(s, str) else s
        key = ("text", content)
        if key not in self.places:
            self.places[key] = int(super().CreateString(content))
        return self.places[key]


class _Shared:
    """Before a class of the schema's objects: equal tables are packed once."""

    def Pack(self, builder: _SharingBuilder) -> int:
        key = _content(self)
        if key not in builder.places:
            builder.places[key] = int(super().Pack(builder))  # type: ignore[misc]
        return builder.places[key]


class _SharedTensor(_Shared, fb.TensorT):
    pass


class _SharedOperator(_Shared, fb.OperatorT):
    pass


class _SharedQuantization(_Shared, fb.QuantizationParametersT):
    pass


def _content(value: Any) -> Hashable:
    """A schema object's content, nested ones included, to compare it by."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, list | tuple):
        return tuple(_content(item) for item in value)
    if hasattr(value, "__dict__"):
        fields = sorted(vars(value).items())
        return type(value).__name__, tuple((k, _content(v)) for k, v in fields)
    return value


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
