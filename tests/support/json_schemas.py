"""Files against their JSON Schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).parents[2] / "docs/schemas"


def validate(file: Path) -> None:
    """Raises ValidationError where a file does not fit ``docs/schemas``."""
    schema = json.loads((FOLDER / f"{file.stem}.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(file.read_text(encoding="utf-8")))
