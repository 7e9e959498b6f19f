"""Converts records to rows of the store's tables and back."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import sqlalchemy as sa

from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.records import (
    SCHEMA,
    Conditions,
    Failure,
    Measurement,
    Round,
    Summary,
)
from android_bench.store_errors import StoreError
from mess_tf.core.errors import MessError
from mess_tf.core.json_files import from_json, to_json

T = TypeVar("T")

TableRow: TypeAlias = sa.Row[tuple[object, ...]]
"""A row as SQLAlchemy returns it; its columns are attributes."""

OPERATOR_SCHEMA = 1
DAMAGED = (ValueError, KeyError, TypeError, zlib.error, MessError)
"""What reading a row raises that is not as it was written."""


def row_of(measurement: Measurement) -> dict[str, object]:
    """Values of the table of measurements, but for the id."""
    failure = measurement.failure
    return {
        "schema": measurement.schema,
        "name": measurement.name,
        "sha256": measurement.sha256,
        "fingerprint": measurement.fingerprint,
        "settings_key": measurement.settings_key,
        "tool_key": measurement.tool_key,
        "time": measurement.time,
        "flags": json.dumps(measurement.flags),
        "failure": None if failure is None else _text(failure),
    }


def round_rows_of(measurement: Measurement, key: int) -> list[dict[str, object]]:
    """Values of the table of rounds; ``key`` is the measurement's id."""
    both = [(r, False) for r in measurement.rounds]
    both += [(r, True) for r in measurement.set_aside]
    return [
        {
            "measurement_id": key,
            "number": number,
            "set_aside": set_aside,
            "samples": _pack(item.samples_us),
            "conditions": _text(item.conditions),
            "init_us": item.init_us,
            "runs": item.runs,
            "summary": None if item.summary is None else _text(item.summary),
        }
        for number, (item, set_aside) in enumerate(both)
    ]


def measurement_of(row: TableRow, round_rows: Sequence[TableRow]) -> Measurement:
    """The record of a row and of its rounds, in order.

    Raises:
        StoreError: a newer version of this program wrote it.
        Exception: one of ``DAMAGED``.
    """
    if row.schema != SCHEMA:
        raise StoreError(
            f"A stored measurement of {row.name} has schema {row.schema}; this version"
            f" reads {SCHEMA}. Run `pip install --upgrade mess-tf`."
        )
    return Measurement(
        name=row.name,
        sha256=row.sha256,
        fingerprint=row.fingerprint,
        settings_key=row.settings_key,
        tool_key=row.tool_key,
        rounds=tuple(_round_of(r) for r in round_rows if not r.set_aside),
        set_aside=tuple(_round_of(r) for r in round_rows if r.set_aside),
        time=row.time,
        flags=tuple(json.loads(row.flags)),
        failure=_read(row.failure, Failure),
        schema=row.schema,
    )


def operator_profile_row_of(profile: OperatorProfile) -> dict[str, object]:
    """Values of the table of operator profiles, but for the id."""
    failure = profile.failure
    return {
        "schema": OPERATOR_SCHEMA,
        "name": profile.name,
        "sha256": profile.sha256,
        "fingerprint": profile.fingerprint,
        "settings_key": profile.settings_key,
        "tool_key": profile.tool_key,
        "time": profile.time,
        "rounds": profile.rounds,
        "failure": None if failure is None else _text(failure),
    }


def operator_rows_of(profile: OperatorProfile, key: int) -> list[dict[str, object]]:
    """Values of the table of operators; ``key`` is the profile's id."""
    return [
        {"profile_id": key, "number": number, **dataclasses.asdict(operator)}
        for number, operator in enumerate(profile.operators)
    ]


def operator_profile_of(
    row: TableRow, operator_rows: Sequence[TableRow]
) -> OperatorProfile:
    """The record of a row and of its operators, in run order.

    Raises:
        StoreError: a newer version of this program wrote it.
        Exception: one of ``DAMAGED``.
    """
    if row.schema != OPERATOR_SCHEMA:
        raise StoreError(
            f"A stored operator profile of {row.name} has schema {row.schema}; this"
            f" version reads {OPERATOR_SCHEMA}. Run `pip install --upgrade mess-tf`."
        )
    names = [field.name for field in dataclasses.fields(OperatorTime)]
    return OperatorProfile(
        name=row.name,
        sha256=row.sha256,
        fingerprint=row.fingerprint,
        settings_key=row.settings_key,
        tool_key=row.tool_key,
        time=row.time,
        rounds=row.rounds,
        operators=tuple(
            OperatorTime(**{name: getattr(item, name) for name in names})
            for item in operator_rows
        ),
        failure=_read(row.failure, Failure),
    )


def _round_of(row: TableRow) -> Round:
    return Round(
        samples_us=tuple(np.frombuffer(zlib.decompress(row.samples), "<f8").tolist()),
        conditions=from_json(
            json.loads(row.conditions), Conditions, "A device's state"
        ),
        init_us=row.init_us,
        runs=row.runs,
        summary=_read(row.summary, Summary),
    )


def _read(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else from_json(json.loads(text), kind, kind.__name__)


def _text(record: Failure | Conditions | Summary) -> str:
    return json.dumps(to_json(record))


def _pack(samples_us: Sequence[float]) -> bytes:
    return zlib.compress(np.asarray(samples_us, "<f8").tobytes(), 6)
