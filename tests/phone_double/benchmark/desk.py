"""Where runs of the benchmark tool report, and learn how they are to behave."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.phone_double.faults import Faults
from tests.phone_double.phones.phone import Phone
from tests.phone_double.phones.state import PhoneState

_CREDENTIALS = struct.Struct("3i")  # pid, user, group of the other side
_TICKS_PER_S = 100.0


class BenchmarkDesk:
    """Listens for runs; one connection is one run, and lasts as long.

    Attributes:
        style: ``new`` or ``old``: how the tool writes.
        delegates: what becomes of them, as ``Phone.delegates``.
        models: of all runs so far, the model's path on the phone, in order.
    """

    def __init__(
        self,
        address: Path,
        phone: Phone,
        state: PhoneState,
        faults: Faults,
        refresh: Callable[[], None],
    ) -> None:
        self.style = "new"
        self.delegates: Mapping[str, str] = phone.delegates
        self.models: list[str] = []
        self._phone, self._state, self._faults = phone, state, faults
        self._refresh = refresh
        self._lock = threading.Lock()
        self._cpu_s: dict[int, float] = {}
        self._ended_cpu_s = 0.0
        self._told_cpu_s = 0.0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(address))
        self._socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def running(self) -> int:
        """Runs at this moment."""
        return len(self._cpu_s)

    def take_cpu_s(self) -> float:
        """Processor seconds that runs took since this was last asked."""
        with self._lock:
            for pid, known in self._cpu_s.items():
                self._cpu_s[pid] = max(known, _cpu_s(pid))
            total = self._ended_cpu_s + sum(self._cpu_s.values())
            taken, self._told_cpu_s = total - self._told_cpu_s, total
            return taken

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: socket.socket) -> None:
        with (
            channel,
            contextlib.suppress(OSError, ValueError),
            channel.makefile() as file,
        ):
            raw = channel.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            pid = _CREDENTIALS.unpack(raw)[0]
            model = str(json.loads(file.readline())["model"])
            self.models.append(model)
            with self._lock:
                self._cpu_s[pid] = 0.0
            ended = threading.Event()
            try:
                acted = self._arm_action(model, ended)
                orders = json.dumps(self._orders(model)) + "\n"
                channel.sendall(orders.encode())
                for line in file:
                    with self._lock:
                        self._cpu_s[pid] = float(json.loads(line)["cpu_s"])
                    # No run has its result before what was to happen in it.
                    acted.wait()
                    # Nor is the uptime read after a run older than its end.
                    self._refresh()
                    channel.sendall(b"{}\n")
            finally:
                ended.set()
                with self._lock:
                    self._ended_cpu_s += self._cpu_s.pop(pid)

    def _arm_action(self, model: str, ended: threading.Event) -> threading.Event:
        """Set once what is to happen in this run has happened."""
        armed, acted = self._faults.take_in_run(model), threading.Event()
        if armed is None:
            acted.set()
            return acted
        action, after_s = armed

        def act() -> None:
            try:
                if not ended.wait(after_s):
                    action()
            finally:
                acted.set()

        threading.Thread(target=act, daemon=True).start()
        return acted

    def _orders(self, model: str) -> dict[str, Any]:
        return {
            "style": self.style,
            "slowdown": self._state.slowdown,
            "delegates": dict(self.delegates),
            "accelerators": list(self._phone.accelerators),
            "abis": list(self._phone.abis),
            "fault": self._faults.take_run(model),
        }


def _cpu_s(pid: int) -> float:
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
