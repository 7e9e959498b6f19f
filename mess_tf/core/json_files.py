"""JSON files with a schema version, read and written whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mess_tf.core.errors import MessError
from mess_tf.core.files import write_atomically

SCHEMA = 1


def write_json(path: Path, data: Any) -> None:
    """Writes ``data`` readable and whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, what: str, command: str | None = None) -> Any:
    """Reads JSON; one line says what is missing or broken, and what makes it."""
    hint = f" Run `{command}` first." if command else ""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MessError(f"No {what} at {path}.{hint}") from None
    except (OSError, ValueError) as error:
        raise MessError(f"The {what} {path} cannot be read: {error}.") from error
    if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
        raise MessError(
            f"The {what} {path} has schema {data['schema']}; this version reads"
            f" {SCHEMA}."
        )
    return data
