"""The measurement store: SQLite by default, any SQLAlchemy URL.

Rows are only ever added. The newest row without a failure is a model's figure; a
failure never hides an older figure, nor does it count as one. Several processes may
write at once: SQLite runs in WAL mode and waits for its turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from android_bench.errors import BenchError
from android_bench.records import (
    SCHEMA,
    Conditions,
    DeviceInfo,
    Failure,
    Measurement,
    MeasureSettings,
    Round,
    Summary,
    Tool,
)

if TYPE_CHECKING:
    import pandas as pd

Statistic = Literal["p50", "p90", "mean"]

BUSY_TIMEOUT_S = 60.0
_LOCK = 0x6D657373  # any number, the same for all who make a store
_CHUNK = 500  # values in one IN (...): below every database's limit

_tables = sa.MetaData()

_devices = sa.Table(
    "devices",
    _tables,
    sa.Column("fingerprint", sa.String(128), primary_key=True),
    sa.Column("info", sa.Text, nullable=False),
)

_measurements = sa.Table(
    "measurements",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("settings_key", sa.String(1024), nullable=False),
    sa.Column("tool_key", sa.String(256), nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("flags", sa.Text, nullable=False),
    sa.Column("failure", sa.Text),
)
_index = sa.Index(
    "measurements_by_model", _measurements.c.fingerprint, _measurements.c.sha256
)

# samples: microseconds, little-endian float64, zlib.
_rounds = sa.Table(
    "rounds",
    _tables,
    sa.Column(
        "measurement_id",
        sa.Integer,
        sa.ForeignKey(_measurements.c.id),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("set_aside", sa.Boolean, nullable=False),
    sa.Column("samples", sa.LargeBinary, nullable=False),
    sa.Column("conditions", sa.Text, nullable=False),
    sa.Column("init_us", sa.Float),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("summary", sa.Text),
)


class Store:
    """Measurements under (model sha256, device fingerprint, settings, tool).

    Args:
        target: path of an SQLite file (made when absent, folders too) or a URL.
        must_exist: an absent SQLite file is an error; for those who only read.

    Raises:
        BenchError: it cannot be opened, here and from every method.
    """

    def __init__(self, target: str | Path, must_exist: bool = False) -> None:
        self._target = str(target)
        if must_exist and "://" not in self._target and not Path(target).is_file():
            raise BenchError(
                f"No measurement store at {target}; run `mess profile` first."
            )
        with self._told():
            url = _url(target)
            options: dict[str, Any] = {}
            if url.get_backend_name() == "sqlite":
                options["connect_args"] = {"timeout": BUSY_TIMEOUT_S}
            self._engine = sa.create_engine(url, **options)
            if url.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _use_wal)
            self._create_tables()

    def put_device(self, info: DeviceInfo) -> None:
        """Remembers what a fingerprint stands for; the newest description stays."""
        key = _devices.c.fingerprint == info.fingerprint
        text = json.dumps(dataclasses.asdict(info))
        with self._told():
            try:
                with self._engine.begin() as connection:
                    changed = connection.execute(
                        _devices.update().where(key).values(info=text)
                    )
                    if not changed.rowcount:
                        connection.execute(
                            _devices.insert().values(
                                fingerprint=info.fingerprint, info=text
                            )
                        )
            except sa.exc.IntegrityError:  # another process was first; it said the same
                return

    def devices(self) -> list[DeviceInfo]:
        with self._told(), self._engine.connect() as connection:
            query = sa.select(_devices.c.info).order_by(_devices.c.fingerprint)
            return [DeviceInfo(**json.loads(t)) for t in connection.scalars(query)]

    def put(self, measurement: Measurement) -> None:
        """Adds a row; it is on the disk when this returns."""
        failure = measurement.failure
        row = {
            **{
                column: getattr(measurement, column)
                for column in (
                    "schema",
                    "name",
                    "sha256",
                    "fingerprint",
                    "settings_key",
                    "tool_key",
                    "time",
                )
            },
            "flags": json.dumps(measurement.flags),
            "failure": None
            if failure is None
            else json.dumps(dataclasses.asdict(failure)),
        }
        both = [(r, False) for r in measurement.rounds]
        both += [(r, True) for r in measurement.set_aside]
        with self._told(), self._engine.begin() as connection:
            added = connection.execute(_measurements.insert().values(row))
            key = added.inserted_primary_key
            if both and key is not None:
                connection.execute(
                    _rounds.insert(),
                    [
                        {
                            "measurement_id": key[0],
                            "number": number,
                            "set_aside": set_aside,
                            "samples": _pack(item.samples_us),
                            "conditions": json.dumps(
                                dataclasses.asdict(item.conditions)
                            ),
                            "init_us": item.init_us,
                            "runs": item.runs,
                            "summary": None
                            if item.summary is None
                            else json.dumps(dataclasses.asdict(item.summary)),
                        }
                        for number, (item, set_aside) in enumerate(both)
                    ],
                )

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
        table = _measurements.c
        rows: dict[str, Measurement] = {}
        for start in range(0, len(sha256s), _CHUNK):
            conditions = [
                table.fingerprint == fingerprint,
                table.settings_key == _key(settings),
                table.sha256.in_(list(sha256s[start : start + _CHUNK])),
                table.failure.is_(None),
            ]
            if tool is not None:
                conditions.append(table.tool_key == _key(tool))
            newest = sa.select(sa.func.max(table.id)).where(*conditions)
            newest = newest.group_by(table.sha256)
            for row in self._read(table.id.in_(newest)):
                rows[row.sha256] = row
        return rows

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
        return self.get(sha256, fingerprint, settings, tool) is not None

    def latencies_ms(
        self,
        device_fingerprint: str,
        settings: MeasureSettings | str,
        shas: Sequence[str],
        statistic: Statistic = "p50",
    ) -> dict[str, float]:
        """Latency in milliseconds by sha256; what is not measured is left out."""
        found = self.latest(device_fingerprint, settings, shas)
        return {sha: getattr(row, f"{statistic}_ms") for sha, row in found.items()}

    def measurements(self) -> list[Measurement]:
        """Every row, failures included, oldest first."""
        return self._read(sa.true())

    def failures(self) -> list[Measurement]:
        """Every failure row, oldest first."""
        return self._read(_measurements.c.failure.is_not(None))

    def to_frame(self) -> pd.DataFrame:
        """Every row as a table: keys, settings, figures (NaN when failed), flags."""
        from android_bench.tables import measurements_table

        return measurements_table(self.measurements())

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

    def _create_tables(self) -> None:
        # IF NOT EXISTS rather than a look before: two processes may start together.
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # There IF NOT EXISTS is no protection: two of them may both create.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            for table in _tables.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(CreateIndex(_index, if_not_exists=True))
        self._add_summaries()

    def _add_summaries(self) -> None:
        """Stores made before phones were measured lack the column of summaries."""
        try:
            with self._engine.begin() as connection:
                columns = sa.inspect(connection).get_columns(_rounds.name)
                if not any(column["name"] == "summary" for column in columns):
                    connection.execute(
                        sa.DDL("ALTER TABLE rounds ADD COLUMN summary TEXT")
                    )
        except sa.exc.DBAPIError as error:
            # Another process was first.
            if "duplicate column" not in str(error) and "exists" not in str(error):
                raise

    def _read(self, condition: sa.ColumnElement[bool]) -> list[Measurement]:
        table = _measurements
        chosen = sa.select(table.c.id).where(condition)
        with self._told(), self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(table).where(condition).order_by(table.c.id)
            ).all()
            rounds: dict[int, tuple[list[Round], list[Round]]] = {}
            query = sa.select(_rounds).where(_rounds.c.measurement_id.in_(chosen))
            query = query.order_by(_rounds.c.measurement_id, _rounds.c.number)
            for row in connection.execute(query):
                kept, aside = rounds.setdefault(row.measurement_id, ([], []))
                (aside if row.set_aside else kept).append(_as_round(row))
        return [_as_measurement(r, *rounds.get(r.id, ([], []))) for r in rows]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            lines = str(error.orig).strip().splitlines() or ["the database refuses"]
            raise BenchError(
                f"The measurement store {self._target} cannot be used: {lines[0]}."
            ) from error
        except ModuleNotFoundError as error:
            raise BenchError(
                f"The measurement store {self._target} needs the driver {error.name!r},"
                " which is not installed; for PostgreSQL run `pip install"
                " mess-tf[postgresql]`."
            ) from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise BenchError(
                f"The measurement store {self._target} cannot be opened ({error}); give"
                " the path of an SQLite file or a database URL."
            ) from error


def _url(target: str | Path) -> sa.URL:
    if isinstance(target, str) and "://" in target:
        url = sa.make_url(target)
        # The driver that the extra `postgresql` installs, unless another is named.
        bare = url.drivername == "postgresql"
        return url.set(drivername="postgresql+psycopg") if bare else url
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return sa.URL.create("sqlite", database=str(path))


def _use_wal(connection: Any, _record: Any) -> None:
    """WAL, waiting for other processes: SQLite itself does not wait for this change."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            return
        except connection.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _key(item: MeasureSettings | Tool | str) -> str:
    return item if isinstance(item, str) else item.key


def _pack(samples_us: Sequence[float]) -> bytes:
    return zlib.compress(np.asarray(samples_us, "<f8").tobytes(), 6)


def _as_round(row: Any) -> Round:
    return Round(
        samples_us=tuple(np.frombuffer(zlib.decompress(row.samples), "<f8").tolist()),
        conditions=Conditions.from_json(json.loads(row.conditions)),
        init_us=row.init_us,
        runs=row.runs,
        summary=None if row.summary is None else Summary(**json.loads(row.summary)),
    )


def _as_measurement(row: Any, kept: list[Round], aside: list[Round]) -> Measurement:
    if row.schema != SCHEMA:
        raise BenchError(
            f"A stored measurement of {row.name} has schema {row.schema}; this version"
            f" reads {SCHEMA}."
        )
    return Measurement(
        name=row.name,
        sha256=row.sha256,
        fingerprint=row.fingerprint,
        settings_key=row.settings_key,
        tool_key=row.tool_key,
        rounds=tuple(kept),
        set_aside=tuple(aside),
        time=row.time,
        flags=tuple(json.loads(row.flags)),
        failure=None if row.failure is None else Failure(**json.loads(row.failure)),
        schema=row.schema,
    )
