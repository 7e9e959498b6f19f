"""The published JSON Schemas are those of the records."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mess_tf.commands.json_schemas import RECORDS, schema_of, write_schemas
from tests.support.json_schemas import FOLDER, validate


def test_the_published_schemas_are_generated_from_the_records(tmp_path: Path) -> None:
    """Made anew by ``python -m mess_tf.commands.json_schemas docs/schemas``."""
    write_schemas(tmp_path)
    made = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", RECORDS)
def test_every_schema_is_one_and_holds_its_version(name: str) -> None:
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    kind, version = RECORDS[name]
    properties = schema["$defs"][kind.__name__]["properties"]
    assert properties["schema"] == {"const": version}


def test_numbers_of_a_card_may_be_null_and_of_others_not() -> None:
    figures = schema_of("card")["$defs"]["Figures"]["properties"]
    assert figures["miou"] == {"type": ["number", "null"]}
    figures = schema_of("chosen")["$defs"]["Figures"]["properties"]
    assert figures["miou"] == {"type": "number"}


CHECK = {
    "schema": 1, "name": "a", "device": "host", "threads": 1, "images": 1,
    "images_with_other_exit": 0, "slower_than_profiled": 1.0, "exits": [1],
    "parts": {}, "taken": [1], "image_names": ["x"],
}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"taken": ["x"]}, {"name": None}, {"parts": {"a": {}}}]
)
def test_what_does_not_fit_a_schema_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    file = tmp_path / "check.json"
    file.write_text(json.dumps(CHECK))
    validate(file)
    file.write_text(json.dumps(CHECK | change))
    with pytest.raises(jsonschema.ValidationError):
        validate(file)
