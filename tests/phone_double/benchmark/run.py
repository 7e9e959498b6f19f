"""What the stand-in of TFLite's benchmark tool does, from its start to its exit code.

It loads the pushed model with LiteRT and times it; how it misbehaves is asked of the
double.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.phone_double import faults
from tests.phone_double.benchmark import report
from tests.phone_double.benchmark.errors import Failed, Fatal
from tests.phone_double.benchmark.inputs import read_layers
from tests.phone_double.benchmark.options import FLAGS, BadValue, Options

DESK = "PHONE_DOUBLE_RUNS"
ROOT = "PHONE_DOUBLE_ROOT"
ANY_ABI = "any"

_SIGNALS = {
    faults.CRASH: signal.SIGSEGV,
    faults.KILLED: signal.SIGKILL,
    faults.ABORT: signal.SIGABRT,
}
_GARBAGE = (
    b"\x00\x01\xff\xfe\x80 vendor: fence timeout 0xdeadbeef\r\n"
    b"INFO: count=7 first=\n[  1.234] binder: 1:2 transaction failed\n"
    + b"x" * 5000
    + b"\n"
)


class Desk:
    """The double's side of a run: what it orders, and what it is told."""

    def __init__(self, model: str) -> None:
        self.orders: dict[str, Any] = {}
        self._channel: socket.socket | None = None
        if DESK in os.environ:
            self._channel = socket.socket(socket.AF_UNIX)
            self._channel.connect(os.environ[DESK])
            self._answers = self._channel.makefile("rb")
            self.orders = self._ask({"model": model})

    def pause(self) -> None:
        """Tells how much of the processor the run has used; goes on when it may."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._ask({"cpu_s": used.ru_utime + used.ru_stime})

    def _ask(self, what: Mapping[str, Any]) -> dict[str, Any]:
        if self._channel is None:
            return {}
        self._channel.sendall(json.dumps(what).encode() + b"\n")
        line = self._answers.readline()
        return dict(json.loads(line)) if line else {}


class Phase:
    """Runs the model by the tool's rule for a phase.

    Args:
        slowdown: how many times longer a run is to take.
        fault: what goes wrong in this phase.
    """

    def __init__(
        self,
        invoke: Callable[[], None],
        slowdown: float,
        fault: Mapping[str, Any],
        delay_s: float,
        period_s: float | None,
    ) -> None:
        self._invoke, self._slowdown, self._fault = invoke, slowdown, fault
        self._delay_s, self._period_s = delay_s, period_s

    def run(self, runs: int, min_s: float, max_s: float) -> list[int]:
        """Microseconds of each run."""
        samples: list[int] = []
        begin = time.perf_counter()
        while True:
            passed = time.perf_counter() - begin
            enough = len(samples) >= runs and passed >= min_s
            if enough or passed > max_s:
                return samples
            if self._fault and passed >= self._fault.get("after_s", 0.0):
                _misbehave(str(self._fault["kind"]))
            samples.append(self._one())
            delay_s = self._delay_s
            if self._period_s is not None:
                due = begin + (len(samples) + 1) * self._period_s
                delay_s = due - time.perf_counter()
            if delay_s > 0:
                time.sleep(delay_s)

    def _one(self) -> int:
        before = time.perf_counter_ns()
        self._invoke()
        took = time.perf_counter_ns() - before
        until = before + int(took * self._slowdown)
        while self._slowdown > 1 and time.perf_counter_ns() < until:
            pass
        return max(1, (time.perf_counter_ns() - before) // 1000)


def _misbehave(kind: str) -> None:
    if kind in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[kind])
    elif kind == faults.HANG:
        while True:
            time.sleep(60)


class Run:
    """One run of the tool.

    Args:
        abi: whose program it is.
        name: the tool as it was called.
    """

    def __init__(self, abi: str, name: str, words: Sequence[str]) -> None:
        self._abi, self._name, self._words = abi, name, words
        graphs = [w.partition("=")[2] for w in words if w.startswith("--graph=")]
        self._root = os.environ.get(ROOT, "")
        path = os.path.join(os.getcwd(), *graphs[:1]) if graphs else ""
        self._desk = Desk(path.removeprefix(self._root))
        orders = self._desk.orders
        self._style = orders.get("style", report.NEW)
        self._log = report.Log(self._style, self._root)
        self._fault: Mapping[str, Any] = orders.get("fault") or {}

    def main(self) -> int:
        abis = self._desk.orders.get("abis", [self._abi])
        if self._abi != ANY_ABI and self._abi not in abis:
            name = self._name.removeprefix(self._root)
            bits = "64" if "64" in self._abi else "32"
            text = f"/system/bin/sh: {name}: not executable: {bits}-bit ELF file\n"
            report.write(2, text)
            return 126
        self._log.info("STARTING!")
        try:
            self._measure(self._parse())
        except Failed:
            self._log.error("Benchmarking failed.")
            return 1
        except Fatal as error:
            self._log.fatal(str(error))
            os.kill(os.getpid(), signal.SIGABRT)
        return 0

    def _parse(self) -> Options:
        try:
            options = Options.parse(self._words)
        except BadValue as error:
            self._log.error(str(error))
            self._log.error(self._usage())
            raise Failed from error
        if options.switch("help"):
            self._log.error(self._usage())
            raise Failed
        if options.unknown:
            self._log.warn(f"Unconsumed cmdline flags: {' '.join(options.unknown)}")
        if not options.text("graph"):
            self._log.error(
                "Please specify the name of your TF Lite input file with --graph"
            )
            raise Failed
        return options

    def _usage(self) -> str:
        lines = "".join(f"\t--{f.name}={f.default}\toptional\n" for f in FLAGS)
        return f"usage: {self._name} <flags>\nFlags:\n{lines}"

    def _measure(self, options: Options) -> None:
        log, orders = self._log, self._desk.orders
        layers = read_layers(options, log)
        accelerators = orders.get("accelerators", ())
        for line in options.echo(accelerators, self._style == report.NEW):
            log.info(line)
        # Not before: LiteRT takes a moment to load, and a usage error none.
        from tests.phone_double.benchmark.model import Model

        size_mb = _size_mb(options.text("graph"))
        memory_mb = _resident_mb()
        begin = time.perf_counter_ns()
        model = Model(options, log, layers, orders.get("delegates", {}))
        init_us = (time.perf_counter_ns() - begin) // 1000
        init_mb = _resident_mb() - memory_mb
        log.info(f"The input model file size (MB): {report.six_digits(size_mb)}")
        log.info(f"Initialized session in {report.six_digits(init_us / 1000)}ms.")
        model.fill_inputs()
        warmup, runs = self._phases(options, model.invoke)
        self._desk.pause()
        self._tell_result(report.result_line(init_us, warmup, runs))
        log.info(report.MEMORY_NOTE)
        overall_mb = _resident_mb() - memory_mb
        log.info(report.memory_line(init_mb, overall_mb, self._style))
        if options.switch("report_peak_memory_footprint"):
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            for line in report.peak_lines(peak_mb, _resident_mb(), self._style):
                log.info(line)
        if options.switch("enable_op_profiling"):
            for line in report.operator_tables(model.operators(), runs):
                log.info(line)
        if options.text("output_filepath"):
            model.write_outputs(options.text("output_filepath"))
        self._desk.pause()
        if self._fault.get("kind") == faults.FAILED_RUN:
            raise Failed

    def _phases(
        self, options: Options, invoke: Callable[[], None]
    ) -> tuple[list[int], list[int]]:
        frequency = options.number("run_frequency")
        results = []
        for name, runs, min_s in (
            ("warmup", "warmup_runs", "warmup_min_secs"),
            ("regular", "num_runs", "min_secs"),
        ):
            count, least_s = int(options.number(runs)), options.number(min_s)
            if options.switch("dry_run"):
                count, least_s = 0, -1.0
            max_s = options.number("max_secs")
            self._log.info(report.phase_line(count, least_s, max_s))
            fault = self._fault
            phase = Phase(
                invoke,
                float(self._desk.orders.get("slowdown", 1.0)),
                fault if fault.get("phase", "regular") == name else {},
                options.number("run_delay"),
                1 / frequency if frequency > 0 else None,
            )
            samples = phase.run(count, least_s, max_s)
            self._tell_mishap(name)
            self._log.info(report.count_line(samples, self._style) + "\n")
            if name == "warmup" and fault.get("kind") == faults.FAILED_WARMUP:
                raise Failed
            results.append(samples)
        return results[0], results[1]

    def _tell_mishap(self, phase: str) -> None:
        """What a failing model or a noisy neighbour prints in a phase."""
        kind = self._fault.get("kind")
        if kind == faults.GARBAGE:
            report.write(1, _GARBAGE)
        elif kind == f"failed {'run' if phase == 'regular' else 'warmup'}":
            for _ in range(3):
                self._log.runtime("ERROR", "Node number 0 (CONV_2D) failed to invoke.")

    def _tell_result(self, line: str) -> None:
        if self._fault.get("kind") == faults.HALF:
            report.write(1, line[: len(line) // 2])
            os._exit(int(self._fault.get("code", 0)))
        self._log.info(line)


def _size_mb(path: str) -> float:
    try:
        return os.path.getsize(path) / 1e6
    except OSError:
        return 0.0


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> int:
    """argv: the program, the tool's ABI, the tool as it was called, its arguments."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    abi, name, *words = sys.argv[1:]
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(os.path.basename(name)[:15])
    return Run(abi, name, words).main()
