"""Stores that cannot be used, or no longer: one line each, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from android_bench import store as store_module
from android_bench.errors import BenchError
from android_bench.records import MeasureSettings
from android_bench.store import Store
from android_bench.store_errors import StoreError, without_password
from android_bench.store_schema import STORE_SCHEMA
from mess_tf.core.json_files import to_json

Make = Callable[..., Any]
Target = Path | str

ROOT = Path(__file__).parents[2]


def message_of(call: Callable[[], object], kind: type[BenchError] = StoreError) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


# === Targets that are none ===


def test_a_reader_does_not_make_a_store(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    said = message_of(lambda: Store(path, must_exist=True))
    assert said == f"No measurement store at {path}; run `mess profile` first."
    assert not path.exists()
    Store(path).close()
    Store(path, must_exist=True).close()


def test_a_target_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("this is no database, and long enough to be read as one" * 20)
    (tmp_path / "file").write_text("")
    targets: dict[str | Path, str] = {
        text: "no SQLite file: name another",
        tmp_path: "give the path of a file",
        tmp_path / "file" / "p.sqlite": "give the path of an SQLite file",
        "nosuchdb://host/x": "give the path of an SQLite file, or the URL",
        "nonsense://": "give the path of an SQLite file, or the URL",
    }
    for target, advice in targets.items():
        said = message_of(lambda: Store(target))  # noqa: B023
        assert str(target) in said and advice in said


def test_a_missing_driver_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = message_of(lambda: Store("postgresql://nobody@127.0.0.1:1/none"))
    assert "'psycopg'" in said and "pip install 'mess-tf[postgresql]'" in said


def test_a_server_that_does_not_answer_is_told_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    said = message_of(lambda: Store("postgresql://me:geheim@127.0.0.1:1/none"))
    assert "postgresql://me:***@127.0.0.1:1/none" in said
    assert "check that the server runs" in said and "geheim" not in said


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("postgresql://u:p%40w@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@w:x@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://h/d?user=u&password=pw&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("sqlite:////a/b@c:d.sqlite", "sqlite:////a/b@c:d.sqlite"),
        (Path("runs/a@b:c.sqlite"), "runs/a@b:c.sqlite"),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(target: Target, told: str) -> None:
    assert without_password(target) == told


def test_a_database_that_is_not_there_is_told(empty_postgresql: str) -> None:
    url = sa.make_url(empty_postgresql).set(database="absent")
    said = message_of(lambda: Store(url.render_as_string(hide_password=False)))
    assert '"absent" does not exist' in said and "createdb" in said


# === Older, newer and foreign stores ===

# The tables as the first version made them.
FIRST_SCHEMA = """
CREATE TABLE devices (fingerprint VARCHAR(128) NOT NULL PRIMARY KEY,
    info TEXT NOT NULL);
CREATE TABLE measurements (id INTEGER NOT NULL PRIMARY KEY, schema INTEGER NOT NULL,
    name TEXT NOT NULL, sha256 VARCHAR(64) NOT NULL, fingerprint VARCHAR(128) NOT NULL,
    settings_key VARCHAR(1024) NOT NULL, tool_key VARCHAR(256) NOT NULL,
    time VARCHAR(40) NOT NULL, flags TEXT NOT NULL, failure TEXT);
CREATE INDEX measurements_by_model ON measurements (fingerprint, sha256);
CREATE TABLE rounds (measurement_id INTEGER NOT NULL REFERENCES measurements (id),
    number INTEGER NOT NULL, set_aside BOOLEAN NOT NULL, samples BLOB NOT NULL,
    conditions TEXT NOT NULL, init_us FLOAT, runs INTEGER NOT NULL,
    PRIMARY KEY (measurement_id, number));
