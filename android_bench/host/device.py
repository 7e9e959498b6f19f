"""This computer as a device: LiteRT in a child process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from android_bench.device import ModelInputs, ModelOutputs
from android_bench.errors import BenchError
from android_bench.host import worker
from android_bench.host.state import describe_host, host_conditions, usable_cores
from android_bench.host.worker_process import (
    PROFILER_COMMAND,
    WORKER_COMMAND,
    Answer,
    WorkerProcess,
)
from android_bench.logs.lines import LogError
from android_bench.logs.op_profile import parse_op_profile
from android_bench.operator_records import XNNPACK, OperatorTime, operator_times
from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    MeasureSettings,
    ModelFile,
    Round,
    Tool,
)
from mess_tf.core.files import sha256_of


class HostDevice:
    """Measures with LiteRT's Interpreter on this computer's CPU.

    Args:
        worker_command: starts the measuring child (``android_bench/host/worker.py``).
        profiler_command: starts the child that profiles operators
            (``android_bench/host/operator_worker.py``).
    """

    def __init__(
        self,
        worker_command: Sequence[str] = WORKER_COMMAND,
        profiler_command: Sequence[str] = PROFILER_COMMAND,
    ) -> None:
        self._worker = WorkerProcess(worker_command)
        self._profiler = WorkerProcess(profiler_command)

    def describe(self) -> DeviceInfo:
        return describe_host()

    def tool(self) -> Tool:
        return _litert()

    def state(self) -> Conditions:
        return host_conditions()

    def benchmark(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, Round | Failure]]:
        """One round; see ``Device.benchmark``."""
        self._check(settings)
        for model in models:
            conditions = self.state()
            request = {
                "op": "bench",
                "path": str(model.path),
                "threads": settings.threads,
                "warmup_runs": settings.warmup_runs,
                "warmup_seconds": settings.warmup_seconds,
                "runs": settings.runs_per_round,
                "min_seconds": settings.min_seconds_per_round,
                "max_seconds": settings.max_seconds_per_round,
                "seed": settings.seed,
            }
            answer = self._ask(request, settings)
            if isinstance(answer, Failure):
                yield model, answer
            else:
                yield model, _as_round(answer, conditions)

    def profile_operators(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, tuple[OperatorTime, ...] | Failure]]:
        """LiteRT's profiler; see ``Device.profile_operators``."""
        self._check(settings)
        for model in models:
            request = {
                "path": str(model.path),
                "threads": settings.threads,
                "warmup_runs": settings.warmup_runs,
                "warmup_seconds": settings.warmup_seconds,
                "runs": settings.runs_per_round,
                "min_seconds": settings.min_seconds_per_round,
                "max_seconds": settings.max_seconds_per_round,
                "seed": settings.seed,
            }
            answer = self._ask(request, settings, self._profiler)
            if isinstance(answer, Failure) and answer.stage == "profiler":
                raise BenchError(
                    f"The host has no operator profile: {self.tool().name}"
                    f" {self.tool().version} has another profiler than is known"
                    f" ({answer.message}). Profile operators on a phone."
                )
            yield model, _as_operators(answer)

    def infer(
        self,
        model: ModelFile,
        inputs: Iterable[ModelInputs],
        settings: MeasureSettings,
    ) -> Iterator[tuple[float, ModelOutputs]]:
        """Real inputs, handed over as files; see ``Device.infer``."""
        self._check(settings)
        with tempfile.TemporaryDirectory(prefix="android_bench-") as folder:
            for number, item in enumerate(inputs):
                yield self._infer_one(model, number, item, settings, Path(folder))

    def close(self) -> None:
        self._worker.close()
        self._profiler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, settings: MeasureSettings) -> None:
        if settings.delegate != "cpu":
            raise BenchError(
                f"Delegate {settings.delegate!r} is not available on the host;"
                " accepted: 'cpu'."
            )
        cores = usable_cores()
        if settings.threads > cores:
            raise BenchError(
                f"{settings.threads} threads were asked for, but {cores} cores can be"
                f" used here: their figures would mean nothing. Give 1 to {cores}."
            )
        if settings.affinity not in ("auto", "none"):
            raise BenchError(
                f"Affinity {settings.affinity!r} is not available on the host;"
                " accepted: 'auto', 'none'. Use taskset around the whole command."
            )
        if settings.extra:
            raise BenchError(
                f"Extra flags {list(settings.extra)} mean nothing to the host; leave"
                " them out."
            )

    def _ask(
        self,
        request: Mapping[str, object],
        settings: MeasureSettings,
        process: WorkerProcess | None = None,
    ) -> Answer | Failure:
        answer = (process or self._worker).ask(request, settings.timeout_s)
        if isinstance(answer, Failure) and answer.stage == "start":
            # No model is to blame: every one of them would fail alike.
            last = (answer.log_tail.splitlines() or ["it said nothing"])[-1]
            raise BenchError(
                f"The measuring process of the host does not start: {answer.message}"
                f" ({last}). Is ai-edge-litert installed?"
            )
        return answer

    def _infer_one(
        self,
        model: ModelFile,
        number: int,
        item: ModelInputs,
        settings: MeasureSettings,
        folder: Path,
    ) -> tuple[float, ModelOutputs]:
        source, target = folder / "inputs.npz", folder / "outputs.npz"
        names = list(item) if isinstance(item, Mapping) else None
        arrays = list(item.values()) if isinstance(item, Mapping) else list(item)
        try:
            np.savez(source, *arrays)
        except OSError as error:
            raise BenchError(
                f"Input {number} for {model.path} cannot be written to {folder}:"
                f" {error.strerror}. Free some space or set TMPDIR."
            ) from error
        request = {
            "op": "infer",
            "path": str(model.path),
            "threads": settings.threads,
            "warmup_runs": settings.warmup_runs,
            "inputs": str(source),
            "outputs": str(target),
            "names": names,
        }
        answer = self._ask(request, settings)
        if isinstance(answer, Failure):
            raise BenchError(
                f"Model {model.path} failed on input {number} at stage"
                f" {answer.stage!r}: {answer.message}."
            )
        with np.load(target, allow_pickle=False) as file:
            outputs = {n: file[f"arr_{i}"] for i, n in enumerate(answer["names"])}
        return float(answer["latency_us"]), outputs


