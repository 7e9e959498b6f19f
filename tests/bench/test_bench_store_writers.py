"""Several writers of one store at once, and writers that are killed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from android_bench.records import DeviceInfo
from android_bench.store import Store
from mess_tf.core.json_files import to_json

Make = Callable[..., Any]
Target = Path | str

ROOT = Path(__file__).parents[2]
ROWS = 300

# Waits until both are ready, so that they really race to make the tables.
WRITER = """
import json, sys
from android_bench.records import DeviceInfo, Measurement
from android_bench.store import Store
from mess_tf.core.json_files import from_json
target, start, row, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
row = json.loads(row)
print("ready", flush=True)
sys.stdin.readline()
store = Store(target)
store.put_device(DeviceInfo("host", "host", "f1", "m", "s", "a", "o", 2))
for number in range(start, start + rows):
    store.put(from_json({**row, "name": f"m{number}"}, Measurement, "row"))
    print(number, flush=True)
"""


def start_writer(
    target: Target, start: int, row: Any, rows: int
) -> subprocess.Popen[str]:
    text = json.dumps(to_json(row))
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), str(start), text, str(rows)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    writer.stdin.write("\n")
    writer.stdin.flush()


def test_two_processes_that_also_race_to_make_the_store_lose_nothing(
    target: Target, round_of: Make, measurement_of: Make
) -> None:
    row = measurement_of("m", round_of(1.0, 2.0), set_aside=(round_of(3.0),))
    writers = [start_writer(target, start, row, ROWS) for start in (0, 1000)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        let_go(writer)
    for writer in writers:
        told, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0 and len(told.split()) == ROWS
    with Store(target) as store:
        rows = store.measurements()
        assert len(store.devices()) == 1
    names = [r.name for r in rows]
    assert sorted(names) == sorted(f"m{s + i}" for s in (0, 1000) for i in range(ROWS))
    assert all((r.rounds, r.set_aside) == (row.rounds, row.set_aside) for r in rows)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_lose_nothing_with_one_store_or_one_each(
    target: Target, round_of: Make, measurement_of: Make, shared: bool
) -> None:
    one = Store(target)

    def write(number: int) -> None:
        store = one if shared else Store(target)
        store.put_device(DeviceInfo("host", "host", "f1", "m", "s", "a", "o", 2))
        for count in range(25):
            store.put(measurement_of(f"m{number}-{count}", round_of(1.0 + count)))
        if not shared:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with one:
        names = sorted(row.name for row in one.measurements())
        assert len(one.devices()) == 1
    assert names == sorted(f"m{n}-{c}" for n in range(8) for c in range(25))


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_whole_rows_and_a_store_that_opens(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    path = tmp_path / "p.sqlite"
    row = measurement_of("m", round_of(*[1.0] * 500), round_of(2.0))
    acknowledged = 0
    # The first are killed while they make the tables, the later ones while they write.
    for turn in range(8):
        writer = start_writer(path, 1000 * turn, row, 1000)
        assert writer.stdout is not None and writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        let_go(writer)
        time.sleep(0.02 + 0.05 * turn)
        writer.send_signal(signal.SIGKILL)
        told, _ = writer.communicate(timeout=60)
        acknowledged += len(told.split())
        with Store(path) as store:
            rows = store.measurements()
        # One row may have been stored without our hearing of it.
        assert acknowledged <= len(rows) <= acknowledged + turn + 1
        assert all(r.rounds == row.rounds for r in rows)
    assert acknowledged > 0
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_server_that_drops_its_connections_between_two_rows_is_asked_again(
    empty_postgresql: str, round_of: Make, measurement_of: Make
) -> None:
    url = sa.make_url(empty_postgresql).set(drivername="postgresql+psycopg")
    with Store(empty_postgresql) as store:
        store.put(measurement_of("a", round_of(1.0)))
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        engine.dispose()
        store.put(measurement_of("b", round_of(1.0)))
        assert [row.name for row in store.measurements()] == ["a", "b"]
