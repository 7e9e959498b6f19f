"""The store's tables, their creation and their migration.

Several processes may do so at once, and one may be killed in the middle: everything
happens in one transaction under a lock, after a look that needs no right to write.
"""

from __future__ import annotations

import sqlalchemy as sa

from android_bench.store_errors import StoreError

STORE_SCHEMA = 2
"""1: stores without a number, some without the rounds' summaries. 2: this one."""

_LOCK = 0x6D657373  # any number, the same for all who make a store

tables = sa.MetaData()

devices = sa.Table(
    "devices",
    tables,
    sa.Column("fingerprint", sa.String(128), primary_key=True),
    sa.Column("info", sa.Text, nullable=False),
)

measurements = sa.Table(
    "measurements",
    tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("settings_key", sa.Text, nullable=False),
    sa.Column("tool_key", sa.Text, nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("flags", sa.Text, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Index("measurements_by_model", "fingerprint", "sha256"),
)

# samples: microseconds, little-endian float64, zlib; with a length, so that databases
# which know short and long binaries choose a long one.
rounds = sa.Table(
    "rounds",
    tables,
    sa.Column(
        "measurement_id",
        sa.Integer,
        sa.ForeignKey(measurements.c.id),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("set_aside", sa.Boolean, nullable=False),
    sa.Column("samples", sa.LargeBinary(2**24 - 1), nullable=False),
    sa.Column("conditions", sa.Text, nullable=False),
    sa.Column("init_us", sa.Double),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("summary", sa.Text),
)

store_schema = sa.Table(
    "store_schema",
    tables,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

# Not among ``tables``: made when the first profile is stored, so that stores of before,
# and programs of before that read a store of now, are not concerned.
operator_tables = sa.MetaData()

operator_profiles = sa.Table(
    "operator_profiles",
    operator_tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("settings_key", sa.Text, nullable=False),
    sa.Column("tool_key", sa.Text, nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Index("operator_profiles_by_model", "fingerprint", "sha256"),
)

operators = sa.Table(
    "operators",
    operator_tables,
    sa.Column(
        "profile_id",
        sa.Integer,
        sa.ForeignKey(operator_profiles.c.id),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("node", sa.Integer),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("graph", sa.Text, nullable=False),
    sa.Column("delegate", sa.Text, nullable=False),
    sa.Column("time_us", sa.Double, nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("times_called", sa.Double, nullable=False),
)


def has_operators(connection: sa.Connection) -> bool:
    """Whether an operator profile was ever stored."""
    return sa.inspect(connection).has_table(operators.name)


def make_operator_tables(engine: sa.Engine) -> None:
    """Makes the tables of operator profiles where there are none."""
    with engine.connect() as connection:
        if has_operators(connection):
            return
    with engine.begin() as connection:
        _lock(connection)
        operator_tables.create_all(connection)


def prepare(engine: sa.Engine, target: str) -> None:
    """Makes the tables where there are none, or brings older ones up to date.

    Args:
        target: what messages call the store.

    Raises:
        StoreError: a newer version of this program made it, or the tables are not ours.
        sqlalchemy.exc.SQLAlchemyError: the database refuses.
    """
    with engine.connect() as connection:
        if _version(connection, target) == STORE_SCHEMA:
            return
    with engine.begin() as connection:
        _lock(connection)
        if _version(connection, target) == STORE_SCHEMA:
            return  # another process was first
        _add_summaries(connection)
        tables.create_all(connection)
        _check_columns(connection, target)
        connection.execute(store_schema.delete())
        connection.execute(store_schema.insert().values(version=STORE_SCHEMA))


def _version(connection: sa.Connection, target: str) -> int | None:
    """Number of the store's schema; None where it has none."""
    if not sa.inspect(connection).has_table(store_schema.name):
        return None
    version = connection.scalar(sa.select(sa.func.max(store_schema.c.version)))
    if version is not None and version > STORE_SCHEMA:
        raise StoreError(
            f"The measurement store {target} was made by a newer version of this"
            f" program (schema {version}; this one knows up to {STORE_SCHEMA}); run"
            " `pip install --upgrade mess-tf`, or name another store."
        )
    return version


def _lock(connection: sa.Connection) -> None:
    """Until the transaction ends, nobody else makes or changes tables."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    elif connection.dialect.name == "sqlite":
        # The driver itself begins transactions too late for CREATE and ALTER.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _add_summaries(connection: sa.Connection) -> None:
    """Stores made before phones were measured lack the column of summaries."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(rounds.name):
        return
    columns = {column["name"] for column in inspector.get_columns(rounds.name)}
    if "samples" in columns and "summary" not in columns:
        connection.execute(sa.DDL("ALTER TABLE rounds ADD COLUMN summary TEXT"))


def _check_columns(connection: sa.Connection, target: str) -> None:
    inspector = sa.inspect(connection)
    for table in tables.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        missing = sorted({column.name for column in table.columns} - there)
        if missing:
            raise StoreError(
                f"The measurement store {target} has a table {table.name!r} without"
                f" {', '.join(missing)}: it is another program's; name another store."
            )
