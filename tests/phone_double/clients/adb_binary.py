"""Google's own ``adb``, with a server, a home and a key that are its alone."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import adbutils

BINARY = Path(adbutils.__file__).parent / "binaries" / "adb"


class Adb:
    """Runs the binary; its server is ended with the ``with`` block."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "ANDROID_USER_HOME": str(home),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ANDROID_ADB_LOG_PATH": str(home / "log"),
            # Only what is connected by name; looking for USB takes three seconds.
            "ADB_USB": "0",
            "ADB_EMU": "0",
            "ADB_MDNS": "0",
        }

    def __call__(
        self, *args: str, input: bytes | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [BINARY, *args],
            env=self._environment,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
        )

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """The same without waiting."""
        return subprocess.Popen(
            [BINARY, *args],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def connect(self, serial: str, state: str = "device") -> None:
        """Connects and waits for a state. Raises TimeoutError after some seconds."""

        def reached() -> bool:
            # A server that has not yet let go of an earlier connection answers "already
            # connected", and then lets go.
            found = self.state(serial)
            if found in ("", "offline"):
                self("connect", serial)
            return found == state

        self.wait_until(reached, f"{serial} is {state}", timeout=60)

    def state(self, serial: str) -> str:
        """As ``adb devices`` lists it; "" where it does not."""
        for line in self("devices").stdout.decode().splitlines():
            if line.startswith(f"{serial}\t"):
                return line.partition("\t")[2]
        return ""

    def wait_until(
        self, true: Callable[[], bool], what: str, timeout: float = 15.0
    ) -> None:
        until = time.monotonic() + timeout
        while not true():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {timeout} s: {what}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self("kill-server")
