"""Files against their JSON Schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).parents[2] / "docs/schemas"


def validate(file: Path, kind: str | None = None) -> None:
    """Raises ValidationError where a file does not fit ``docs/schemas``.

    Args:
        file: to look at.
        kind: of file; its name says which otherwise.
    """
    schema = json.loads(
        (FOLDER / f"{kind or file.stem}.schema.json").read_text("utf-8")
    )
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(file.read_text(encoding="utf-8")))
