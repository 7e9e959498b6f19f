"""Measurements as tables, for pandas and files: a line per model, a line per round."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from android_bench.errors import BenchError
from android_bench.operator_records import OperatorProfile, OperatorTime
from android_bench.records import DeviceInfo, Measurement, Round
from mess_tf.core.errors import MessError
from mess_tf.core.files import write_atomically


def measurements_table(
    rows: Iterable[Measurement], devices: Iterable[DeviceInfo] = ()
) -> pd.DataFrame:
    """A line per measurement: keys, settings, figures (NaN when failed), flags.

    Args:
        devices: those measured on, for the columns that tell of them.
    """
    known = {device.fingerprint: device for device in devices}
    return pd.DataFrame([_line(row, known) for row in rows])


def rounds_table(
    rows: Iterable[Measurement], devices: Iterable[DeviceInfo] = ()
) -> pd.DataFrame:
    """A line per round, those set aside too: raw samples, conditions, statistics.

    ``samples_us`` holds microseconds, separated by blanks, in the order taken.
    """
    known = {device.fingerprint: device for device in devices}
    return pd.DataFrame([line for row in rows for line in _round_lines(row, known)])


def operators_table(
    profiles: Iterable[OperatorProfile], devices: Iterable[DeviceInfo] = ()
) -> pd.DataFrame:
    """A line per operator, in run order; a line without figures for a failure.

    Times were taken under profiling: they are no latencies.
    """
    known = {device.fingerprint: device for device in devices}
    return pd.DataFrame(
        [line for profile in profiles for line in _operator_lines(profile, known)]
    )


def write_operators_csv(
    profiles: Iterable[OperatorProfile],
    path: Path,
    devices: Iterable[DeviceInfo] = (),
) -> None:
    """Writes ``operators_table`` as CSV. Raises BenchError where it cannot."""
    check_csv(path)
    _write_table(operators_table(list(profiles), list(devices)), path)


def rounds_path(path: Path) -> Path:
    """Where ``write_csv`` puts the rounds: ``<stem>.rounds.csv`` beside ``path``."""
    return path.with_name(f"{path.stem}.rounds.csv")


def check_csv(path: Path) -> None:
    """Raises BenchError where ``write_csv`` would: before hours of measuring."""
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
        raise BenchError(
            f"Table {path} cannot be written; give the path of a file in a folder that"
            " exists and where you may write."
        )


def write_csv(
    rows: Iterable[Measurement], path: Path, devices: Iterable[DeviceInfo] = ()
) -> None:
    """Writes both tables as CSV: ``path``, and the rounds at ``rounds_path(path)``.

    Raises:
        BenchError: a file cannot be written.
    """
    rows, devices = list(rows), list(devices)
    check_csv(path)
    _write_table(measurements_table(rows, devices), path)
    _write_table(rounds_table(rows, devices), rounds_path(path))


def _write_table(table: pd.DataFrame, path: Path) -> None:
    try:
        with write_atomically(path) as temporary:
            table.to_csv(temporary, index=False)
    except MessError as error:
        raise BenchError(
            f"{error} Free some space, or give another path. What was measured is in"
            " the store."
        ) from error


def _line(row: Measurement, devices: Mapping[str, DeviceInfo]) -> dict[str, object]:
    settings = json.loads(row.settings_key)
    failure = row.failure
    nothing = float("nan")
    return {
        **_device_columns(row, devices),
        "name": row.name,
        "sha256": row.sha256,
        "fingerprint": row.fingerprint,
        "tool": row.tool_key,
        "time": row.time,
        "threads": settings["threads"],
        "delegate": settings["delegate"],
        "rounds": len(row.rounds),
        "samples": sum(len(r.samples_us) for r in row.rounds),
        "runs": sum(r.runs or len(r.samples_us) for r in row.rounds),
        "p50_ms": nothing if failure else row.p50_ms,
        "p90_ms": nothing if failure else row.p90_ms,
        "mean_ms": nothing if failure else row.mean_ms,
        "spread": nothing if failure else row.spread,
        "flags": " ".join(row.flags),
        "failed_at": failure.stage if failure else "",
        "message": failure.message if failure else "",
        "settings": row.settings_key,
    }


def _operator_lines(
    profile: OperatorProfile, devices: Mapping[str, DeviceInfo]
) -> Iterator[dict[str, object]]:
    failure = profile.failure
    key = {
        **_device_columns(profile, devices),
        "name": profile.name,
        "sha256": profile.sha256,
        "fingerprint": profile.fingerprint,
        "tool": profile.tool_key,
        "time": profile.time,
        "rounds": profile.rounds,
        "settings": profile.settings_key,
        "failed_at": failure.stage if failure else "",
        "message": failure.message if failure else "",
    }
    if failure:
        yield key
    for number, operator in enumerate(profile.operators):
        yield {**key, "number": number, **_operator_columns(operator)}


def _operator_columns(operator: OperatorTime) -> dict[str, object]:
    return {
        "node": operator.node,
        "kind": operator.kind,
        "operator": operator.name,
        "graph": operator.graph,
        "delegate": operator.delegate,
        "time_us": operator.time_us,
        "share": operator.share,
        "times_called": operator.times_called,
    }


def _device_columns(
    row: Measurement | OperatorProfile, devices: Mapping[str, DeviceInfo]
) -> dict[str, str]:
    device = devices.get(row.fingerprint)
    return {
        "device": device.name if device else "",
        "model": device.model if device else "",
        "soc": device.soc if device else "",
        "system": device.os_version if device else "",
    }


def _round_lines(
    row: Measurement, devices: Mapping[str, DeviceInfo]
) -> Iterator[dict[str, object]]:
    both = [(r, False) for r in row.rounds] + [(r, True) for r in row.set_aside]
    device = _device_columns(row, devices)["device"]
    for number, (item, set_aside) in enumerate(both):
        yield {
            "device": device,
            "name": row.name,
            "sha256": row.sha256,
            "fingerprint": row.fingerprint,
            "round": number,
            "set_aside": set_aside,
            **_round_columns(item),
        }


def _round_columns(item: Round) -> dict[str, object]:
    conditions, summary = item.conditions, item.summary
    columns = {
        "runs": item.runs or len(item.samples_us),
        "init_us": item.init_us,
        "median_us": item.median_us,
        # As they are: a figure that was rounded is no raw figure.
        "samples_us": " ".join(map(repr, item.samples_us)),
        "min_us": summary.min_us if summary else min(item.samples_us),
        "max_us": summary.max_us if summary else max(item.samples_us),
        "mean_us": summary.mean_us if summary else None,
        "std_us": summary.std_us if summary else None,
        "p5_us": summary.p5_us if summary else None,
        "p95_us": summary.p95_us if summary else None,
        "time": conditions.time,
        "temperature_c": conditions.temperature_c,
        "throttled": conditions.throttled,
        "battery_percent": conditions.battery_percent,
        "charging": conditions.charging,
        "load": conditions.load,
        "foreign_load": conditions.foreign_load,
        "governor": conditions.governor,
        "frequencies_khz": " ".join(map(str, conditions.frequencies_khz)),
    }
    return {**conditions.other, **columns}
