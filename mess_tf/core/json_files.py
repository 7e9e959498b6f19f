"""JSON files of records: encoding, checked decoding, and a schema version per kind.

A record is a frozen dataclass. What a file may hold is what the record's fields say:
msgspec checks types, enumerations and missing fields, and a record's ``__post_init__``
checks the rest. Fields that a record does not have are ignored, so that files of later
versions with the same schema version can be read.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from mess_tf.core.errors import MessError
from mess_tf.core.files import write_atomically

Json: TypeAlias = Any
"""What the ``json`` module reads and writes: a recursive type that mypy cannot narrow
without a cast at every step."""

T = TypeVar("T")


class Record(Protocol):
    """Any dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Transparent(Protocol):
    """A class whose instances are, in JSON, nothing but the value of their content.

    Attributes:
        JSON_TYPE: type of the content.
        json_content: the content; the constructor's only argument.
    """

    JSON_TYPE: ClassVar[Any]

    def __init__(self, content: Any) -> None: ...

    @property
    def json_content(self) -> Any: ...


FIRST_SCHEMA = 1
"""Schema version of kinds of files that say no other."""

_AT = re.compile(r" - at `\$(.*?)`")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_LONGEST_VALUE = 60  # characters of a value in an error message


def to_json(record: Record) -> dict[str, Json]:
    """A record as plain JSON types: dictionaries in the order of fields, and lists."""
    import msgspec

    plain: dict[str, Json] = _without_tuples(
        msgspec.to_builtins(record, enc_hook=_encode)
    )
    return plain


def from_json(data: Json, kind: type[T], name: str) -> T:
    """Decodes plain JSON types into a record, or a tuple of records.

    Args:
        data: as ``json.loads`` returns it.
        kind: type to decode into.
        name: of what is decoded, for the error message.

    Raises:
        MessError: one line with the name, the field's path, its value and what is
            accepted there.
    """
    import msgspec

    try:
        return msgspec.convert(data, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        reason = _reason(str(error), data, kind)
        raise MessError(f"{name} cannot be read: {reason}") from None
    except MessError as error:
        raise MessError(f"{name} cannot be read: {error}") from error


def write_record(path: Path, record: Record) -> None:
    """Writes a record as a JSON file, whole or not at all."""
    write_json(path, to_json(record))


def read_record(path: Path, kind: type[T], what: str, command: str, schema: int) -> T:
    """Reads a JSON file into a record.

    Args:
        path: of the file.
        kind: of the record.
        what: the kind of file, in words, for error messages.
        command: the command that makes such a file.
        schema: version that the key ``schema`` must have, where it is there.

    Raises:
        MessError: the file is missing, is no JSON, has another schema version, or does
            not fit the record.
    """
    data = read_json(path, what, command, schema)
    try:
        return from_json(data, kind, f"The {what} {path}")
    except MessError as error:
        raise MessError(f"{error}{_hint(command, ' again')}") from error


def write_json(path: Path, data: Json) -> None:
    """Writes ``data`` with one space of indentation, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_json(
    path: Path, what: str, command: str | None = None, schema: int = FIRST_SCHEMA
) -> Json:
    """Reads a JSON file.

    Args:
        path: of the file.
        what: the kind of file, in words, for error messages.
        command: the command that makes such a file.
        schema: version that an object's key ``schema`` must have, where it is there.

    Raises:
        MessError: the file is missing, is no JSON, or has another schema version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MessError(f"No {what} at {path}.{_hint(command, ' first')}") from None
    except (OSError, ValueError) as error:
        raise MessError(f"The {what} {path} cannot be read: {error}.") from error
    if isinstance(data, dict) and data.get("schema", schema) != schema:
        raise MessError(
            f"The {what} {path} has schema {data['schema']}; this version reads"
            f" {schema}."
        )
    return data


def json_schema(kind: type, title: str) -> dict[str, Json]:
    """JSON Schema (draft 2020-12) of the files of a record; descriptions from docs."""
    import msgspec

    definitions: dict[str, Json] = {}

    def of_content(transparent: type[Transparent]) -> Json:
        schema = msgspec.json.schema(transparent.JSON_TYPE, schema_hook=of_content)
        definitions.update(schema.pop("$defs", {}))
        return schema

    schema = msgspec.json.schema(kind, schema_hook=of_content)
    definitions.update(schema.pop("$defs", {}))
    plain: dict[str, Json] = _without_tuples(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": title,
            **schema,
            "$defs": dict(sorted(definitions.items())),
        }
    )
    return plain


def _encode(value: object) -> Json:
    """What msgspec does not know: numpy's float64, and classes of one content."""
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "JSON_TYPE"):
        content: Json = value.json_content  # type: ignore[attr-defined]
        return content
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _decode(kind: type[Transparent], data: Json) -> Transparent:
    import msgspec

    try:
        return kind(msgspec.convert(data, kind.JSON_TYPE, dec_hook=_decode))
    except (msgspec.ValidationError, MessError) as error:
        raise ValueError(str(error)) from None  # msgspec adds the path


def _hint(command: str | None, when: str) -> str:
    return f" Run `{command}`{when}." if command else ""


def _without_tuples(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tuples(item) for item in value]
    return value


def _reason(message: str, data: Json, kind: type) -> str:
    """``pieces[0].kind is 'x'; accepted: …``, from msgspec's message and the data."""
    problem = _AT.split(message)[0]
    # Inside of a class that decodes its content itself, the inner path comes first.
    path = "".join(reversed(_AT.findall(message)))
    steps = [
        int(step["index"]) if step["index"] else step["key"]
        for step in _STEP.finditer(path)
    ]
    place = path.lstrip(".") or "the file"
    if problem.startswith("Object missing required field"):
        field = problem.split("`")[1]
        return f'{place} lacks the field "{field}".'
    value = _value_at(data, steps)
    shown = "" if value is _NOT_FOUND else f" is {_shortened(json.dumps(value))}"
    if problem.startswith("Invalid enum value"):
        accepted = f"accepted: {', '.join(map(json.dumps, _accepted(kind, steps)))}"
    else:
        accepted = problem[:1].lower() + problem[1:]
    return f"{place}{shown}; {accepted.rstrip('.')}."


_NOT_FOUND = object()


def _value_at(data: Json, steps: Sequence[int | str | None]) -> Json:
    """The value at a path; a step of None is some value of a mapping, which one is not
    known."""
    for step in steps:
        if step is None:
            return _NOT_FOUND
        data = data[step]
    return data


def _accepted(kind: type, steps: Sequence[int | str | None]) -> list[str | int | None]:
    """Values of the enumeration at a path of a type."""
    from msgspec import inspect

    def inside(found: inspect.Type, step: int | str | None) -> inspect.Type:
        match found:
            case inspect.DataclassType(fields=fields):
                return next(f.type for f in fields if f.encode_name == step)
            case inspect.TupleType(item_types=items) if isinstance(step, int):
                return items[step]
            case inspect.CollectionType(item_type=item):
                return item
            case inspect.DictType(value_type=value):
                return value
            case inspect.CustomType():
                transparent: type[Transparent] = found.cls
                return inside(inspect.type_info(transparent.JSON_TYPE), step)
            case inspect.UnionType(types=types):
                (only,) = (t for t in types if not isinstance(t, inspect.NoneType))
                return inside(only, step)
        raise LookupError(step)

    place = inspect.type_info(kind)
    for step in steps:
        place = inside(place, step)
    return [
        value
        for part in (place.types if isinstance(place, inspect.UnionType) else (place,))
        if isinstance(part, inspect.LiteralType)
        for value in part.values
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