def _as_round(answer: Answer, conditions: Conditions) -> Round:
    return Round(
        # A clock's tick may hide a run of nothing; it never took no time at all.
        samples_us=tuple(max(1, ns) / 1000 for ns in answer["samples_ns"]),
        conditions=dataclasses.replace(conditions, foreign_load=answer["foreign_load"]),
        init_us=answer["init_us"],
        runs=answer["runs"],
    )


def _as_operators(
    answer: Answer | Failure,
) -> tuple[OperatorTime, ...] | Failure:
    if isinstance(answer, Failure):
        return answer
    try:
        parsed = parse_op_profile(str(answer["tables"]))
    except LogError as error:
        return Failure("log", str(error))
    times = (
        ()
        if parsed is None
        else operator_times(parsed, (XNNPACK,), answer["runs"], flat=True)
    )
    return times or Failure("log", "LiteRT's profiler recorded no operators")


@functools.cache
def _litert() -> Tool:
    """LiteRT and our worker: digest of its libraries and of the worker's source."""
    found = importlib.util.find_spec("ai_edge_litert")
    if found is None or not found.submodule_search_locations:
        raise BenchError(
            "LiteRT is not installed, and the host measures with it; run"
            " `pip install ai-edge-litert`."
        )
    folder = Path(found.submodule_search_locations[0])
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*litert*.so")), Path(worker.__file__)]:
        digest.update(bytes.fromhex(sha256_of(path)))
    version = importlib.metadata.version("ai-edge-litert")
    return Tool("ai-edge-litert", version, digest.hexdigest())
