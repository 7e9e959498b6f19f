"""The child process that opens and times ``.tflite`` files on this computer.

It stands alone (stdlib, numpy, LiteRT) and is run by its path, so that a model which
crashes or hangs takes nothing else down. One JSON object per line arrives on stdin;
each answer is a line ``PREFIX`` + JSON on the original stdout. Whatever else is
printed, by LiteRT or by a model's operators, goes to stderr and becomes the log of a
failure.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PREFIX = "@bench "
# A piece of 50 us gives 240 000 samples in a long round; percentiles need no more than
# this, evenly spaced over the round.
MAX_SAMPLES = 20_000
# Counted runs of a real input; their median is its latency.
INFER_RUNS = 3

Send = Callable[[Mapping[str, Any]], None]


class InputError(Exception):
    """What was to be fed does not fit the model."""


def open_interpreter(path: str, threads: int) -> Any:
    """Opens and allocates a model. LiteRT raises ValueError or RuntimeError."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def random_array(
    shape: Sequence[int], dtype: np.dtype, generator: np.random.Generator
) -> np.ndarray:
    """Floats in -1..1, 8-bit integers over the type's range, wider ones 0 or 1.

    Wide integers are indices or counts more often than values: a large one would send
    an operator out of its bounds.
    """
    if dtype.kind == "f":
        return generator.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        info = np.iinfo(dtype)
        return generator.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind in "iu":
        return generator.integers(0, 2, shape).astype(dtype)
    raise InputError(f"cannot make random inputs of type {dtype}")


