"""The model that the stand-in of the benchmark tool runs, with LiteRT."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from phone_double.benchmark_errors import Failed
from phone_double.benchmark_options import Options
from phone_double.benchmark_report import Log


class Model:
    """A loaded model with its inputs in place."""

    def __init__(
        self, options: Options, log: Log, device_path: Callable[[str], str]
    ) -> None:
        self._options, self._log = options, log
        path = options.text("graph")
        self._interpreter = self._open(path, device_path(path))
        self._interpreter.allocate_tensors()
        self._tell_partitions()
        self._fill_inputs()
        self.invoke: Callable[[], None] = self._interpreter.invoke

    def _open(self, path: str, told_path: str) -> Interpreter:
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
        except ValueError as error:
            reason = str(error).replace(path, told_path)
            if not os.path.exists(path):
                reason = f"Could not open '{told_path}'."
            self._log.runtime("ERROR", reason)
            self._log.error(f"Failed to load model {told_path}")
            raise Failed from error
        self._log.info(f"Loaded model {told_path}")
        self._log.runtime("INFO", "Initialized TensorFlow Lite runtime.")
        return interpreter

    def _tell_partitions(self) -> None:
        nodes, taken, partitions = partition(self._interpreter._get_ops_details())
        if taken:
            self._log.runtime(
                "VERBOSE",
                f"Replacing {taken} out of {nodes} node(s) with delegate"
                f" (TfLiteXNNPackDelegate) node, yielding {partitions} partitions for"
                " subgraph 0.",
            )

    def _fill_inputs(self) -> None:
        generator = np.random.default_rng(1)
        for detail in self._interpreter.get_input_details():
            dtype = np.dtype(detail["dtype"])
            if dtype.kind == "f":
                data = generator.uniform(-0.5, 0.5, detail["shape"]).astype(dtype)
            else:
                data = generator.integers(0, 2, detail["shape"]).astype(dtype)
            self._interpreter.set_tensor(detail["index"], data)

    def write_outputs(self, path: str) -> None:
        """All outputs' bytes, one after another."""
        if not path:
            return
        arrays = [
            self._interpreter.get_tensor(d["index"])
            for d in self._interpreter.get_output_details()
        ]
        Path(path).write_bytes(b"".join(a.tobytes() for a in arrays))


def partition(operators: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
    """(nodes, nodes that delegates took, partitions) of a graph as it is now.

    A node is a delegate's when its result is the delegate's, or goes only to such nodes.
    """
    kernels = [op for op in operators if op["op_name"] == "DELEGATE"]
    nodes = [op for op in operators if op["op_name"] != "DELEGATE"]
    given = {t for kernel in kernels for t in kernel["outputs"]}
    needed = {t for kernel in kernels for t in kernel["inputs"]}
    taken: set[int] = set()
    for number in reversed(range(len(nodes))):
        results = set(nodes[number]["outputs"])
        users = [
            n
            for n, op in enumerate(nodes)
            if results & set(op["inputs"]) and n > number
        ]
        inside = users and not results & needed and all(n in taken for n in users)
        if results & given or inside:
            taken.add(number)
    left = [n for n in range(len(nodes)) if n not in taken]
    groups = sum(1 for n in left if n - 1 not in left)
    return len(nodes), len(taken), len(kernels) + groups
