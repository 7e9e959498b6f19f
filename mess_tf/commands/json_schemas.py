"""JSON Schemas of the files that users read, generated from their records.

``python -m mess_tf.commands.json_schemas docs/schemas`` writes them anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mess_tf.commands.card_records import CardFile
from mess_tf.commands.check_records import (
    CHECK_SCHEMA,
    AnytimeCheckFile,
    CheckFile,
)
from mess_tf.core.files import write_file
from mess_tf.core.json_files import Json, json_schema
from mess_tf.core.pieces import PIECES_SCHEMA, PiecesFile
from mess_tf.core.supernet_spec import SUPERNET_SCHEMA, SupernetSpec
from mess_tf.exporting.embedded_card import CARD_SCHEMA
from search.result import CHOSEN_SCHEMA, ChosenFile

RECORDS: dict[str, tuple[type, int]] = {
    "supernet": (SupernetSpec, SUPERNET_SCHEMA),
    "pieces": (PiecesFile, PIECES_SCHEMA),
    "chosen": (ChosenFile, CHOSEN_SCHEMA),
    "card": (CardFile, CARD_SCHEMA),
    "check": (CheckFile, CHECK_SCHEMA),
    "check-anytime": (AnytimeCheckFile, CHECK_SCHEMA),
}
"""By name of a file, without ``.json``: the record of its contents, and the version."""


def schema_of(name: str) -> dict[str, Json]:
    """JSON Schema (draft 2020-12) of ``NAME.json``."""
    kind, version = RECORDS[name]
    schema = json_schema(kind, f"{name}.json")
    schema["$defs"][kind.__name__]["properties"]["schema"] = {"const": version}
    # The card alone writes null for numbers that are not finite.
    nullable: dict[str, Json] = _with_null(schema) if name == "card" else schema
    return nullable


def write_schemas(folder: Path) -> None:
    """Writes ``NAME.schema.json`` of all kinds of files into a folder."""
    for name in RECORDS:
        text = json.dumps(schema_of(name), indent=1, ensure_ascii=False) + "\n"
        write_file(folder / f"{name}.schema.json", text.encode())


def _with_null(schema: Json) -> Json:
    if isinstance(schema, list):
        return [_with_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _with_null(value) for key, value in schema.items()}
    if changed.get("type") == "number":
        changed["type"] = ["number", "null"]
    return changed


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
