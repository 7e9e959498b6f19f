"""Latency models as JSON: numbers under a schema, no pickles.

What is stored is what was learnt from (operators and latencies) and what was fitted
(the work model's weights, the interval's scale); the rest follows from them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from android_bench.errors import BenchError
from android_bench.latency_model.features import Operator
from android_bench.latency_model.model import LatencyModel
from mess_tf.core.errors import MessError
from mess_tf.core.files import write_file

SCHEMA = 1


def as_json(model: LatencyModel) -> dict[str, Any]:
    """The model as JSON values; each distinct operator is listed once."""
    operators = sorted({o for used in model.models.values() for o in used})
    place = {operator: i for i, operator in enumerate(operators)}
    return {
        "schema": SCHEMA,
        "about": dict(model.about),
        "law": dict(model.work_weights),
        "stretch": model.interval_scale,
        "spread": model.variance_factor,
        "operators": [dataclasses.asdict(operator) for operator in operators],
        "models": [
            {
                "name": name,
                "latency_ms": model.latency_ms[name],
                "error": model.errors.get(name),
                "doubted": name in model.outliers,
                "operators": [place[operator] for operator in used],
            }
            for name, used in model.models.items()
        ],
        "prior": None if model.prior is None else as_json(model.prior),
    }


def from_json(data: Mapping[str, Any]) -> LatencyModel:
    """The model that ``as_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError, IndexError: the values are damaged.
    """
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r} is not {SCHEMA}")
    operators = [Operator(**row) for row in data["operators"]]
    rows = data["models"]
    return LatencyModel(
        work_weights=dict(data["law"]),
        models={r["name"]: tuple(operators[i] for i in r["operators"]) for r in rows},
        latency_ms={row["name"]: float(row["latency_ms"]) for row in rows},
        interval_scale=float(data["stretch"]),
        errors={r["name"]: r["error"] for r in rows if r["error"] is not None},
        variance_factor=float(data["spread"]),
        outliers=frozenset(row["name"] for row in rows if row["doubted"]),
        prior=None if data["prior"] is None else from_json(data["prior"]),
        about=dict(data["about"]),
    )


def save(model: LatencyModel, path: Path) -> None:
    """Writes the file whole or not at all. Raises BenchError where it cannot."""
    text = json.dumps(as_json(model), indent=1, allow_nan=False)
    try:
        write_file(path, text.encode())
    except MessError as error:
        raise BenchError(
            f"{error} It was to hold the latency model; free some space or give another"
            " path."
        ) from error


def load(path: Path) -> LatencyModel:
    """Reads a model; BenchError when it is missing, damaged or something else."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BenchError(
            f"The latency model {path} cannot be read ({error.strerror}); make it with"
            " `mess profile --share`."
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BenchError(
            f"{path} is no latency model of schema {SCHEMA} ({error}); make it again"
            " with `mess profile --share`."
        ) from error