class ProcessorTime:
    """CPU seconds used by everything but this process, from /proc/stat on Linux."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._own = time.process_time()
        self._all = self._busy()

    @staticmethod
    def _busy() -> float | None:
        try:
            with open("/proc/stat", encoding="ascii") as file:
                fields = file.readline().split()
            user, nice, system, _idle, _iowait, irq, soft, steal = map(int, fields[1:9])
        except (OSError, ValueError):
            return None
        ticks = user + nice + system + irq + soft + steal
        return float(ticks) / os.sysconf("SC_CLK_TCK")

    def foreign_load(self) -> float | None:
        """Cores kept busy by others since the start; None where it cannot be told."""
        now, wall = self._busy(), time.monotonic() - self._wall
        if now is None or self._all is None or wall <= 0:
            return None
        own = time.process_time() - self._own
        return round(max(0.0, (now - self._all - own) / wall), 3)


def take_samples(invoke: Callable[[], None], request: Mapping[str, Any]) -> list[int]:
    """Warms up, then times runs until both minima or the maximum time are reached.

    Returns:
        Nanoseconds per run, at least one.
    """
    clock = time.perf_counter_ns
    begin, warm = clock(), 0
    limit = begin + int(request["max_seconds"] * 1e9)
    warm_until = begin + int(request["warmup_seconds"] * 1e9)
    while warm < request["warmup_runs"] or clock() < warm_until:
        invoke()
        warm += 1
        if clock() >= limit:
            break
    samples: list[int] = []
    start = clock()
    enough = start + int(request["min_seconds"] * 1e9)
    limit = start + int(request["max_seconds"] * 1e9)
    gc.collect()
    gc.disable()
    try:
        while True:
            before = clock()
            invoke()
            after = clock()
            samples.append(after - before)
            if after >= limit or (after >= enough and len(samples) >= request["runs"]):
                return samples
    finally:
        gc.enable()


def thin_out(samples: list[int], most: int = MAX_SAMPLES) -> list[int]:
    """At most ``most`` samples, evenly spaced, in order."""
    if len(samples) <= most:
        return samples
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).astype(int)]


def bench(request: Mapping[str, Any], send: Send) -> Mapping[str, Any]:
    """Times one model on random inputs.

    The model is opened anew for every round: where its buffers come to lie changes its
    speed, so that luck shows as spread between rounds instead of as a wrong figure; and
    no number of models fills the memory.
    """
    send({"stage": "load"})
    begin = time.perf_counter_ns()
    interpreter = open_interpreter(request["path"], request["threads"])
    init_us = (time.perf_counter_ns() - begin) / 1e3
    send({"stage": "input"})
    generator = np.random.default_rng(request["seed"])
    for detail in interpreter.get_input_details():
        array = random_array(detail["shape"], np.dtype(detail["dtype"]), generator)
        interpreter.set_tensor(detail["index"], array)
    send({"stage": "run"})
    processor = ProcessorTime()
    samples = take_samples(interpreter.invoke, request)
    return {
        "samples_ns": thin_out(samples),
        "runs": len(samples),
        "init_us": init_us,
        "foreign_load": processor.foreign_load(),
    }


class Session:
    """One model kept open for real inputs."""

    def __init__(self, path: str, threads: int) -> None:
        self.interpreter = open_interpreter(path, threads)
        inputs = self.interpreter.get_input_details()
        outputs = self.interpreter.get_output_details()
        self.inputs = {detail["name"]: detail for detail in inputs}
        self.outputs = {detail["name"]: detail for detail in outputs}
        for key in self.interpreter.get_signature_list():
            runner = self.interpreter.get_signature_runner(key)
            named = runner.get_input_details(), runner.get_output_details()
            # `invoke` runs the main graph: a signature of another one names nothing.
            if _same_tensors(named[0], inputs) and _same_tensors(named[1], outputs):
                self.inputs = _in_order(named[0], inputs)
                self.outputs = _in_order(named[1], outputs)
                break

    def feed(self, names: Sequence[str] | None, arrays: Sequence[np.ndarray]) -> None:
        """Puts the inputs in place. Raises InputError when they do not fit."""
        wanted = list(self.inputs)
        names = wanted if names is None else names
        if len(names) != len(arrays) or sorted(names) != sorted(wanted):
            raise InputError(
                f"the model's inputs are {wanted}; got {len(arrays)} arrays named"
                f" {list(names)}"
            )
        for name, array in zip(names, arrays, strict=True):
            detail = self.inputs[name]
            shape, dtype = tuple(detail["shape"].tolist()), np.dtype(detail["dtype"])
            if array.shape != shape or array.dtype != dtype:
                raise InputError(
                    f"input {name!r} must be {dtype} of shape {shape}; got"
                    f" {array.dtype} of shape {array.shape}"
                )
            self.interpreter.set_tensor(detail["index"], array)


def _same_tensors(
    named: Mapping[str, Mapping[str, Any]], details: Sequence[Mapping[str, Any]]
) -> bool:
    return sorted((d["index"], d["name"]) for d in named.values()) == sorted(
        (d["index"], d["name"]) for d in details
    )


def _in_order(
    named: Mapping[str, Mapping[str, Any]], details: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    names = {detail["index"]: name for name, detail in named.items()}
    return {names[detail["index"]]: detail for detail in details}


class Worker:
    """Answers requests one by one; holds the open session."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._session: tuple[tuple[str, int], Session] | None = None

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request["op"] == "bench":
            self._session = None
            return bench(request, self._send)
        return self._infer(request)

    def _infer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        key = request["path"], request["threads"]
        # Reading an input clears the caches that a stream of images would find warm:
        # one run of every input is not counted, as a benchmark tool's are not.
        warmup_runs = 1
        if self._session is None or self._session[0] != key:
            self._send({"stage": "load"})
            self._session = key, Session(*key)
            warmup_runs = max(1, request["warmup_runs"])
        session = self._session[1]
        self._send({"stage": "input"})
        with np.load(request["inputs"], allow_pickle=False) as file:
            arrays = [file[f"arr_{i}"] for i in range(len(file.files))]
        session.feed(request["names"], arrays)
        self._send({"stage": "run"})
        invoke = session.interpreter.invoke
        for _ in range(warmup_runs):
            invoke()
        took = []
        for _ in range(INFER_RUNS):
            before = time.perf_counter_ns()
            invoke()
            took.append(time.perf_counter_ns() - before)
        get = session.interpreter.get_tensor
        arrays = [get(detail["index"]) for detail in session.outputs.values()]
        np.savez(request["outputs"], *arrays)
        latency_us = statistics.median(took) / 1e3
        return {"latency_us": latency_us, "names": list(session.outputs)}


def main() -> int:
    """Serves requests until stdin ends."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Mapping[str, Any]) -> None:
        # The line break before it ends whatever half a line came by another way.
        channel.write("\n" + PREFIX + json.dumps(message) + "\n")
        channel.flush()

    from ai_edge_litert import interpreter  # noqa: F401  (paid for before the first model)

    send({"ready": True})
    worker = Worker(send)
    for line in sys.stdin:
        # Whatever a model raises is its failure, told to the parent with its log.
        try:
            answer = worker.answer(json.loads(line))
        except InputError as error:
            answer = {"error": str(error), "at": "input"}
        except Exception as error:
            traceback.print_exc()
            message = str(error).strip() or type(error).__name__
            answer = {"error": message.splitlines()[0]}
        with contextlib.suppress(BrokenPipeError):
            send(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
