"""Inference on a phone: inputs pushed as files, outputs pulled back."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from android_bench.adb.transport import ConnectionLost
from android_bench.device import ModelInputs, ModelOutputs
from android_bench.errors import BenchError
from android_bench.host.worker import INFER_RUNS, InputError, Session
from android_bench.logs.phases import RunStats
from android_bench.phones.flags import check_known, timing_flags
from android_bench.phones.folder import NoSpace
from android_bench.phones.resilient_runner import MOST_LOSSES
from android_bench.phones.result import read_frame, summary_of
from android_bench.phones.rounds import Plan, ScriptInterrupted, in_order, run_commands
from android_bench.phones.session import PhoneSession
from android_bench.phones.tool import PhoneTool, command_of
from android_bench.records import Failure, MeasureSettings, ModelFile

BATCH_ITEMS = 16
BATCH_BYTES = 64 * 2**20
_FOLDER = "io"

Result = tuple[float, ModelOutputs]


@dataclass
class PhoneInference:
    """One model over many inputs.

    The tool takes and gives raw bytes; names, shapes and types come from the model
    itself, which LiteRT opens here. Inputs go over in batches, each with one push per
    file, one shell session and one pull per item; a batch that a lost connection broke
    off is repeated.

    Attributes:
        local: the model, opened on this computer.
        plan: cores and time limit.
    """

    session: PhoneSession
    tool: PhoneTool
    model: ModelFile
    settings: MeasureSettings
    plan: Plan
    local: Session

    def run(self, inputs: Iterable[ModelInputs]) -> Iterator[Result]:
        """Yields (latency in microseconds, outputs by name) of each input.

        Raises:
            BenchError: an input does not fit, the model fails, or the phone is lost.
        """
        number = 0
        for batch in _batches(self._fed(inputs)):
            yield from self._batch(batch, number)
            number += len(batch)

    def _fed(self, inputs: Iterable[ModelInputs]) -> Iterator[list[np.ndarray]]:
        """Each input's arrays in the model's order, checked."""
        for number, item in enumerate(inputs):
            names = list(item) if isinstance(item, Mapping) else None
            arrays = list(item.values()) if isinstance(item, Mapping) else list(item)
            try:
                self.local.feed(names, arrays)
            except InputError as error:
                raise self._failed(number, "input", str(error)) from error
            by_name = dict(zip(names or self.local.inputs, arrays, strict=True))
            yield [by_name[name] for name in self.local.inputs]

    def _batch(self, batch: Sequence[list[np.ndarray]], first: int) -> list[Result]:
        for _ in range(MOST_LOSSES):
            try:
                with tempfile.TemporaryDirectory(prefix="android_bench-") as folder:
                    return self._once(batch, first, Path(folder))
            except ScriptInterrupted as broken:
                if broken.lost is None:
                    self.session.end_script()
                    raise self._failed(first, "run", str(broken)) from broken
                self.session.reconnect(broken.lost)
            except ConnectionLost as error:
                self.session.reconnect(error)
            except NoSpace as error:
                raise self._failed(first, "input", str(error)) from error
        raise BenchError(
            f"The connection to {self.session.transport.label} was lost"
            f" {MOST_LOSSES} times on input {first} of {self.model.path}; check the"
            " cable or the network."
        )

    def _once(
        self, batch: Sequence[list[np.ndarray]], first: int, here: Path
    ) -> list[Result]:
        session = self.session
        self.tool.install(session)
        session.transport.shell(["mkdir", "-p", session.folder.at(_FOLDER)])
        graph = f"models/{self.model.sha256}.tflite"
        files = {graph: (self.model.path, self.model.sha256)}
        for number, arrays in enumerate(batch):
            files |= _written(here, number, arrays)
        refused = session.folder.push_verified(files)
        for reason in refused.values():
            raise self._failed(first, "input", reason)
        flags = [self._flags(number, first + number) for number in range(len(batch))]
        commands = [
            command_of(
                f"./{self.tool.name}",
                [f"--graph={graph}", *item_flags],
                self.plan.cores.mask,
            )
            for item_flags in flags
        ]
        results = []
        frames = run_commands(session, commands, self.plan.limit_s)
        numbered = in_order(frames, len(commands))
        for number, (frame, item_flags) in enumerate(zip(numbered, flags, strict=True)):
            if frame is None:
                raise self._failed(first + number, "log", "its output is damaged")
            log = read_frame(frame, item_flags, self.settings.delegate)
            if isinstance(log, Failure):
                raise self._failed(first + number, log.stage, log.message)
            if log.timings is None or log.timings.regular is None:
                raise self._failed(first + number, "log", "it tells no statistics")
            results.append(_latency_us(log.timings.regular))
        outputs = [self._pulled(n, first + n, here) for n in range(len(batch))]
        session.folder.drop([name for name in files if name != graph])
        return list(zip(results, outputs, strict=True))

    def _flags(self, number: int, item: int) -> list[str]:
        """The tool's flags for an item of a batch; warmed up longer on the first."""
        short = dataclasses.replace(
            self.settings,
            runs_per_round=INFER_RUNS,
            min_seconds_per_round=0.0,
            warmup_runs=1 if item else max(1, self.settings.warmup_runs),
            warmup_seconds=0.0,
        )
        details = list(self.local.inputs.values())
        shapes = [",".join(map(str, d["shape"].tolist())) for d in details]
        names = [str(d["name"]).replace(":", "::") for d in details]
        values = [f"{n}:{_file(number, i)}" for i, n in enumerate(names)]
        flags = [
            *timing_flags(short),
            f"--input_layer={','.join(str(d['name']) for d in details)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(values)}",
            f"--output_filepath={_FOLDER}/{number}.out",
        ]
        check_known(flags, self.tool.known)
        return flags

    def _pulled(self, number: int, item: int, here: Path) -> ModelOutputs:
        copy = here / f"{number}.out"
        path = self.session.folder.at(f"{_FOLDER}/{number}.out")
        self.session.transport.pull(path, copy)
        self.session.transport.shell(["rm", "-f", path])
        content = copy.read_bytes()
        outputs, at = {}, 0
        for name, detail in self.local.outputs.items():
            dtype, shape = np.dtype(detail["dtype"]), tuple(detail["shape"].tolist())
            count = int(np.prod(shape))
            part = content[at : at + count * dtype.itemsize]
            at += count * dtype.itemsize
            if len(part) != count * dtype.itemsize:
                break
            outputs[name] = np.frombuffer(part, dtype).reshape(shape).copy()
        if at != len(content) or len(outputs) != len(self.local.outputs):
            raise self._failed(
                item, "run", f"the phone wrote {len(content)} bytes of outputs"
            )
        return outputs

    def _failed(self, number: int, stage: str, why: str) -> BenchError:
        return BenchError(
            f"Model {self.model.path} failed on input {number} at stage {stage!r} on"
            f" {self.session.transport.label}: {why}."
        )


