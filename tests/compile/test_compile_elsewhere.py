"""Files in programs that cannot live in this project's environment.

``tflite-runtime`` wants NumPy 1, Model Explorer brings half a gigabyte: each gets an
environment of its own, and the tests are told of its interpreter (docs/export.md says
how). Without that they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mess_tf.core.configuration import Configuration
from mess_tf.core.precisions import Precision
from mess_tf.exporting.linking import link_configuration
from mess_tf.flatbuffer.reader import Graph, read_file
from tests.support.export_forms import FORMS

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]

OLD_RUNTIME = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType
model, given, found = sys.argv[1:]
arrays = np.load(given)
results = {}
for kind in ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
    for threads in (1, 4):
        opened = Interpreter(
            model,
            num_threads=threads,
            experimental_op_resolver_type=getattr(OpResolverType, kind),
        )
        opened.allocate_tensors()
        for detail in opened.get_input_details():
            opened.set_tensor(detail["index"], arrays[detail["name"]])
        opened.invoke()
        for detail in opened.get_output_details():
            key = f"{kind}/{threads}/{detail['name']}"
            results[key] = opened.get_tensor(detail["index"])
np.savez(found, **results)
"""

EXPLORER = """
import json, sys
from model_explorer.builtin_tflite_flatbuffer_adapter import (
    BuiltinTfliteFlatbufferAdapter,
)
read = BuiltinTfliteFlatbufferAdapter().convert(sys.argv[1], {})
(collection,) = read["graphCollections"]
labels = {g["id"]: [n["label"] for n in g["nodes"]] for g in collection.graphs}
print(json.dumps(labels))
"""


def interpreter_of(variable: str) -> str:
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no Python interpreter (docs/export.md)")
    return python


def run(python: str, program: str, *arguments: Path) -> str:
    done = subprocess.run(
        [python, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def inputs(path: Path, configuration: Configuration) -> dict[str, np.ndarray]:
    graph = Graph(read_file(path))
    rng = np.random.default_rng(0)
    result = {}
    for info in map(graph.info, graph.inputs):
        if info.name == "thresholds":
            limits = [choice.threshold for choice in configuration.exits[:-1]]
            result[info.name] = np.array(limits, np.float32)
        elif info.dtype == "float32":
            result[info.name] = rng.uniform(-1, 1, info.shape).astype(np.float32)
        else:
            span = np.iinfo(info.dtype)
            values = rng.integers(span.min, span.max + 1, info.shape)
            result[info.name] = values.astype(info.dtype)
    return result


def here(path: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What LiteRT's own kernels answer."""
    opened = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    opened.allocate_tensors()
    for detail in opened.get_input_details():
        opened.set_tensor(detail["index"], given[detail["name"]])
    opened.invoke()
    details = opened.get_output_details()
    return {d["name"]: opened.get_tensor(d["index"]) for d in details}


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", FORMS)
def test_the_older_runtime_answers_as_litert_does(
    compile_at: CompileAt, precision: Precision, name: str, tmp_path: Path
) -> None:
    python = interpreter_of("MESS_TFLITE_RUNTIME_PYTHON")
    compiled = compile_at(precision)
    configuration = compiled.configuration()
    path = tmp_path / "model.tflite"
    link_configuration(compiled.pieces, compiled.spec, configuration, path, FORMS[name])
    given: dict[str, Any] = inputs(path, configuration)
    np.savez(tmp_path / "given.npz", **given)
    run(python, OLD_RUNTIME, path, tmp_path / "given.npz", tmp_path / "found.npz")
    wanted = here(path, given)
    found = np.load(tmp_path / "found.npz")
    assert len(found.files) == 4 * len(wanted)
    for key in found.files:
        own = wanted[key.rpartition("/")[2]]
        assert found[key].dtype == own.dtype
        if own.dtype == np.float32:
            # Another order of summing.
            atol = 2e-4 * np.abs(own).max()
            np.testing.assert_allclose(found[key], own, atol=atol, err_msg=key)
        elif precision == "float32":
            assert np.mean(found[key] == own) > 0.99, key
        else:
            np.testing.assert_array_equal(found[key], own, err_msg=key)


def test_model_explorer_shows_every_branch(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    python = interpreter_of("MESS_MODEL_EXPLORER_PYTHON")
    compiled = compile_at("int8")
    path = tmp_path / "model.tflite"
    link_configuration(compiled.pieces, compiled.spec, compiled.configuration(), path)
    shown = json.loads(run(python, EXPLORER, path).splitlines()[-1])
    model = read_file(path)
    for index, subgraph in enumerate(model.subgraphs):
        graph = Graph(model, index)
        kinds = [graph.operator_name(i).lower() for i in range(len(graph.operators))]
        labels = shown[subgraph.name.decode()]
        assert sorted(label for label in labels if label in kinds) == sorted(kinds)
    assert len(shown) == len(model.subgraphs)
