"""Every form and precision in every runtime at hand, with and without XNNPACK.

With XNNPACK, whichever API of LiteRT opens a file and however many threads run, answers
are the same bit for bit; TensorFlow's copy differs in the last bit of floats. LiteRT's
own kernels round int8 otherwise by one step per operator, which is shown operator by
operator: over a whole network such steps add up.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.cpu_kernel_mode import CpuKernelMode
from ai_edge_litert.cpu_options import CpuOptions
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import Options

from mess_tf.core.configuration import Configuration
from mess_tf.core.pieces import TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.exporting.linking import link_configuration
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.staged_export import link_stages, stage_files
from mess_tf.flatbuffer.graph_builder import ModelBuilder
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.runtime.interpreter import LiteRTFile, quantise
from mess_tf.terminal.output_capture import capture_output
from tests.support.export_forms import FORMS
from tests.support.tiers import sampled

Compiled = Any  # the record of conftest.py
CompileAt = Callable[[Precision], Compiled]
Arrays = Mapping[str, np.ndarray]

IMAGES = 6


@dataclass(frozen=True)
class Opened:
    """A file in one runtime."""

    run: Callable[[Arrays], Arrays]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """TensorFlow announces that its interpreter moves to LiteRT."""
    with capture_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _interpreter(module: Any, path: Path, threads: int, plain: bool) -> Opened:
    """``plain``: LiteRT's own kernels, no XNNPACK."""
    kinds = (
        getattr(module, "OpResolverType", None) or module.experimental.OpResolverType
    )
    kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else kinds.AUTO
    with _silence():
        opened = module.Interpreter(
            str(path), num_threads=threads, experimental_op_resolver_type=kind
        )
        opened.allocate_tensors()
    # By name, not by signature: that is how the project's own runner does it.
    inputs = {d["name"]: d["index"] for d in opened.get_input_details()}
    outputs = {d["name"]: d["index"] for d in opened.get_output_details()}

    def run(given: Arrays) -> Arrays:
        for name, index in inputs.items():
            opened.set_tensor(index, given[name])
        opened.invoke()
        return {name: opened.get_tensor(index) for name, index in outputs.items()}

    return Opened(run)


def _compiled_model(path: Path, threads: int, plain: bool) -> Opened:
    mode = CpuKernelMode.BUILTIN if plain else CpuKernelMode.XNNPACK
    options = Options(
        hardware_accelerators=HardwareAccelerator.CPU,
        cpu_options=CpuOptions(num_threads=threads, kernel_mode=mode),
    )
    model = CompiledModel.from_file(str(path), options=options)
    index = model.get_signature_index("serve")
    signature = model.get_signature_by_index(index)
    feeds, results = (
        model.create_input_buffers(index),
        model.create_output_buffers(index),
    )
    graph = Graph(read_file(path))
    shapes = {graph.name(t): graph.info(t) for t in graph.outputs}

    def run(given: Arrays) -> Arrays:
        for name, buffer in zip(signature["inputs"], feeds, strict=True):
            buffer.write(np.ascontiguousarray(given[name]))
        model.run_by_index(index, feeds, results)
        found = {}
        for name, buffer in zip(signature["outputs"], results, strict=True):
            info = shapes[name]
            count = int(np.prod(info.shape))
            values = buffer.read(count, np.dtype(info.dtype).type)
            found[name] = np.array(values).reshape(info.shape)
        return found

    return Opened(run)


def _tensorflow() -> Any:
    import tensorflow as tf

    return tf.lite


def _with_xnnpack(path: Path) -> Iterator[tuple[str, Opened]]:
    for threads in (2, 3, 4):
        yield f"LiteRT {threads}", _interpreter(litert, path, threads, plain=False)
    for threads in (1, 4):
        yield f"CompiledModel {threads}", _compiled_model(path, threads, plain=False)
    yield "tf.lite 1", _interpreter(_tensorflow(), path, 1, plain=False)


def _without_xnnpack(path: Path) -> Iterator[tuple[str, Opened]]:
    for threads in (1, 4):
        yield f"plain LiteRT {threads}", _interpreter(litert, path, threads, plain=True)
    yield "plain CompiledModel 1", _compiled_model(path, 1, plain=True)
    yield "plain tf.lite 2", _interpreter(_tensorflow(), path, 2, plain=True)


def _inputs(
    path: Path, compiled: Compiled, configuration: Configuration
) -> list[Arrays]:
    graph = Graph(read_file(path))
    infos = [graph.info(tensor) for tensor in graph.inputs]
    rng = np.random.default_rng(0)
    limits = [choice.threshold for choice in configuration.exits[:-1]]

    def of(info: TensorInfo, image: np.ndarray) -> np.ndarray:
        if info.name == "thresholds":
            return np.array(limits, np.float32)
        if info.name != "image":  # what another stage made
            values = rng.uniform(0, 2, info.shape).astype(np.float32)
            return quantise(values, info)
        if info.dtype == "uint8":
            return np.clip(image[None] * 127.5 + 127.5, 0, 255).astype(np.uint8)
        return quantise(image[None], info)

    images = compiled.images(IMAGES, seed=7)
    return [{info.name: of(info, image) for info in infos} for image in images]


def _files(compiled: Compiled, folder: Path, name: str) -> list[Path]:
    configuration = compiled.configuration()
    if name == "stages":
        plan = link_stages(compiled.pieces, compiled.spec, configuration, folder)
        return [folder / file for file in stage_files(plan)]
    path = folder / f"{name}.tflite"
    if name == "single":
        configuration, form = Configuration(configuration.exits[-1:]), ExportForm()
    else:
        form = FORMS[name]
    link_configuration(compiled.pieces, compiled.spec, configuration, path, form)
    return [path]


