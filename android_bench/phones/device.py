"""A phone as a device: runs Google's benchmark tool there over adb."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from android_bench.adb.connect import connect
from android_bench.adb.reach import Endpoint, find_again
from android_bench.adb.transport import ConnectionLost, Transport
from android_bench.device import ModelInputs, ModelOutputs
from android_bench.errors import BenchError
from android_bench.operator_records import OperatorTime
from android_bench.phones.conditions import (
    QuickState,
    SlowState,
    as_conditions,
    parse_quick,
    parse_slow,
)
from android_bench.phones.cores import AUTO, CoreChoice, choose_cores
from android_bench.phones.facts import read_facts
from android_bench.phones.flags import (
    PROFILING_FLAGS,
    check_known,
    check_settings,
    delegates_text,
    timing_flags,
)
from android_bench.phones.folder import NoSpace
from android_bench.phones.infer import PhoneInference, open_local
from android_bench.phones.resilient_runner import ResilientRunner
from android_bench.phones.result import (
    foreign_load,
    read_frame,
    read_operators,
    summary_of,
)
from android_bench.phones.rounds import Plan, in_order, make_plan, run_commands
from android_bench.phones.script import Frame
from android_bench.phones.session import PhoneSession, ReconnectTimeouts
from android_bench.phones.shell_batch import STATE_COMMANDS, run_batch
from android_bench.phones.tool import PhoneTool, command_of
from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    MeasureSettings,
    ModelFile,
    Round,
    Tool,
)

DAMAGED = Failure("log", "its output is damaged: where it ends is not reported")
FRESH_S = 10.0
"""A state younger than this is not asked again before a script."""

T = TypeVar("T")


class AdbDevice:
    """One phone.

    Args:
        endpoint: the phone and the transport that reaches it.
        tool: the benchmark tool's file; see ``tool_file.find_tool``.
        key: adb's private key to use instead of the usual ones.
        timeouts: how long to wait for a phone that is lost.

    Raises:
        BenchError: it is not reached, or is not an Android phone.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tool: Path | None = None,
        key: Path | None = None,
        timeouts: ReconnectTimeouts | None = None,
    ) -> None:
        self._first: Transport | None = connect(endpoint, key)

        def reach() -> Transport:
            first, self._first = self._first, None
            return first or connect(find_again(endpoint), key, ask=False)

        self._given_tool = tool
        self._session = PhoneSession(reach, timeouts)
        try:
            self._facts = read_facts(self._session.transport)
        except BenchError:
            self._session.close()
            raise
        self._info = self._facts.as_device(endpoint.name, endpoint.serial)
        self._tools: dict[str, PhoneTool] = {}
        self._best_caps_khz: dict[int, int] = {}
        self._slow = SlowState()
        self._slow_at = -FRESH_S
        self._used_cores = tuple(self._facts.core_max_khz)

    def describe(self) -> DeviceInfo:
        return self._info

    def tool(self) -> Tool:
        return self._tool().record

    def state(self) -> Conditions:
        """Asks the phone's services, too; some tenths of a second."""
        quick = self._again_if_lost(self._query_state)
        return self._conditions(quick)

    def benchmark(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, Round | Failure]]:
        """One round; see ``Device.benchmark`` and ``ResilientRunner``."""
        plan = self._again_if_lost(lambda: self._plan(settings))
        runner = ResilientRunner(
            run=lambda some: self._run(
                some, plan, lambda frame: self._round(frame, plan, settings.delegate)
            ),
            recover=self._recover,
            most=plan.most_models,
        )
        yield from runner.visit(models)

    def profile_operators(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, tuple[OperatorTime, ...] | Failure]]:
        """The tool's tables of operators; see ``Device.profile_operators``."""
        plan = self._again_if_lost(lambda: self._plan(settings, None, PROFILING_FLAGS))
        runner = ResilientRunner(
            run=lambda some: self._run(
                some, plan, lambda frame: read_operators(frame, plan, settings.delegate)
            ),
            recover=self._recover,
            most=plan.most_models,
        )
        yield from runner.visit(models)

    def infer(
        self,
        model: ModelFile,
        inputs: Iterable[ModelInputs],
        settings: MeasureSettings,
    ) -> Iterator[tuple[float, ModelOutputs]]:
        """Real inputs, pushed as files; see ``Device.infer`` and ``PhoneInference``."""
        tool = self._tool(inputs=True)
        plan = self._again_if_lost(lambda: self._plan(settings, tool))
        inference = PhoneInference(
            self._session, tool, model, settings, plan, open_local(model)
        )
        yield from inference.run(inputs)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # === Before a round ===

    def _tool(self, inputs: bool = False) -> PhoneTool:
        """The tool that takes times, or the one that also takes inputs: as a rule they
        are the same file."""
        kind = "inputs" if inputs else "times"
        if kind not in self._tools:
            name = "benchmark_model_io" if inputs else "benchmark_model"
            made = PhoneTool(self._facts.abi, self._given_tool, inputs, name)
            same = [t for t in self._tools.values() if t.record == made.record]
            self._tools[kind] = same[0] if same else made
        return self._tools[kind]

    def _plan(
        self,
        settings: MeasureSettings,
        tool: PhoneTool | None = None,
        further_flags: Sequence[str] = (),
    ) -> Plan:
        """Checks the settings and makes the tool ready.

        Raises:
            BenchError: settings that this phone or its tool cannot have.
        """
        check_settings(settings)
        tool = tool or self._tool()
        cores = choose_cores(
            settings.affinity, settings.threads, self._facts.core_max_khz
        )
        tool.install(self._session)
        flags = [*timing_flags(settings), *further_flags]
        check_known(flags, tool.known)
        if cores.mask and not tool.takes_mask(self._session, cores.mask):
            if settings.affinity != AUTO:
                raise BenchError(
                    f"Affinity {settings.affinity!r} is refused by"
                    f" {self._session.transport.label} (taskset); give 'none' or"
                    " another mask."
                )
            cores = CoreChoice(None, tuple(self._facts.core_max_khz))
        self._used_cores = cores.cores
        return make_plan(settings, flags, cores)

    def _push_models(self, models: Sequence[ModelFile]) -> dict[str, str]:
        """Pushes models; why not, by digest. Raises NoSpace when they do not fit."""
        files = {_remote_name(model): (model.path, model.sha256) for model in models}
        folder = self._session.folder
        try:
            refused = folder.push_verified(files)
        except NoSpace:
            mine = {*files, *(tool.name for tool in self._tools.values())}
            folder.drop([name for name in folder.names if name not in mine])
            refused = folder.push_verified(files)
        return {
            m.sha256: refused[_remote_name(m)]
            for m in models
            if _remote_name(m) in refused
        }

    # === A round ===

    def _run(
        self,
        models: Sequence[ModelFile],
        plan: Plan,
        read: Callable[[Frame], T | Failure],
    ) -> Iterator[T | Failure]:
        """Visits some models in one shell session; ``read`` makes their outcomes."""
        tool = self._tool()
        tool.install(self._session)
        refused = self._push_models(models)
        self._refresh()
        commands = [
            command_of(
                f"./{tool.name}",
                [f"--graph={_remote_name(m)}", *plan.flags],
                plan.cores.mask,
            )
            for m in models
            if m.sha256 not in refused
        ]
        frames = run_commands(self._session, commands, plan.limit_s)
        with contextlib.closing(frames):
            numbered = in_order(frames, len(commands))
            for model in models:
                if model.sha256 in refused:
                    yield Failure("push", refused[model.sha256])
                else:
                    frame = next(numbered)
                    yield DAMAGED if frame is None else read(frame)

    def _round(self, frame: Frame, plan: Plan, delegate: str) -> Round | Failure:
        log = read_frame(frame, plan.flags, delegate)
        if isinstance(log, Failure):
            return log
        if log.timings is None or log.timings.regular is None:
            return Failure(
                "log", "the tool reported no statistics of its runs", log.tail
            )
        before, after = (self._conditions(q) for q in (frame.before, frame.after))
        notes = {
            "affinity": plan.cores.mask or "none",
            "delegates": delegates_text(log),
        }
        conditions = dataclasses.replace(
            after,
            throttled=_either(before.throttled, after.throttled),
            foreign_load=foreign_load(frame, plan.cores.cores),
            other={**after.other, **{k: v for k, v in notes.items() if v}},
        )
        return Round.of_summary(
            summary_of(log.timings.regular), conditions, log.timings.init_ms * 1000
        )

    # === The phone's state ===

    def _query_state(self) -> QuickState:
        answers = run_batch(self._session.transport, STATE_COMMANDS)
        self._slow, self._slow_at = parse_slow(answers), time.monotonic()
        return parse_quick(answers["quick"])

    def _refresh(self) -> None:
        if time.monotonic() - self._slow_at > FRESH_S:
            self._conditions(self._query_state())

    def _conditions(self, quick: QuickState) -> Conditions:
        for core, khz in quick.caps_khz.items():
            best = self._best_caps_khz.get(core, 0)
            self._best_caps_khz[core] = max(khz, best)
        return as_conditions(
            self._slow,
            quick,
            self._used_cores,
            self._best_caps_khz,
            self._facts.core_max_khz,
        )

    # === A lost connection ===

    def _recover(self, lost: ConnectionLost | None) -> None:
        if lost is None:
            self._session.end_script()
        else:
            self._session.reconnect(lost)
        self._slow_at = -FRESH_S

    def _again_if_lost(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except ConnectionLost as error:
            self._recover(error)
            return work()


def _remote_name(model: ModelFile) -> str:
    """A model's file name on the phone: its digest, so that no name needs quoting."""
    return f"models/{model.sha256}.tflite"


def _either(one: bool | None, other: bool | None) -> bool | None:
    reported = [value for value in (one, other) if value is not None]
    return any(reported) if reported else None
