"""Starting the phone's processes, listing them, and ending them with the phone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = "PHONE_DOUBLE_ROOT"

# Root on the host writes and reads whatever it likes; without these two capabilities
# the phone's permissions hold for it, too.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_CAPBSET_DROP = 24


@dataclass(frozen=True)
class Process:
    """One process of the phone's; ``argv`` with the host's paths."""

    pid: int
    argv: tuple[str, ...]


class Processes:
    """All processes that run below the folder ``root`` of a phone.

    Attributes:
        boot: grows when all of them are ended.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root = str(root)
        self._environment = {**environment, ROOT: self._root}
        self.boot = 0
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        # Capabilities belong to a thread and go on to what it starts: so one thread
        # without them starts everything.
        self._starter = ThreadPoolExecutor(1, initializer=_obey_permissions)

    def start(
        self, boot: int, argv: Sequence[str], **streams: Any
    ) -> subprocess.Popen[bytes]:
        """Starts a program in the phone's ``/``, in a session of its own.

        Args:
            boot: that in which it was asked for.

        Raises:
            RuntimeError: the phone is closed, or was restarted since.
        """

        def start() -> subprocess.Popen[bytes]:
            with self._lock:
                if boot != self.boot:
                    raise RuntimeError("the phone was restarted")
                process = subprocess.Popen(
                    argv,
                    env=self._environment,
                    cwd=self._root,
                    start_new_session=True,
                    **streams,
                )
                self._started = [p for p in self._started if p.poll() is None]
                self._started.append(process)
                return process

        return self._starter.submit(start).result()

    @property
    def busy(self) -> bool:
        """Whether anything that was started still runs."""
        with self._lock:
            return any(process.poll() is None for process in self._started)

    def list(self) -> Iterator[Process]:
        """The phone's processes, whoever started them."""
        mark = f"{ROOT}={self._root}\0".encode()
        for entry in os.listdir("/proc"):
            if not entry.isdecimal() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                folder = Path("/proc", entry)
                if mark not in folder.joinpath("environ").read_bytes():
                    continue
                argv = folder.joinpath("cmdline").read_bytes().split(b"\0")[:-1]
                if argv:
                    yield Process(int(entry), tuple(map(os.fsdecode, argv)))

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def kill_all(self) -> None:
        """Ends every process of the phone's, also those that went to the background."""
        with self._lock:
            self.boot += 1
            started, self._started = self._started, []
        for process in started:
            process.kill()
        for _ in range(20):
            found = list(self.list())
            if not found:
                break
            for other in found:
                self.kill(other.pid)
        for process in started:
            process.wait()

    def close(self) -> None:
        # What is being started is started; nothing more after it.
        self._starter.shutdown()
        self.kill_all()


def _obey_permissions() -> None:
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