NAMES = ["everything", "linked", "stages", "classes", "single"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(NAMES, 2))
def test_xnnpack_says_the_same_in_every_runtime_with_any_threads(
    compiled: Compiled, name: str, tmp_path: Path
) -> None:
    for path in _files(compiled, tmp_path, name):
        inputs = _inputs(path, compiled, compiled.configuration())
        base = _interpreter(litert, path, 1, plain=False)
        expected = [base.run(given) for given in inputs]
        for runtime, opened in _with_xnnpack(path):
            for given, wanted in zip(inputs, expected, strict=True):
                for key, value in opened.run(given).items():
                    told = f"{path.name} in {runtime}: {key}"
                    atol = 0.0
                    if runtime.startswith("tf") and value.dtype == np.float32:
                        # Another version of XNNPACK: the last bit.
                        atol = 2e-6 * max(1.0, np.abs(wanted[key]).max())
                    np.testing.assert_allclose(
                        value, wanted[key], rtol=0, atol=atol, err_msg=told
                    )


@pytest.mark.parametrize("name", sampled(NAMES, 2))
def test_litert_kernels_run_every_form(
    compiled: Compiled, name: str, tmp_path: Path
) -> None:
    floats = compiled.precision in ("float32", "float16")
    configuration = compiled.configuration()
    exits = {choice.exit for choice in configuration.exits}
    for path in _files(compiled, tmp_path, name):
        inputs = _inputs(path, compiled, configuration)
        base = _interpreter(litert, path, 1, plain=False)
        for runtime, opened in _without_xnnpack(path):
            for given in inputs:
                wanted, found = base.run(given), opened.run(given)
                assert set(found) == set(wanted), runtime
                assert "exit" not in found or int(found["exit"][0]) in exits
                if not floats:
                    continue  # see the test of single operators
                for key, value in found.items():
                    if key in ("exit", "classes"):
                        assert np.mean(value == wanted[key]) > 0.99, (runtime, key)
                        continue
                    atol = 2e-4 * np.abs(wanted[key]).max()
                    np.testing.assert_allclose(value, wanted[key], atol=atol)


def _alone(graph: Graph, index: int) -> tuple[bytes, list[TensorInfo]]:
    """One operator as a file, and what it reads."""
    builder = ModelBuilder()
    piece = builder.add_graph("operator")
    computed = [
        t for t in graph.reads(index) if t >= 0 and graph.constant_source(t) is None
    ]
    read = list(dict.fromkeys(computed))
    known = {
        t: piece.add_tensor_from_info(graph.info(t), f"in_{i}")
        for i, t in enumerate(read)
    }
    here = piece.append(graph, [index], known)
    piece.inputs = list(known.values())
    piece.outputs = [here[t] for t in graph.writes(index)]
    infos = [TensorInfo(f"in_{i}", *_rest(graph.info(t))) for i, t in enumerate(read)]
    return builder.finish(), infos


def _rest(info: TensorInfo) -> tuple[Any, ...]:
    return info.shape, info.dtype, info.scale, info.zero_point


def test_int8_operators_differ_by_one_step_between_kernels(
    compile_at: CompileAt, tmp_path: Path
) -> None:
    compiled = compile_at("int8")
    rng = np.random.default_rng(0)
    seen: dict[str, int] = {}
    for piece in compiled.pieces.pieces:
        if piece.kind not in ("segment", "head"):
            continue
        graph = Graph(read_file(compiled.pieces.path(piece.name)))
        for index in range(len(graph.operators)):
            operator = graph.operator_name(index)
            if seen.get(operator, 0) >= 12:
                continue
            content, infos = _alone(graph, index)
            path = tmp_path / "operator.tflite"
            path.write_bytes(content)
            given = {i.name: rng.integers(-128, 128, i.shape, np.int8) for i in infos}
            (ours,) = _interpreter(litert, path, 1, plain=False).run(given).values()
            (plain,) = _interpreter(litert, path, 1, plain=True).run(given).values()
            difference = np.abs(ours.astype(int) - plain.astype(int)).max()
            assert difference <= 1, f"{piece.name}: {operator} {graph.name(index)}"
            assert LiteRTFile(path).outputs
            seen[operator] = seen.get(operator, 0) + 1
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONCATENATION"} <= set(seen)


def test_signatures_are_reached_by_name_in_every_api(
    compiled: Compiled, tmp_path: Path
) -> None:
    (path,) = _files(compiled, tmp_path, "everything")
    given = _inputs(path, compiled, compiled.configuration())[0]
    image = {"image": given["image"]}
    model = CompiledModel.from_file(str(path))
    for choice in compiled.configuration().exits:
        key = f"exit_{choice.exit}"
        with _silence():
            ours = litert.Interpreter(str(path)).get_signature_runner(key)(**image)
            theirs = (
                _tensorflow().Interpreter(str(path)).get_signature_runner(key)(**image)
            )
        index = model.get_signature_index(key)
        feeds = model.create_input_buffers(index)
        results = model.create_output_buffers(index)
        feeds[0].write(image["image"])
        model.run_by_index(index, feeds, results)
        names = model.get_signature_by_index(index)["outputs"]
        by_name = dict(zip(names, results, strict=True))
        classes = by_name["classes"].read(ours["classes"].size, np.uint8)
        assert ours["exit"].tolist() == theirs["exit"].tolist() == [choice.exit]
        assert by_name["exit"].read(1, np.int32).tolist() == [choice.exit]
        np.testing.assert_array_equal(theirs["classes"], ours["classes"])
        np.testing.assert_array_equal(classes, ours["classes"].ravel())
