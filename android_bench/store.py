"""The measurement store: SQLite by default, any SQLAlchemy URL.

Rows are only ever added. The newest row without a failure is a model's figure; a
failure never hides an older figure, nor does it count as one. Several processes and
threads may write at once: SQLite runs in WAL mode and waits for its turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import sqlalchemy as sa

from android_bench import store_schema as schema
from android_bench.operator_records import OperatorProfile
from android_bench.records import DeviceInfo, Measurement, MeasureSettings, Tool
from android_bench.store_errors import StoreError, translated_errors, without_password
from android_bench.store_rows import (
    DAMAGED,
    TableRow,
    measurement_of,
    operator_profile_of,
    operator_profile_row_of,
    operator_rows_of,
    round_rows_of,
    row_of,
)

if TYPE_CHECKING:
    import pandas as pd

Statistic = Literal["p50", "p90", "mean"]
_Value = TypeVar("_Value")

BUSY_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10
_CHUNK = 500  # values in one IN (...): below every database's limit


class Store:
    """Measurements under (model sha256, device fingerprint, settings, tool).

    One object may be used by several threads.

    Args:
        target: path of an SQLite file (made when absent, folders too) or a URL, e.g.
            ``postgresql://user@host/name``.
        must_exist: an absent SQLite file is an error; for those who only read.

    Raises:
        StoreError: it cannot be opened, here and from every method.
    """

    def __init__(self, target: str | Path, must_exist: bool = False) -> None:
        self._name = without_password(target)
        if must_exist and "://" not in str(target) and not Path(target).is_file():
            raise StoreError(
                f"No measurement store at {target}; run `mess profile` first."
            )
        with translated_errors(self._name):
            url = _url(target)
            self._engine = _engine(url)
            try:
                schema.prepare(self._engine, self._name)
            except BaseException:
                self._engine.dispose()
                raise
        self._file = _file(url)
        self._file_id = _file_id(self._file)

    def put_device(self, info: DeviceInfo) -> None:
        """Remembers what a fingerprint stands for; the newest description stays."""
        table = schema.devices
        text = json.dumps(dataclasses.asdict(info))
        values = {"fingerprint": info.fingerprint, "info": text}
        try:
            with self._writing() as connection:
                changed = connection.execute(
                    table.update()
                    .where(table.c.fingerprint == info.fingerprint)
                    .values(values)
                )
                if not changed.rowcount:
                    connection.execute(table.insert().values(values))
        except StoreError as error:
            # Another process was first; it said the same.
            if not isinstance(error.__cause__, sa.exc.IntegrityError):
                raise

    def devices(self) -> list[DeviceInfo]:
        """Every device that was measured on, by fingerprint."""
        table = schema.devices
        with translated_errors(self._name), self._engine.connect() as connection:
            query = sa.select(table.c.info).order_by(table.c.fingerprint)
            return [DeviceInfo(**json.loads(t)) for t in connection.scalars(query)]

    def put(self, measurement: Measurement) -> None:
        """Adds a row; it is on the disk when this returns."""
        with self._writing() as connection:
            added = connection.execute(
                schema.measurements.insert().values(row_of(measurement))
            )
            rows = round_rows_of(measurement, _inserted_id(added))
            if rows:
                connection.execute(schema.rounds.insert(), rows)

    def latest(
        self,
        fingerprint: str,
        settings: MeasureSettings | str,
        sha256s: Sequence[str],
        tool: Tool | str | None = None,
    ) -> dict[str, Measurement]:
        """Each model's newest measurement that did not fail, by sha256, where any.

        Args:
            settings: a record or its key.
            tool: a record or its key; None takes any tool's.
        """
        found = self._newest(fingerprint, settings, sha256s, tool)
        newest: dict[str, int] = {}
        for row in found:
            newest[row.sha256] = max(row.id, newest.get(row.sha256, row.id))
        return {row.sha256: row for row in self._read_ids(list(newest.values()))}

    def get(
        self,
        sha256: str,
        fingerprint: str,
        settings: MeasureSettings | str,
        tool: Tool | str | None = None,
    ) -> Measurement | None:
        """One model's newest measurement that did not fail, or None."""
        return self.latest(fingerprint, settings, [sha256], tool).get(sha256)

    def has(
        self,
        sha256: str,
        fingerprint: str,
        settings: MeasureSettings | str,
        tool: Tool | str | None = None,
    ) -> bool:
        """Whether the model is measured; a failure is not a measurement."""
        return bool(self._newest(fingerprint, settings, [sha256], tool))

    def latencies_ms(
        self,
        device_fingerprint: str,
        settings: MeasureSettings | str,
        shas: Sequence[str],
        statistic: Statistic = "p50",
    ) -> dict[str, float]:
        """Latency in milliseconds by sha256; what is not measured is left out.

        All are of one tool, since those of two cannot be added up: of the one that has
        measured most of these models, then of the one that measured last.
        """
        by_tool: dict[str, list[int]] = {}
        for row in self._newest(device_fingerprint, settings, shas, None):
            by_tool.setdefault(row.tool_key, []).append(row.id)
        ids = max(by_tool.values(), key=lambda ids: (len(ids), max(ids)), default=[])
        found = self._read_ids(ids)
        return {row.sha256: getattr(row, f"{statistic}_ms") for row in found}

    def measurements(self) -> list[Measurement]:
        """Every row, failures included, oldest first."""
        return self._read(sa.true())

    def failures(self) -> list[Measurement]:
        """Every failure row, oldest first."""
        return self._read(schema.measurements.c.failure.is_not(None))

    def put_operators(self, profile: OperatorProfile) -> None:
        """Adds an operator profile; it is on the disk when this returns."""
        with translated_errors(self._name):
            schema.make_operator_tables(self._engine)
        with self._writing() as connection:
            added = connection.execute(
                schema.operator_profiles.insert().values(
                    operator_profile_row_of(profile)
                )
            )
            rows = operator_rows_of(profile, _inserted_id(added))
            if rows:
                connection.execute(schema.operators.insert(), rows)

    def latest_operators(
        self,
        fingerprint: str,
        settings: MeasureSettings | str,
        sha256s: Sequence[str],
        tool: Tool | str | None = None,
    ) -> dict[str, OperatorProfile]:
        """Each model's newest operator profile that did not fail, by sha256."""
        wanted = set(sha256s)
        return {
            profile.sha256: profile
            for profile in self.operator_profiles()
            if not profile.failed
            and profile.sha256 in wanted
            and profile.fingerprint == fingerprint
            and profile.settings_key == _key(settings)
            and (tool is None or profile.tool_key == _key(tool))
        }

    def operator_profiles(self) -> list[OperatorProfile]:
        """Every operator profile, failures included, oldest first."""
        table, operators = schema.operator_profiles, schema.operators
        of_operators: dict[int, list[TableRow]] = {}
        with translated_errors(self._name), self._engine.connect() as connection:
            if not schema.has_operators(connection):
                return []
            rows = connection.execute(sa.select(table).order_by(table.c.id)).all()
            query = sa.select(operators).order_by(
                operators.c.profile_id, operators.c.number
            )
            for item in connection.execute(query):
                of_operators.setdefault(item.profile_id, []).append(item)
        return [
            self._checked(row, operator_profile_of, of_operators.get(row.id, ()))
            for row in rows
        ]

    def to_frame(self) -> pd.DataFrame:
        """Every row as a table: keys, settings, figures (NaN when failed), flags."""
        from android_bench.tables import measurements_table

        return measurements_table(self.measurements(), self.devices())

    def rounds_frame(self) -> pd.DataFrame:
        """Every round as a table, with its raw samples and conditions."""
        from android_bench.tables import rounds_table

        return rounds_table(self.measurements(), self.devices())

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with translated_errors(self._name):
            self._check_file()
            with self._engine.begin() as connection:
                yield connection
            self._check_file()

    def _check_file(self) -> None:
        """A file that is deleted while it is open takes rows, and they are lost."""
        if self._file is not None and _file_id(self._file) != self._file_id:
            raise StoreError(
                f"The measurement store {self._name} was deleted or replaced while it"
                " was in use; put it back if you can, and repeat the command."
            )

    def _newest(
        self,
        fingerprint: str,
        settings: MeasureSettings | str,
        sha256s: Sequence[str],
        tool: Tool | str | None,
    ) -> list[TableRow]:
        """(sha256, tool_key, id) of the newest rows without a failure."""
        table = schema.measurements.c
        newest = sa.select(
            table.sha256, table.tool_key, sa.func.max(table.id).label("id")
        )
        newest = newest.where(
            table.fingerprint == fingerprint,
            table.settings_key == _key(settings),
            table.failure.is_(None),
        )
        if tool is not None:
            newest = newest.where(table.tool_key == _key(tool))
        newest = newest.group_by(table.sha256, table.tool_key)
        rows: list[TableRow] = []
        with translated_errors(self._name), self._engine.connect() as connection:
            for some in _chunks(sha256s):
                rows += connection.execute(newest.where(table.sha256.in_(some)))
        return rows

    def _read_ids(self, ids: Sequence[int]) -> list[Measurement]:
        table = schema.measurements.c
        return [row for some in _chunks(ids) for row in self._read(table.id.in_(some))]

    def _read(self, condition: sa.ColumnElement[bool]) -> list[Measurement]:
        table, rounds = schema.measurements, schema.rounds
        chosen = sa.select(table.c.id).where(condition)
        of_rounds: dict[int, list[TableRow]] = {}
        with translated_errors(self._name), self._engine.connect() as connection:
            query = sa.select(table).where(condition).order_by(table.c.id)
            rows = connection.execute(query).all()
            query = sa.select(rounds).where(rounds.c.measurement_id.in_(chosen))
            query = query.order_by(rounds.c.measurement_id, rounds.c.number)
            for row in connection.execute(query):
                of_rounds.setdefault(row.measurement_id, []).append(row)
        return [self._as_measurement(row, of_rounds.get(row.id, ())) for row in rows]

    def _as_measurement(
        self, row: TableRow, round_rows: Sequence[TableRow]
    ) -> Measurement:
        return self._checked(row, measurement_of, round_rows)

    def _checked(
        self,
        row: TableRow,
        read: Callable[[TableRow, Sequence[TableRow]], _Value],
        parts: Sequence[TableRow],
    ) -> _Value:
        """What ``read`` makes of a row and its parts. Raises StoreError if damaged."""
        try:
            return read(row, parts)
        except StoreError:
            raise
        except DAMAGED as error:
            raise StoreError(
                f"Row {row.id} of the measurement store {self._name} is damaged"
                f" ({error}); delete it there, and measure {row.name} again."
            ) from error


