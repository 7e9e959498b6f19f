"""A PostgreSQL server of our own for the time of the tests, from Debian's package."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

UNPRIVILEGED = "postgres"  # made by Debian's package; the server refuses to run as root


class PostgreSQLServer:
    """Started in a folder, on a socket there and no network port.

    Skips the test where there are no binaries.
    """

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        # Not below pytest's folder, whose parents are ours alone: the server's user
        # needs in. And short: the name of a socket has some hundred letters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="mess-postgresql-"))

    def __enter__(self) -> str:
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            data, log = (str(self._folder / name) for name in ("data", "log"))
            self._run("initdb", "-D", data, "-U", "mess", "-A", "trust", "--no-sync")
            options = (
                f"-c listen_addresses= -c unix_socket_directories={self._folder}"
                " -c fsync=off"
            )
            start = ("-D", data, "-w", "-t", "60", "-l", log, "-o", options, "start")
            self._run("pg_ctl", *start)
            undo.callback(
                self._run, "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"
            )
            self._undo = undo.pop_all()
        return f"postgresql://mess@/postgres?host={self._folder}"

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            # The server would keep a pipe open for as long as it runs.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
        if done.returncode:
            pytest.fail(f"{program} failed with exit code {done.returncode}")


def _binaries() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [place for place in places if (place / "initdb").is_file()]
    if not found:
        pytest.skip(
            "no PostgreSQL: install Debian's package postgresql, or name a server in"
            " MESS_TEST_POSTGRESQL_URL"
        )
    return found[-1]
