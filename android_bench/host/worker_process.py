"""Starts the measuring child process, exchanges messages with it, outlives its crashes.

Every wait has a bound. A crash, a hang and an exception of the child are one kind of
value for the caller, a ``Failure``; the next request starts a new child.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from android_bench.host.worker import PREFIX
from android_bench.records import Failure

Answer = Mapping[str, Any]
"""An answer of the child: JSON, of fields that depend on the request."""

START_TIMEOUT_S = 60.0
LOG_LINES = 20
LOG_BYTES = 4000

# By path and with -P: the child needs nothing of this package, and this folder must not
# come first in its module search (`profile.py` would hide the standard library's).
WORKER_COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("worker.py")))
PROFILER_COMMAND = (
    sys.executable,
    "-P",
    str(Path(__file__).with_name("operator_worker.py")),
)


class WorkerProcess:
    """A measuring child that is started when first asked."""

    def __init__(
        self,
        command: Sequence[str] = WORKER_COMMAND,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = list(command)
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[Answer | None] = queue.Queue()
        self._log: IO[bytes] | None = None

    def ask(self, request: Mapping[str, object], timeout_s: float) -> Answer | Failure:
        """Sends one request and waits for its answer.

        Returns:
            The answer, a dict; or a Failure when the child reported an error, died, or
            gave no answer within ``timeout_s`` seconds (it is then killed).
        """
        if self._process is None or self._process.poll() is not None:
            failure = self._start()
            if failure is not None:
                return failure
        log_start = self._log_size()
        try:
            self._write(json.dumps(request) + "\n")
        except OSError:
            return self._died("start", log_start)
        return self._await_answer(timeout_s, log_start)

    def close(self) -> None:
        """Ends the child, by force if it does not go."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # a request not yet taken
                    process.stdin.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start(self) -> Failure | None:
        self.close()
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                errors="replace",
                # Ctrl-C is for us: the child must not die of it in the middle.
                start_new_session=True,
            )
        except OSError as error:
            return Failure("start", f"the measuring process cannot start: {error}")
        self._lines = queue.Queue()
        threading.Thread(
            target=_read_lines, args=(self._process.stdout, self._lines), daemon=True
        ).start()
        answer = self._await_answer(self._start_timeout_s, 0, stage="start")
        return answer if isinstance(answer, Failure) else None

    def _write(self, text: str) -> None:
        stream = self._process.stdin if self._process else None
        if stream is None:
            raise BrokenPipeError
        stream.write(text)
        stream.flush()

    def _await_answer(
        self, timeout_s: float, log_start: int, stage: str = "load"
    ) -> Answer | Failure:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                tail = self._log_tail(log_start)
                self.close()
                said = f"no answer within {timeout_s:g} s; the process was killed"
                return Failure(stage, said, tail)
            if message is None:
                return self._died(stage, log_start)
            if "stage" in message:
                stage = str(message["stage"])
            elif "error" in message:
                at = str(message.get("at", stage))
                return Failure(at, str(message["error"]), self._log_tail(log_start))
            else:
                return message

    def _died(self, stage: str, log_start: int) -> Failure:
        code = self._exit_code()
        tail = self._log_tail(log_start)
        self.close()
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += " (out of memory?)" if code == -signal.SIGKILL else ""
        else:
            how = f"ended with exit code {code}"
        return Failure(stage, f"the measuring process {how}", tail)

    def _exit_code(self) -> int | None:
        if self._process is None:
            return None
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:  # it closed its stdout, yet lives
            return None

    def _log_size(self) -> int:
        return os.fstat(self._log.fileno()).st_size if self._log else 0

    def _log_tail(self, start: int) -> str:
        if self._log is None:
            return ""
        size = self._log_size()
        begin = max(start, size - LOG_BYTES)
        text = os.pread(self._log.fileno(), size - begin, begin).decode(
            errors="replace"
        )
        return "\n".join(text.splitlines()[-LOG_LINES:])


def _read_lines(stream: IO[str], lines: queue.Queue[Answer | None]) -> None:
    """Passes on what follows the prefix; everything else on the channel is noise."""
    with stream:
        for line in stream:
            if not line.startswith(PREFIX):
                continue
            try:
                message = json.loads(line.removeprefix(PREFIX))
            except json.JSONDecodeError:
                continue  # half a line of a dying child; its end follows
            if isinstance(message, dict):
                lines.put(message)
    lines.put(None)
