"""Recipes as TOML files: found, read with changes from the command line, written."""

from __future__ import annotations

import contextlib
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.files import write_atomically
from mess_tf.recipe.recipe import Recipe
from mess_tf.recipe.sections import BUILT_IN_WEIGHTS, NETWORK_FILE
from mess_tf.recipe.settings import as_toml
from mess_tf.recipe.void_settings import refuse_void_settings, void_settings

_PATHS = (
    ("data", "path"), ("data", "sbd"), ("network", "weights"), ("network", "backbone"),
    ("training", "teacher"), ("training", "start"),
)  # fmt: skip
_NO_PATHS = ("", *BUILT_IN_WEIGHTS)


def load_recipe(
    recipe: str | Path,
    *,
    data: Path | None = None,
    weights: str | None = None,
    changes: Sequence[str] = (),
) -> Recipe:
    """Reads a recipe; paths in it become absolute.

    Args:
        recipe: path of a TOML file, or the name of one that comes with the program
            (``quickstart``, ``camvid``).
        data: folder of the data set, instead of the recipe's; a recipe that draws its
            images takes a plain folder then.
        weights: ``imagenet``, ``random`` or a file, instead of the recipe's.
        changes: further changes such as ``training.seed=1``, applied in order.

    Raises:
        MessError: no such recipe, no TOML, or a setting that is not accepted, or that
            another one in the file makes void.
        UsageError: a change that cannot be read, or that is without effect.
    """
    path = find_recipe(recipe)
    table = _read_toml(path)
    with _named(path):
        # Only what the recipe itself names is relative to it; what comes from the
        # command line is relative to where the command was typed.
        _anchor(table, path.resolve().parent)
        refuse_void_settings(table)
        changed = [_apply(table, change) for change in changes]
        if data is not None:
            _apply_value(table, "data", "path", str(data))
            _of_files(table)
        _refuse_void_changes(table, changed)
        if weights is not None:
            _apply_value(table, "network", "weights", weights)
        _anchor(table, Path.cwd())
        return Recipe.from_table(table)


def read_stored_recipe(path: Path) -> Recipe:
    """Reads what ``write_recipe`` wrote; a setting may be void in it.

    Raises:
        MessError: no TOML, or a setting that is not accepted.
    """
    table = _read_toml(path)
    with _named(path):
        _anchor(table, path.resolve().parent)
        return Recipe.from_table(table)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes every setting of a recipe, defaults too, so that the file stands alone."""
    with write_atomically(path) as temporary:
        temporary.write_text(to_toml(recipe), encoding="utf-8")


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML text."""
    lines: list[str] = []
    for name, section in recipe.to_table().items():
        lines += [f"[{name}]"]
        lines += [f"{key} = {as_toml(value)}" for key, value in section.items()]
        lines += [""]
    return "\n".join(lines)


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe given by path or by name.

    Raises:
        MessError: there is neither such a file nor a built-in recipe of that name.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    built_in = {file.stem: file for file in _built_in_recipes()}
    if str(recipe) in built_in:
        return built_in[str(recipe)]
    raise MessError(
        f"No recipe {str(recipe)!r}; accepted: the path of a TOML file, or a built-in"
        f" one: {', '.join(sorted(built_in)) or 'none found'}."
    )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the recipe in the message of what is wrong in it."""
    try:
        yield
    except UsageError:
        raise
    except MessError as error:
        raise MessError(f"Recipe {path}: {error}") from error


def _built_in_recipes() -> Iterator[Path]:
    # A checkout has them beside the package; an installed wheel under share/.
    checkout = Path(__file__).resolve().parents[2] / "recipes"
    installed = Path(sysconfig.get_path("data")) / "share" / "mess-tf" / "recipes"
    for folder in (installed, checkout):
        yield from folder.glob("*.toml")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise MessError(f"Recipe {path} cannot be read: {reason}.") from error


def _anchor(table: dict[str, Any], folder: Path) -> None:
    for section, key in _PATHS:
        values = table.get(section)
        value = values.get(key) if isinstance(values, Mapping) else None
        names_a_file = key != "backbone" or str(value).endswith(NETWORK_FILE)
        if isinstance(value, str) and value not in _NO_PATHS and names_a_file:
            path = Path(value).expanduser()
            _apply_value(table, section, key, str((folder / path).resolve()))


def _of_files(table: dict[str, Any]) -> None:
    values = table["data"]
    if isinstance(values, dict) and values.get("kind") == "drawn":
        values["kind"] = "folder"


def _refuse_void_changes(
    table: Mapping[str, Any], changed: Sequence[tuple[str, str]]
) -> None:
    void = void_settings(table)
    for section, key in changed:
        if (section, key) in void:
            raise UsageError(
                f"--set {section}.{key} is without effect {void[section, key]}"
            )


def _apply(table: dict[str, Any], change: str) -> tuple[str, str]:
    """Applies a change; returns the section and key that it names."""
    name, equals, raw = change.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise UsageError(
            f"Change {change!r} cannot be read; write section.key=value, e.g."
            " training.seed=1."
        )
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except ValueError:
        # A bare word is what people type, and shells eat quotes.
        value = raw.strip()
    _apply_value(table, parts[0], parts[1], value)
    return parts[0], parts[1]


def _apply_value(table: dict[str, Any], section: str, key: str, value: Any) -> None:
    values = table.setdefault(section, {})
    if isinstance(values, dict):
        values[key] = value
