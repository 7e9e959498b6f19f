"""What goes wrong, and when: armed by tests while the phone runs."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Action = Callable[[], Any]

CRASH, KILLED, ABORT, HANG = "crash", "killed", "abort", "hang"
GARBAGE, HALF, FAILED_RUN, FAILED_WARMUP = (
    "garbage",
    "half",
    "failed run",
    "failed warmup",
)
RUN_FAULTS = (CRASH, KILLED, ABORT, HANG, GARBAGE, HALF, FAILED_RUN, FAILED_WARMUP)


@dataclass
class _Armed:
    """Something that happens ``times`` more times where a name fits."""

    pattern: str
    times: int
    what: Any


@dataclass
class Faults:
    """The faults of one phone.

    Attributes:
        shell_noise: printed before the output of every shell command.
        corrupt_pushes: so many pushes to come are stored with one byte changed.
    """

    shell_noise: bytes = b""
    corrupt_pushes: int = 0
    _runs: list[_Armed] = field(default_factory=list)
    _in_runs: list[_Armed] = field(default_factory=list)
    _in_pushes: list[_Armed] = field(default_factory=list)
    _commands: list[_Armed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # === What tests call ===

    def run(self, kind: str, model: str = "*", times: int = 1, **details: Any) -> None:
        """The next runs of the benchmark tool go wrong.

        Args:
            kind: ``crash`` (a segmentation fault), ``killed``, ``abort``, ``hang``,
                ``garbage`` (bytes amid its lines), ``half`` (the log ends inside the
                result), ``failed run`` or ``failed warmup`` (the model does).
            model: of models whose path fits this pattern.
            details: ``after_s``: so long after the phase began (crash, killed, abort,
                hang); ``code``: the exit code of half a log; ``phase``: ``warmup`` or
                ``regular`` (the default).
        """
        if kind not in RUN_FAULTS:
            raise ValueError(f"{kind!r} is none of {', '.join(RUN_FAULTS)}")
        self._arm(self._runs, model, times, {"kind": kind, **details})

    def in_run(
        self, action: Action, after_s: float = 0.0, model: str = "*", times: int = 1
    ) -> None:
        """Does something, e.g. ``phone.drop``, so long after a run began."""
        self._arm(self._in_runs, model, times, (action, after_s))

    def in_push(self, action: Action, after_bytes: int = 0, times: int = 1) -> None:
        """Does something once so many bytes of a push have come."""
        self._arm(self._in_pushes, "*", times, (action, after_bytes))

    def answer(
        self, command: str, text: str | None, code: int = 0, times: int = 10**9
    ) -> None:
        """A command prints this text, or hangs (None).

        Args:
            command: of command lines that fit this pattern, e.g. ``dumpsys battery``;
                programs of the shell's own and of the host's are not seen.
        """
        self._arm(self._commands, command, times, (text, code))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            for armed in (self._runs, self._in_runs, self._in_pushes, self._commands):
                armed.clear()
        self.shell_noise, self.corrupt_pushes = b"", 0

    # === What the phone calls ===

    def take_run(self, model: str) -> dict[str, Any] | None:
        taken: dict[str, Any] | None = self._take(self._runs, model)
        return taken

    def take_in_run(self, model: str) -> tuple[Action, float] | None:
        taken: tuple[Action, float] | None = self._take(self._in_runs, model)
        return taken

    def take_in_push(self) -> tuple[Action, int] | None:
        taken: tuple[Action, int] | None = self._take(self._in_pushes, "")
        return taken

    def take_answer(self, command: str) -> tuple[str | None, int] | None:
        taken: tuple[str | None, int] | None = self._take(self._commands, command)
        return taken

    def take_corruption(self) -> bool:
        with self._lock:
            self.corrupt_pushes -= 1
            if self.corrupt_pushes < 0:
                self.corrupt_pushes = 0
                return False
            return True

    def _arm(self, armed: list[_Armed], pattern: str, times: int, what: Any) -> None:
        with self._lock:
            armed.append(_Armed(pattern, times, what))

    def _take(self, armed: list[_Armed], name: str) -> Any:
        with self._lock:
            for entry in armed:
                if entry.times > 0 and fnmatch.fnmatchcase(name, entry.pattern):
                    entry.times -= 1
                    return entry.what
        return None


class PushWatch:
    """The faults of one push, as its bytes come."""

    def __init__(self, faults: Faults) -> None:
        self._came = 0
        self._armed = faults.take_in_push()
        self._spoil = faults.take_corruption()

    def came(self, count: int) -> None:
        self._came += count
        if self._armed is not None and self._came >= self._armed[1]:
            (action, _), self._armed = self._armed, None
            action()

    def spoil(self, block: bytes) -> bytes:
        """The block as it is stored."""
        if not self._spoil or not block:
            return block
        self._spoil = False
        return bytes([block[0] ^ 1]) + block[1:]
