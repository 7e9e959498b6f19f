"""LiteRT's operator profiler, through the C API of the library in its wheel.

The Python API of LiteRT 2 has no profiler, but ``libLiteRt.so`` exports the one behind
``benchmark_litert_model`` with versioned symbols (``litert/c/litert_profiler.h``,
``litert/c/litert_compiled_model.h``). It reports the operators that XNNPACK runs, too.
Standard library and numpy only: this runs in a child process, so that a library whose
functions have changed takes nothing else down.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np

MakeInput = Callable[[Sequence[int], np.dtype], np.ndarray]

_CPU_ACCELERATOR = 1
_LOCK_FOR_WRITING = 1
_MAX_RANK = 8
# LiteRtElementType, the numbers of TfLiteType.
_DTYPES = {
    1: np.float32,
    2: np.int32,
    3: np.uint8,
    4: np.int64,
    6: np.bool_,
    7: np.int16,
    9: np.int8,
    10: np.float16,
}
_NEEDED = (
    "LiteRtCreateEnvironment",
    "LiteRtCreateModelFromFile",
    "LiteRtCreateOptions",
    "LiteRtCreateOpaqueOptions",
    "LiteRtCreateCompiledModel",
    "LiteRtCompiledModelGetProfiler",
    "LiteRtStartProfiler",
    "LiteRtStopProfiler",
    "LiteRtGetProfileSummary",
    "LiteRtRunCompiledModel",
)


class ProfilerMissing(Exception):
    """This LiteRT has no operator profiler, or one of another form."""


class _Layout(ctypes.Structure):
    """``LiteRtLayout``; the first word holds the rank in seven bits."""

    _fields_ = [
        ("rank_bits", c_uint32),
        ("dimensions", c_int32 * _MAX_RANK),
        ("strides", c_uint32 * _MAX_RANK),
    ]


class _RankedTensorType(ctypes.Structure):
    """``LiteRtRankedTensorType``, with room for fields of later versions."""

    _fields_ = [
        ("element_type", c_int),
        ("layout", _Layout),
        ("reserved", ctypes.c_byte * 64),
    ]


_Destroy = ctypes.CFUNCTYPE(None, c_void_p)


class ProfiledModel:
    """A model compiled for the CPU with LiteRT's profiler switched on.

    Everything lives until the process ends.

    Args:
        path: of the ``.tflite`` file.
        threads: CPU threads.
        make_input: random input of a shape and dtype.

    Raises:
        ProfilerMissing: the installed LiteRT does not export what is needed.
        RuntimeError: LiteRT refuses the model.
    """

    def __init__(self, path: str, threads: int, make_input: MakeInput) -> None:
        self._library = _load_library()
        self._keep_alive: list[object] = []
        self._environment = c_void_p()
        self._call("CreateEnvironment", 0, None, byref(self._environment))
        self._model = c_void_p()
        self._call(
            "CreateModelFromFile",
            self._environment,
            path.encode(),
            byref(self._model),
        )
        self._compiled = c_void_p()
        self._call(
            "CreateCompiledModel",
            self._environment,
            self._model,
            self._options(threads),
            byref(self._compiled),
        )
        self._profiler = c_void_p()
        self._call("CompiledModelGetProfiler", self._compiled, byref(self._profiler))
        if not self._profiler:
            raise ProfilerMissing("its profiler cannot be switched on")
        signature = c_void_p()
        self._call("GetModelSignature", self._model, c_size_t(0), byref(signature))
        self._inputs = self._buffers(signature, "Input", make_input)
        self._outputs = self._buffers(signature, "Output", None)

    def invoke(self) -> None:
        """Runs the model once."""
        self._call(
            "RunCompiledModel",
            self._compiled,
            c_size_t(0),
            c_size_t(len(self._inputs)),
            self._inputs,
            c_size_t(len(self._outputs)),
            self._outputs,
        )

    def start(self) -> None:
        """Records operators from now on."""
        self._call("StartProfiler", self._profiler)

    def stop(self) -> str:
        """Ends recording; the tables of operators as LiteRT prints them."""
        self._call("StopProfiler", self._profiler)
        summary = c_char_p()
        self._call("GetProfileSummary", self._profiler, self._compiled, byref(summary))
        return (summary.value or b"").decode("utf-8", "replace")

    def _options(self, threads: int) -> c_void_p:
        options = c_void_p()
        self._call("CreateOptions", byref(options))
        self._call("SetOptionsHardwareAccelerators", options, _CPU_ACCELERATOR)
        for name, text in (
            ("runtime_options_string", "enable_profiling = true\n"),
            ("xnnpack", f"num_threads = {threads}\n"),
        ):
            payload = ctypes.create_string_buffer(text.encode())
            destroy = _Destroy(lambda _: None)  # the payload is ours
            self._keep_alive += [payload, destroy]
            entry = c_void_p()
            address = ctypes.cast(payload, c_void_p)
            self._call(
                "CreateOpaqueOptions", name.encode(), address, destroy, byref(entry)
            )
            self._call("AddOpaqueOptions", options, entry)
        return options

    def _buffers(
        self, signature: c_void_p, kind: str, make_input: MakeInput | None
    ) -> ctypes.Array[c_void_p]:
        """Tensor buffers of the signature's inputs or outputs, in its order."""
        count = c_size_t()
        self._call(f"GetNumSignature{kind}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for index in range(count.value):
            buffers[index] = self._buffer(signature, kind, index, make_input)
        return buffers

    def _buffer(
        self, signature: c_void_p, kind: str, index: int, make_input: MakeInput | None
    ) -> int | None:
        number = c_size_t(index)
        tensor, requirements, buffer = c_void_p(), c_void_p(), c_void_p()
        get_tensor = f"GetSignature{kind}TensorByIndex"
        self._call(get_tensor, signature, number, byref(tensor))
        ranked = _RankedTensorType()
        self._call("GetRankedTensorType", tensor, byref(ranked))
        self._call(
            f"GetCompiledModel{kind}BufferRequirements",
            self._compiled,
            c_size_t(0),
            number,
            byref(requirements),
        )
        self._call(
            "CreateManagedTensorBufferFromRequirements",
            self._environment,
            byref(ranked),
            requirements,
            byref(buffer),
        )
        if make_input is not None:
            self._fill(buffer, ranked, make_input)
        return buffer.value

    def _fill(
        self, buffer: c_void_p, ranked: _RankedTensorType, make_input: MakeInput
    ) -> None:
        dtype = _DTYPES.get(ranked.element_type)
        if dtype is None:
            raise RuntimeError(f"an input has element type {ranked.element_type}")
        rank = ranked.layout.rank_bits & 127
        shape = [ranked.layout.dimensions[axis] for axis in range(rank)]
        values = np.ascontiguousarray(make_input(shape, np.dtype(dtype)))
        size, address = c_size_t(), c_void_p()
        self._call("GetTensorBufferPackedSize", buffer, byref(size))
        if size.value != values.nbytes:
            raise ProfilerMissing("it lays tensors out in another way")
        self._call("LockTensorBuffer", buffer, byref(address), _LOCK_FOR_WRITING)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self._call("UnlockTensorBuffer", buffer)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRT refuses: {name} returns status {status}")


def _load_library() -> ctypes.CDLL:
    found = importlib.util.find_spec("ai_edge_litert")
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        try:
            library = ctypes.CDLL(str(Path(folder) / "libLiteRt.so"))
        except OSError:
            continue
        missing = [name for name in _NEEDED if not hasattr(library, name)]
        if missing:
            raise ProfilerMissing(f"its library lacks {missing[0]}")
        return library
    raise ProfilerMissing("its library is not there")
