"""A phone's connection and folder, with reconnection after losses."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from android_bench.adb.transport import ConnectionLost, Transport
from android_bench.errors import BenchError
from android_bench.phones.folder import PhoneFolder, remove_left_overs
from android_bench.phones.script import KILL
from android_bench.phones.shell_batch import run_batch

_LOG = logging.getLogger(__name__)

_WHO = {
    "identity": "getprop ro.product.model; getprop ro.build.fingerprint;"
    " getprop ro.serialno",
    "started": "getprop sys.boot_completed",
    "uptime": "cat /proc/uptime",
}
# Android tells that it has started; a board that never does is not waited for longer.
_STARTING_S = 180
_KILL_S = 10.0


@dataclass(frozen=True)
class ReconnectTimeouts:
    """How long to wait for a lost phone: a cable, a restart, a new adb server.

    Attributes:
        total_s: until it is given up.
        pause_s: between two tries.
        close_s: the same when only the folder is to be removed.
    """

    total_s: float = 150.0
    pause_s: float = 1.0
    close_s: float = 5.0


class PhoneSession:
    """One phone from opening to closing, over as many connections as it takes.

    Args:
        reach: opens a connection; BenchError when it does not open.

    Attributes:
        transport: the connection of the moment.
        folder: its folder on the phone.

    Raises:
        BenchError: it is not reached, or no folder can be made there.
    """

    def __init__(
        self, reach: Callable[[], Transport], timeouts: ReconnectTimeouts | None = None
    ) -> None:
        self._reach = reach
        self._timeouts = timeouts or ReconnectTimeouts()
        self.transport = reach()
        try:
            self._identity, _ = self._identify()
            remove_left_overs(self.transport)
            self.folder = PhoneFolder(self.transport)
        except BenchError:
            self.transport.close()
            raise

    def reconnect(self, error: ConnectionLost) -> None:
        """Reconnects to the phone after its connection was lost.

        What a broken-off script left running is ended, and a phone that restarts is
        waited for.

        Raises:
            BenchError: it does not come back in time.
        """
        _LOG.warning("%s Waiting for it to come back.", error)
        deadline = time.monotonic() + self._timeouts.total_s
        last: BenchError = error
        while time.monotonic() < deadline:
            try:
                self._renew()
                return
            except BenchError as refusal:
                last = refusal
            time.sleep(self._timeouts.pause_s)
        raise BenchError(
            f"{self.transport.label} did not come back within"
            f" {self._timeouts.total_s:g} s ({last}). What was measured is stored:"
            " connect it again and repeat the command."
        ) from error

    def end_script(self) -> None:
        """Ends what a script may have left running."""
        try:
            self._kill()
        except ConnectionLost as error:
            self.reconnect(error)

    def close(self) -> None:
        """Removes the folder, over a new connection where this one is lost."""
        deadline = time.monotonic() + self._timeouts.close_s
        while (error := self._remove()) is not None:
            if time.monotonic() > deadline:
                _LOG.warning(
                    "%s stays on %s (%s); a later run removes it",
                    self.folder.path,
                    self.transport.label,
                    error,
                )
                break
            time.sleep(min(self._timeouts.pause_s, self._timeouts.close_s))
            self.transport.close()
            with contextlib.suppress(BenchError):
                self.transport = self._reach()
        self.transport.close()

    def _remove(self) -> BenchError | None:
        try:
            self._kill()
            self.folder.remove(self.transport)
        except BenchError as error:
            return error
        return None

    def _renew(self) -> None:
        self.transport.close()
        self.transport = self._reach()
        identity, starting = self._identify()
        if starting:
            raise ConnectionLost(f"{self.transport.label} is still starting.")
        if identity != self._identity:
            raise BenchError(f"another phone answers in place of {self._identity!r}")
        self.folder.rebind(self.transport)
        self._kill()

    def _identify(self) -> tuple[str, bool]:
        """The phone's identity, and whether it is still booting."""
        answers = run_batch(self.transport, _WHO)
        started = answers["started"].strip() == "1"
        uptime = re.match(r"\d+", answers["uptime"])
        young = uptime is not None and int(uptime[0]) < _STARTING_S
        return answers["identity"].strip(), young and not started

    def _kill(self) -> None:
        script = f'cd "$1" && {{ {KILL}\n}}'
        argv = ["sh", "-c", script, "sh", self.folder.path]
        self.transport.shell(argv, timeout_s=_KILL_S)