def _inserted_id(added: sa.CursorResult[tuple[object, ...]]) -> int:
    key = added.inserted_primary_key
    if key is None:
        raise StoreError("The measurement store has given a new row no id.")
    return int(key[0])


def _url(target: str | Path) -> sa.URL:
    if isinstance(target, str) and "://" in target:
        url = sa.make_url(target)
        # The driver that the extra `postgresql` installs, unless another is named.
        bare = url.drivername == "postgresql"
        return url.set(drivername="postgresql+psycopg") if bare else url
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return sa.URL.create("sqlite", database=str(path))


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(engine, "connect", _use_wal)
        return engine
    arguments: dict[str, object] = {}
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
    # Between two rows the server may have been restarted.
    return sa.create_engine(url, pool_pre_ping=True, connect_args=arguments)


def _use_wal(connection: sqlite3.Connection, _record: object) -> None:
    """WAL, waiting for other processes: SQLite itself does not wait for this change."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            # Asked first: who may only read cannot set what is set already.
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _file(url: sa.URL) -> Path | None:
    """The SQLite file behind a URL; None for servers and for stores in memory."""
    name = url.database or ""
    is_path = url.get_backend_name() == "sqlite" and name not in ("", ":memory:")
    return Path(name) if is_path and not name.startswith("file:") else None


def _file_id(path: Path | None) -> tuple[int, int] | None:
    """Device and inode, which tell a file from another at the same path."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _chunks(values: Sequence[_Value]) -> Iterator[list[_Value]]:
    for start in range(0, len(values), _CHUNK):
        yield list(values[start : start + _CHUNK])


def _key(item: MeasureSettings | Tool | str) -> str:
    return item if isinstance(item, str) else item.key
