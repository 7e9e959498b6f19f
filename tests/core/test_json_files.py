"""Records as JSON: what is written is read back; what does not fit is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import (
    from_json,
    json_schema,
    read_json,
    read_record,
    to_json,
    write_json,
    write_record,
)


@dataclass(frozen=True)
class Wheel:
    """A wheel."""

    kind: Literal["front", "rear"]
    spokes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bicycle:
    """A record as the project's are.

    Attributes:
        mass_kg: of everything.
    """

    name: str
    wheels: tuple[Wheel, ...]
    mass_kg: float | None = None
    colours: Mapping[str, float] = field(default_factory=dict)
    schema: int = 3

    def __post_init__(self) -> None:
        if self.mass_kg is not None and self.mass_kg < 0:
            raise MessError(f"Mass {self.mass_kg} kg is negative.")


BICYCLE = Bicycle("x", (Wheel("front", (1, 2)), Wheel("rear")), 9.5, {"red": 0.25})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bicycle.json"


def test_what_is_written_is_read_and_written_alike(path: Path) -> None:
    write_record(path, BICYCLE)
    first = path.read_bytes()
    read = read_record(path, Bicycle, "bicycle", "build", 3)
    assert read == BICYCLE
    write_record(path, read)
    assert path.read_bytes() == first
    assert json.loads(first) == to_json(BICYCLE)
    assert list(json.loads(first)) == [f.name for f in dataclasses.fields(Bicycle)]


def test_numbers_that_are_none_survive(path: Path) -> None:
    write_record(path, dataclasses.replace(BICYCLE, mass_kg=float("inf")))
    assert read_record(path, Bicycle, "bicycle", "build", 3).mass_kg == float("inf")


def test_missing_fields_take_defaults_and_unknown_ones_are_ignored(path: Path) -> None:
    write_json(path, {"name": "old", "wheels": [], "from_later": 1})
    assert read_record(path, Bicycle, "bicycle", "build", 3) == Bicycle("old", ())


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.pop(key)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without("name"), 'the file lacks the field "name".'),
        (lambda d: d["wheels"][1].pop("kind"), 'wheels[1] lacks the field "kind".'),
        (
            lambda d: d["wheels"][1].update(kind="side"),
            'wheels[1].kind is "side"; accepted: "front", "rear".',
        ),
        (
            lambda d: d["wheels"][0].update(spokes=[1, "two"]),
            'wheels[0].spokes[1] is "two"; expected `int`, got `str`.',
        ),
        (
            lambda d: d.update(mass_kg="9" * 100),
            f'mass_kg is "{"9" * 58}…; expected `float | null`, got `str`.',
        ),
        (
            lambda d: d.update(colours={"red": None}),
            "colours[...]; expected `float`, got `null`.",
        ),
        (lambda d: d.update(mass_kg=-1), "Mass -1.0 kg is negative."),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(
    path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    data = to_json(BICYCLE)
    change(data)
    write_json(path, data)
    with pytest.raises(MessError) as caught:
        read_record(path, Bicycle, "bicycle", "build", 3)
    expected = f"The bicycle {path} cannot be read: {told} Run `build` again."
    assert str(caught.value) == expected


def test_lists_of_records_are_decoded_with_their_place() -> None:
    data = [{"kind": "front"}, {"kind": 1}]
    with pytest.raises(MessError) as caught:
        from_json(data, tuple[Wheel, ...], "A list")
    assert "A list cannot be read: [1].kind is 1; expected `str`" in str(caught.value)


def test_every_kind_of_file_has_its_schema_version(path: Path) -> None:
    write_json(path, to_json(BICYCLE) | {"schema": 4})
    with pytest.raises(MessError, match=r"has schema 4; this version reads 3\."):
        read_record(path, Bicycle, "bicycle", "build", 3)
    assert read_json(path, "bicycle", schema=4)["name"] == "x"


@pytest.mark.parametrize("text", ["", "[", "{'a': 1}", "\x00"])
def test_what_is_no_json_is_refused_in_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(MessError) as caught:
        read_record(path, Bicycle, "bicycle", "build", 3)
    assert str(caught.value).startswith(f"The bicycle {path} cannot be read: ")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(MessError, match="No bicycle at .* Run `build` first"):
        read_record(path, Bicycle, "bicycle", "build", 3)


def test_the_json_schema_says_what_is_required_and_accepted() -> None:
    schema = json_schema(Bicycle, "bicycle.json")
    assert schema["$schema"].endswith("2020-12/schema")
    record = schema["$defs"]["Bicycle"]
    assert record["required"] == ["name", "wheels"]
    assert "mass_kg: of everything" in record["description"]
    assert schema["$defs"]["Wheel"]["properties"]["kind"]["enum"] == ["front", "rear"]