def open_local(model: ModelFile) -> Session:
    """The model opened here, for its names, shapes and types.

    Raises:
        BenchError: LiteRT cannot open it, or the tool cannot be given such inputs.
    """
    try:
        session = Session(str(model.path), 1)
    except (ValueError, RuntimeError) as error:
        raise BenchError(
            f"Model {model.path} failed at stage 'load': {str(error).splitlines()[0]}."
        ) from error
    for detail in session.inputs.values():
        if "," in detail["name"] or not len(detail["shape"]):
            raise BenchError(
                f"Input {detail['name']!r} of {model.path} cannot be given to the"
                " phone's benchmark tool: its name holds a comma or it is a scalar."
            )
    return session


def _batches(items: Iterable[list[np.ndarray]]) -> Iterator[list[list[np.ndarray]]]:
    batch: list[list[np.ndarray]] = []
    size = 0
    for item in items:
        item_bytes = sum(array.nbytes for array in item)
        if batch and (len(batch) == BATCH_ITEMS or size + item_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_bytes
    if batch:
        yield batch


def _file(number: int, position: int) -> str:
    return f"{_FOLDER}/{number}_{position}.raw"


def _written(
    here: Path, number: int, arrays: Sequence[np.ndarray]
) -> dict[str, tuple[Path, str]]:
    """An item's arrays as files to push, by their names on the phone."""
    files: dict[str, tuple[Path, str]] = {}
    for position, array in enumerate(arrays):
        content = array.tobytes()
        path = here / f"{number}_{position}.raw"
        path.write_bytes(content)
        name = _file(number, position)
        files[name] = path, hashlib.sha256(content).hexdigest()
    return files


def _latency_us(stats: RunStats) -> float:
    summary = summary_of(stats)
    return summary.mean_us if summary.median_us is None else summary.median_us
