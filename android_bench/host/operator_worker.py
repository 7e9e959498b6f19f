"""The child process that profiles the operators of ``.tflite`` files on this computer.

Apart from ``worker.py``, which measures latencies, so that neither its figures nor its
identity as a tool depend on what is here. Same protocol: one JSON object per line on
stdin, each answer a line ``PREFIX`` + JSON on the original stdout.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

MOST_RUNS = 200
"""Of one answer: every run leaves a record per operator in LiteRT's buffer."""


def load_beside(name: str) -> ModuleType:
    """A module of this folder, which is not on the child's search path."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look modules up by name
    spec.loader.exec_module(module)
    return module


def profile(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Profiles one model on random inputs.

    Returns:
        ``tables`` as LiteRT prints them, over how many ``runs``.
    """
    worker, profiler = load_beside("worker"), load_beside("litert_profiler")
    generator = np.random.default_rng(request["seed"])
    try:
        model = profiler.ProfiledModel(
            request["path"],
            request["threads"],
            lambda shape, dtype: worker.random_array(shape, dtype, generator),
        )
    except profiler.ProfilerMissing as error:
        return {"error": str(error), "at": "profiler"}
    begin = time.monotonic()
    warm = 0
    while warm < request["warmup_runs"] or (
        time.monotonic() - begin < request["warmup_seconds"]
    ):
        model.invoke()
        warm += 1
    model.start()
    begin, runs = time.monotonic(), 0
    while runs < MOST_RUNS:
        model.invoke()
        runs += 1
        passed = time.monotonic() - begin
        enough = runs >= request["runs"] and passed >= request["min_seconds"]
        if enough or passed >= request["max_seconds"]:
            break
    return {"tables": model.stop(), "runs": runs}


def main() -> int:
    """Serves requests until stdin ends."""
    prefix = load_beside("worker").PREFIX
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Mapping[str, Any]) -> None:
        channel.write("\n" + prefix + json.dumps(message) + "\n")
        channel.flush()

    send({"ready": True})
    for line in sys.stdin:
        try:
            answer = profile(json.loads(line))
        except Exception as error:  # whatever a model raises is its failure
            traceback.print_exc()
            message = str(error).strip() or type(error).__name__
            answer = {"error": message.splitlines()[0]}
        with contextlib.suppress(BrokenPipeError):
            send(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
