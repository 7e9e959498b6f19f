"""The model that the stand-in of the benchmark tool runs, with LiteRT."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests.phone_double.benchmark import delegates
from tests.phone_double.benchmark.errors import Failed
from tests.phone_double.benchmark.inputs import InputLayer, make_array
from tests.phone_double.benchmark.options import Options
from tests.phone_double.benchmark.report import Log


class Model:
    """A loaded model, ready to be fed and run.

    Raises (on making one):
        Failed: it cannot be loaded or prepared; the reason is told.
    """

    def __init__(
        self,
        options: Options,
        log: Log,
        layers: Sequence[InputLayer],
        modes: Mapping[str, str],
    ) -> None:
        self._options, self._log, self._layers = options, log, layers
        self._interpreter = self._load(options.text("graph"))
        self._runner = self._choose_signature()
        self._subgraph = 0 if self._runner is None else self._runner._subgraph_index
        # Called directly: what wraps it looks for other holders at every run.
        self._wrapper = self._interpreter._interpreter
        self._resize_inputs()
        self._prepare(modes)
        self.invoke: Callable[[], None] = functools.partial(
            self._wrapper.Invoke, self._subgraph
        )

    # === Loading ===

    def _load(self, path: str) -> Interpreter:
        resolver = OpResolverType.AUTO
        if self._options.given.get("use_xnnpack") is False:
            resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        threads = int(self._options.number("num_threads"))
        try:
            interpreter = Interpreter(
                model_path=path,
                num_threads=threads if threads > 0 else None,
                experimental_op_resolver_type=resolver,
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            if not os.access(path, os.R_OK):
                reason = f"Could not open '{path}'."
            self._log.runtime("ERROR", reason)
            self._log.error(f"Failed to load model {path}")
            raise Failed from error
        self._log.info(f"Loaded model {path}")
        self._log.runtime("INFO", "Initialized TensorFlow Lite runtime.")
        return interpreter

    def _choose_signature(self) -> Any:
        """The signature's runner; None for a model without signatures."""
        keys = list(self._interpreter.get_signature_list())
        if self._options.switch("list_signatures"):
            self._log.info(f"The Model contains {len(keys)} signature key(s).")
            if keys:
                self._log.info("They are listed below: ")
            for key in keys:
                self._log.info(f"-> Signature Key: {key}")
            raise Failed
        wanted = self._options.text("signature_to_run_for")
        if not keys:
            if wanted:
                self._log.error(
                    "Signature key is specified, but the model does not have any"
                    " signatures."
                )
                raise Failed
            return None
        if len(keys) == 1 and not wanted:
            wanted = keys[0]
        if wanted not in keys:
            self._log.error(
                "Signature not specified or incorrect. Pass one of the following to the"
                ' flag "--signature_to_run_for"'
            )
            for key in keys:
                self._log.error(f" #> Signature key: {key}")
            raise Failed
        self._log.info(f"Using signature: {wanted}")
        return self._interpreter.get_signature_runner(wanted)

    def _resize_inputs(self) -> None:
        details = self._details("InputIndices")
        if self._layers and len(self._layers) != len(details):
            self._log.fatal(
                f"Inputs mismatch: Model inputs #:{len(self._layers)} expected:"
                f" {len(details)}"
            )
            os.abort()
        for layer, detail in zip(self._layers, details, strict=False):
            index = detail["index"]
            if layer.name != detail["name"]:
                self._log.warn(
                    f"Tensor # {index} is named {detail['name']} but flags call it"
                    f" {layer.name}"
                )
            if len(layer.shape) != len(detail["shape"]):
                self._log.error(
                    f"Input tensor #{index} should have {len(detail['shape'])}"
                    " dimensions!"
                )
                raise Failed
            if layer.shape != tuple(detail["shape"]):
                shape = np.array(layer.shape, dtype=np.int32)
                self._wrapper.ResizeInputTensor(index, shape, False, self._subgraph)

    # === Preparing ===

    def _prepare(self, modes: Mapping[str, str]) -> None:
        full_only = self._options.switch("require_full_delegation")
        asked = self._options.delegates()
        if full_only and not asked:
            self._log.error("Disallowed CPU fallback detected.")
            raise Failed
        nodes = len(self._interpreter._get_ops_details())
        whole = False
        for switch in asked:
            if switch != "use_xnnpack":
                mode = modes.get(switch.removeprefix("use_"), delegates.MISSING)
                delegates.apply(self._log, switch, mode, nodes, full_only)
                whole = whole or mode == delegates.FULL
        # Where another delegate has everything, the runtime makes none of its own.
        with _without_stderr() if whole else contextlib.nullcontext():
            self._allocate()
        if not whole:
            self._tell_default_delegate("use_xnnpack" in asked)

    def _allocate(self) -> None:
        try:
            self._wrapper.AllocateTensors(self._subgraph)
        except (ValueError, RuntimeError) as error:
            for line in str(error).splitlines():
                self._log.runtime("ERROR", line)
            self._log.error("Failed to allocate tensors!")
            raise Failed from error

    def _tell_default_delegate(self, explicitly: bool) -> None:
        if self._subgraph != 0:
            return
        operators = self._interpreter._get_ops_details()
        nodes, taken, kernels, partitions = delegates.partition(operators)
        name, kernel = "XNNPACK", "TfLiteXNNPackDelegate"
        if taken:
            delegates.replacing(self._log, taken, nodes, kernel, partitions)
        if explicitly:
            delegates.applied(self._log, name, kernels, partitions == kernels == 1)

    def operators(self) -> list[str]:
        """Types of the nodes, in run order, as they are in the file."""
        names = [o["op_name"] for o in self._interpreter._get_ops_details()]
        return [name for name in names if name != "DELEGATE"]

    # === Feeding and reading ===

    def fill_inputs(self) -> None:
        """Raises Fatal when a file of values does not fit."""
        generator = np.random.default_rng()
        for number, detail in enumerate(self._details("InputIndices")):
            layer = self._layers[number] if self._layers else None
            array = make_array(detail, layer, generator)
            self._wrapper.SetTensor(detail["index"], array, self._subgraph)

    def write_outputs(self, path: str) -> None:
        """All outputs' bytes, one after another."""
        details = self._details("OutputIndices")
        arrays = [self._wrapper.GetTensor(d["index"], self._subgraph) for d in details]
        # The tool says nothing where it cannot write.
        with contextlib.suppress(OSError):
            Path(path).write_bytes(b"".join(a.tobytes() for a in arrays))

    def _details(self, which: str) -> list[dict[str, Any]]:
        if self._subgraph == 0:
            indices = getattr(self._wrapper, which)()
        elif which == "InputIndices":
            indices = self._runner._inputs.values()
        else:
            indices = [index for _, index in self._runner._outputs]
        return [
            self._interpreter._get_tensor_details(int(i), self._subgraph)
            for i in indices
        ]


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """The runtime writes to the descriptor itself."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
