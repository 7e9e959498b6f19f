"""What adb itself costs per piece: one script for many, or one shell command for each?

    python benchmarks/bench_transport.py [--pieces 24] [--repeats 7]

A phone double listens on loopback; Google's adb server is one way to it, adb_shell
the other. In place of the benchmark tool runs `true`, so that what is left is the
transport, the phone's shell, and reading the phone's state between two pieces. All
cases take turns, in an order drawn anew for each repeat. What a real cable or network
adds per round trip comes on top: once per script when batched, several times per piece
otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from android_bench.adb.connect import connect
from android_bench.adb.reach import find
from android_bench.phones.rounds import run_commands
from android_bench.phones.session import PhoneSession
from android_bench.phones.shell_batch import STATE_COMMANDS, run_batch

sys.path.append(str(Path(__file__).parents[1]))

from tests.phone_double import Adb, PhoneDouble  # noqa: E402

QUICK = {"quick": STATE_COMMANDS["quick"]}


def batched(session: PhoneSession, pieces: int) -> None:
    """As measuring does it: one push, one shell command, the state between pieces."""
    frames = list(run_commands(session, [["true"]] * pieces, 60.0))
    if [frame.exit_code for frame in frames] != [0] * pieces:
        raise SystemExit("a piece got lost")


def one_by_one(session: PhoneSession, pieces: int) -> None:
    """A shell command for each piece, and one for the state after it."""
    for _ in range(pieces):
        if session.transport.shell(["true"]).exit_code != 0:
            raise SystemExit("a piece got lost")
        run_batch(session.transport, QUICK)


def without_state(session: PhoneSession, pieces: int) -> None:
    """A shell command for each piece, and no look at the phone's state at all."""
    for _ in range(pieces):
        if session.transport.shell(["true"]).exit_code != 0:
            raise SystemExit("a piece got lost")


CASES: dict[str, Callable[[PhoneSession, int], None]] = {
    "one script": batched,
    "one shell per piece": one_by_one,
    "the same, state not read": without_state,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, PhoneDouble() as phone:
        os.environ["HOME"] = home
        with Adb(Path(home) / "adb") as adb:
            adb.connect(phone.serial)
            os.environ["ANDROID_ADB_SERVER_PORT"] = str(adb.port)
            names = {
                "adb_shell": f"tcp:{phone.serial}",
                "adb server": f"server:{phone.serial}",
            }
            sessions = {
                way: PhoneSession(lambda name=name: connect(find(name)))  # type: ignore[misc]
                for way, name in names.items()
            }
            taken = measure(sessions, args.pieces, args.repeats)
            for session in sessions.values():
                session.close()
    print(f"milliseconds per piece, {args.pieces} pieces, {args.repeats} repeats")
    print(f"{'way':12} {'how':26} {'median':>8} {'least':>8} {'most':>8}")
    for (way, case), seconds in taken.items():
        each = 1000 * np.array(seconds) / args.pieces
        figures = np.median(each), each.min(), each.max()
        print(f"{way:12} {case:26}", *(f"{figure:8.2f}" for figure in figures))


def measure(
    sessions: dict[str, PhoneSession], pieces: int, repeats: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds of each repeat by way and case, the first one not counted."""
    rng = np.random.default_rng(0)
    todo = [(way, case) for way in sessions for case in CASES]
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in todo}
    for repeat in range(repeats + 1):
        for number in rng.permutation(len(todo)):
            way, case = todo[number]
            begin = time.perf_counter()
            CASES[case](sessions[way], pieces)
            if repeat:
                taken[way, case].append(time.perf_counter() - begin)
    return taken


if __name__ == "__main__":
    main()