"""


def execute(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def test_a_store_of_the_first_version_goes_on(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    row = measurement_of("a", round_of(1.0, 2.0))
    with Store(new) as store:
        store.put(row)
    execute(old, FIRST_SCHEMA)
    execute(
        old,
        f"ATTACH '{new}' AS new;"
        "INSERT INTO measurements SELECT * FROM new.measurements;"
        "INSERT INTO rounds SELECT measurement_id, number, set_aside, samples,"
        " conditions, init_us, runs FROM new.rounds",
    )
    later = measurement_of("b", round_of(3.0))
    with Store(old) as store:
        store.put(later)
        assert store.measurements() == [row, later]
        assert store.get(row.sha256, "fake-1", MeasureSettings()) == row


def test_a_newer_store_is_refused_and_left_alone(target: Target) -> None:
    Store(target).close()
    engine = sa.create_engine(
        str(target).replace("postgresql:", "postgresql+psycopg:")
        if "://" in str(target)
        else f"sqlite:///{target}"
    )
    newer = STORE_SCHEMA + 1
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE store_schema SET version = {newer}"))
    said = message_of(lambda: Store(target))
    assert f"schema {newer}; this one knows up to {STORE_SCHEMA}" in said
    assert "pip install --upgrade" in said
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version FROM store_schema")) == newer
    engine.dispose()


def test_tables_of_another_program_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    execute(path, "CREATE TABLE devices (id INTEGER, owner TEXT)")
    said = message_of(lambda: Store(path))
    assert "'devices' without fingerprint, info" in said
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert tables == ["devices"]


# === A store that fails in use ===


def test_a_store_that_others_hold_locked_is_told(
    tmp_path: Path,
    round_of: Make,
    measurement_of: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.1)
    with Store(tmp_path / "p.sqlite") as store:
        row = measurement_of("a", round_of(1.0))
        other = sqlite3.connect(tmp_path / "p.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        said = message_of(lambda: store.put(row))
        assert "database is locked" in said and "end that program" in said
        other.execute("ROLLBACK")
        other.close()
        store.put(row)
        assert store.measurements() == [row]


def test_a_store_that_may_only_be_read_is_read(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    path = tmp_path / "p.sqlite"
    row = measurement_of("a", round_of(1.0))
    with Store(path) as store:
        store.put(row)
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.measurements() == [row]
        said = message_of(lambda: store.put(row))
    assert "readonly" in said and "allow writing to the file" in said


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_in_use_takes_no_rows_in_silence(
    tmp_path: Path, round_of: Make, measurement_of: Make, replaced: bool
) -> None:
    path = tmp_path / "p.sqlite"
    with Store(path) as store:
        store.put(measurement_of("a", round_of(1.0)))
        path.rename(tmp_path / "elsewhere.sqlite")
        if replaced:
            path.write_bytes((tmp_path / "elsewhere.sqlite").read_bytes())
        said = message_of(lambda: store.put(measurement_of("b", round_of(1.0))))
        assert "was deleted or replaced while it was in use" in said


def test_a_damaged_file_is_told(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    path = tmp_path / "p.sqlite"
    with Store(path) as store:
        for number in range(50):
            store.put(measurement_of(f"m{number}", round_of(*[1.0] * 50)))
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    def use() -> None:
        with Store(path) as store:
            store.measurements()

    assert ".recover" in message_of(use)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rounds SET samples = x'00'",
        "UPDATE rounds SET conditions = '{'",
        "UPDATE measurements SET flags = 'x'",
        "DELETE FROM rounds",
    ],
)
def test_a_damaged_row_is_never_a_figure(
    tmp_path: Path, round_of: Make, measurement_of: Make, change: str
) -> None:
    path = tmp_path / "p.sqlite"
    with Store(path) as store:
        store.put(measurement_of("a", round_of(1.0)))
    execute(path, change)
    with Store(path) as store:
        said = message_of(store.measurements)
    assert said.startswith("Row 1 of") and "measure a again" in said


FILLING = """
import json, resource, sys
from android_bench.errors import BenchError
from android_bench.records import Measurement
from android_bench.store import Store
from mess_tf.core.json_files import from_json
path, row = sys.argv[1], json.loads(sys.argv[2])
store = Store(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    for number in range(10_000):
        store.put(from_json({**row, "name": f"m{number}"}, Measurement, "row"))
        print(number, flush=True)
except BenchError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit to set")
def test_a_disk_that_fills_loses_nothing_that_was_stored(
    tmp_path: Path, round_of: Make, measurement_of: Make
) -> None:
    path = tmp_path / "p.sqlite"
    generator = os.urandom(800)  # samples that do not shrink
    row = measurement_of("m", round_of(*[1.0 + byte / 7 for byte in generator]))
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(path), json.dumps(to_json(row)), "300000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip()
    assert said.count("\n") == 0 and "free some space" in said, said
    acknowledged = [f"m{number}" for number in done.stdout.split()]
    assert len(acknowledged) > 5
    with Store(path) as store:  # there is space again
        assert [r.name for r in store.measurements()] == acknowledged
        store.put(row)
        assert len(store.measurements()) == len(acknowledged) + 1
