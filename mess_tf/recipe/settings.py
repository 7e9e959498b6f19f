"""Validation of recipe values: a rule per field, one line per mistake.

A section is a frozen dataclass whose fields are made by ``setting(default, rule)``. The
rules hold for values read from TOML and for values given in Python alike.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from mess_tf.core.errors import MessError


@dataclass(frozen=True)
class Rule:
    """Accepted values of a setting, and the conversion of a raw value to one.

    Attributes:
        accepted: the accepted values in words, for error messages.
        read: turns a raw value into the stored one; ValueError if it is not accepted.
    """

    accepted: str
    read: Callable[[Any], Any]


def setting(default: Any, rule: Rule) -> Any:
    """A dataclass field with a default and the rule its values obey."""
    return dataclasses.field(default=default, metadata={"rule": rule})


def boolean() -> Rule:
    """true or false, and nothing that merely looks like it."""
    return Rule("true or false", lambda value: _typed(value, bool))


def integer(least: int, most: int | None = None) -> Rule:
    """A whole number between two bounds, both included."""
    upper = math.inf if most is None else most

    def read(value: Any) -> int:
        number: int = _typed(value, int)
        return number if least <= number <= upper else _refuse()

    to = "" if most is None else f" to {most}"
    return Rule(f"a whole number from {least}{to}", read)


def number(
    least: float = -math.inf, most: float = math.inf, *, above: bool = False
) -> Rule:
    """A finite number; ``above`` leaves the lower bound itself out."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse()
        result = float(value)
        fits = least < result if above else least <= result
        return (
            result if fits and result <= most and math.isfinite(result) else _refuse()
        )

    words = [f"{'above' if above else 'from'} {least:g}"] if least > -math.inf else []
    words += [f"up to {most:g}"] if most < math.inf else []
    return Rule(" ".join(["a number", *words]), read)


def one_of(*choices: str) -> Rule:
    """One of a few words."""

    def read(value: Any) -> str:
        return value if isinstance(value, str) and value in choices else _refuse()

    return Rule("one of " + ", ".join(map(repr, choices)), read)


def text(*, empty: bool = True) -> Rule:
    """Any text in one line."""

    def read(value: Any) -> str:
        result: str = _typed(value, str)
        return result if (empty or result) and "\n" not in result else _refuse()

    return Rule("text in quotes" + ("" if empty else ", not empty"), read)


def group_pattern() -> Rule:
    """A regular expression with one group at least, ``image``, or nothing."""

    def read(value: Any) -> str:
        result: str = _typed(value, str)
        if result == "image":
            return result
        try:
            groups = re.compile(result).groups
        except re.error:
            return _refuse()
        return result if groups or not result else _refuse()

    return Rule("a regular expression with a group in brackets, 'image' or ''", read)


def list_of(rule: Rule, *, least: int = 0) -> Rule:
    """A list of values that all obey ``rule``, none of them twice."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            _refuse()
        result = tuple(rule.read(item) for item in value)
        return result if least <= len(result) == len(set(result)) else _refuse()

    size = f" with {least} or more entries" if least else ""
    return Rule(f"a list{size}, none twice, each {rule.accepted}", read)


def _refuse() -> Any:
    raise ValueError


def _typed(value: Any, kind: type) -> Any:
    # bool is an int in Python, but `batch = true` is a mistake.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        _refuse()
    return value


@dataclass(frozen=True)
class Section:
    """Base of the sections: checks and converts every field when it is made.

    Attributes:
        name: of the TOML table, for messages.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rule: Rule = field.metadata["rule"]
            value = getattr(self, field.name)
            try:
                read = rule.read(value)
            except MessError as error:
                raise MessError(f"{self.name}.{field.name}: {error}") from error
            except ValueError:
                raise MessError(
                    f"{self.name}.{field.name} = {as_toml(value)} is not accepted; it"
                    f" must be {rule.accepted}."
                ) from None
            object.__setattr__(self, field.name, read)


SomeSection = TypeVar("SomeSection", bound=Section)


def read_section(kind: type[SomeSection], table: Any) -> SomeSection:
    """Makes a section of a TOML table.

    Raises:
        MessError: it is no table, has an unknown key, or a value breaks its rule.
    """
    if not isinstance(table, Mapping):
        raise MessError(
            f"{kind.name} = {as_toml(table)} is not accepted; write a table"
            f" [{kind.name}]."
        )
    known = [field.name for field in dataclasses.fields(kind)]
    for key in table:
        if key not in known:
            raise MessError(unknown_key(f"{kind.name}.{key}", key, known))
    return kind(**table)


def unknown_key(shown: str, key: str, known: Iterable[str]) -> str:
    """The message for a key that nobody knows, with the one that was likely meant."""
    known = list(known)
    # Short keys differ by much from what was meant: 0.5 finds 'lr_power' for 'power'.
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{shown} is unknown.{hint} Accepted: {', '.join(known)}."


def as_toml(value: Any) -> str:
    """A value as it is written in TOML, for messages and files."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one character JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        items = (
            f"{as_toml(str(key))} = {as_toml(item)}" for key, item in value.items()
        )
        return "{ " + ", ".join(items) + " }"
    return repr(value)


def check_image_size(height: int, width: int, multiple: int) -> None:
    """A network's input has whole cells at its coarsest stride.

    Raises:
        MessError: it has not; the nearest size that has is named.
    """
    if height % multiple or width % multiple or min(height, width) < multiple:
        raise MessError(
            f"Image size {height}x{width} must be multiples of {multiple}; the nearest"
            f" is {max(1, round(height / multiple)) * multiple}x"
            f"{max(1, round(width / multiple)) * multiple}."
        )
