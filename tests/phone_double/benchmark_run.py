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
from collections.abc import Callable, Mapping
from typing import Any

from phone_double import benchmark_report as report
from phone_double.benchmark_errors import Failed, Fatal
from phone_double.benchmark_options import BadValue, Options
from phone_double.stand_in import SOCKET


def ask_double(told: Mapping[str, Any], graph: str) -> dict[str, Any]:
    """What the double wants of this run; nothing special without a double."""
    address = os.environ.get(SOCKET)
    if address is None:
        return {}
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(address)
        fields = [os.getcwd(), "@benchmark", json.dumps(told), graph]
        channel.sendall(os.fsencode("\0".join(fields)))
        channel.shutdown(socket.SHUT_WR)
        with channel.makefile("rb") as file:
            return dict(json.loads(file.read()))


def device_path(path: str) -> str:
    """What the phone calls a file of its tree."""
    return path.removeprefix(os.environ.get("PHONE_DOUBLE_ROOT", ""))


class Phase:
    """Takes samples by the tool's rule for a phase."""

    def __init__(self, invoke: Callable[[], None], slowdown: float) -> None:
        self._invoke = invoke
        self._slowdown = slowdown

    def run(self, runs: int, min_s: float, max_s: float, delay_s: float) -> list[int]:
        """Microseconds of each run."""
        samples: list[int] = []
        begin = time.perf_counter()
        while True:
            passed = time.perf_counter() - begin
            if (len(samples) >= runs and passed >= min_s) or passed > max_s:
                return samples
            samples.append(self._one())
            if delay_s > 0:
                time.sleep(delay_s)

    def _one(self) -> int:
        before = time.perf_counter_ns()
        self._invoke()
        took = time.perf_counter_ns() - before
        until = before + int(took * self._slowdown)
        while time.perf_counter_ns() < until:
            pass
        return max(1, round((time.perf_counter_ns() - before) / 1000))


class Run:
    """One run of the tool."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._log = report.Log(report.NEW)
        self._style = report.NEW
        self._orders: dict[str, Any] = {}

    def main(self) -> int:
        try:
            options = Options.parse(self._words)
        except BadValue as error:
            report.write(2, f"{error}\nusage: benchmark_model <flags>\n")
            return 1
        graph = options.text("graph")
        self._orders = ask_double({"threads": options.number("num_threads")}, graph)
        self._style = self._orders.get("style", report.NEW)
        self._log = report.Log(self._style)
        self._log.info("STARTING!")
        try:
            self._measure(options)
        except Failed:
            self._log.error("Benchmarking failed.")
            return 1
        return 0

    def _measure(self, options: Options) -> None:
        log = self._log
        if options.unknown:
            log.warn(f"Unconsumed cmdline flags: {' '.join(options.unknown)}")
        for line in options.echo(self._orders.get("accelerators", ())):
            log.info(line.replace(os.environ.get("PHONE_DOUBLE_ROOT", "\0"), ""))
        if not options.text("graph"):
            log.error("Please specify the name of your TF Lite input file with --graph")
            raise Failed
        # Not before: numpy and LiteRT take a moment, and a usage error none.
        from phone_double.benchmark_model import Model

        memory = _resident_mb()
        begin = time.perf_counter_ns()
        model = Model(options, log, device_path)
        init_us = (time.perf_counter_ns() - begin) // 1000
        init_mb = _resident_mb() - memory
        size_mb = os.path.getsize(options.text("graph")) / 2**20
        log.info(f"The input model file size (MB): {report.six_digits(size_mb)}")
        log.info(f"Initialized session in {init_us / 1000:g}ms.")
        phase = Phase(model.invoke, self._orders.get("slowdown", 1.0))
        max_s, delay_s = options.number("max_secs"), options.number("run_delay")
        warmup = self._phase(
            phase,
            int(options.number("warmup_runs")),
            options.number("warmup_min_secs"),
            max_s,
            delay_s,
        )
        runs = self._phase(
            phase,
            int(options.number("num_runs")),
            options.number("min_secs"),
            max_s,
            delay_s,
        )
        log.info(report.result_line(init_us, warmup, runs))
        log.info(report.MEMORY_NOTE)
        overall_mb = _resident_mb() - memory
        log.info(report.memory_line(init_mb, overall_mb, self._style))
        model.write_outputs(options.text("output_filepath"))

    def _phase(
        self, phase: Phase, runs: int, min_s: float, max_s: float, delay_s: float
    ) -> list[int]:
        self._log.info(report.phase_line(runs, min_s, max_s))
        samples = phase.run(runs, min_s, max_s, delay_s)
        self._log.info(report.count_line(samples, self._style) + "\n")
        return samples


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> int:
    """argv: the program, the tool as it was called, its arguments."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return Run(sys.argv[2:]).main()
    except Fatal as error:
        report.write(2, f"FATAL: {error}\n")
        os.kill(os.getpid(), signal.SIGABRT)
        return 134
