"""Settings that another setting of the same recipe makes void.

A recipe may hold any of them: that of a run folder holds every setting, and a change on
the command line may make one void that the recipe's file has. Refused is what somebody
wrote down beside the setting that makes it void.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mess_tf.core.errors import MessError
from mess_tf.recipe.sections import SECTIONS
from mess_tf.recipe.settings import as_toml

# Settings of [data] that one kind of data set alone reads.
_OF_ONE_KIND = {
    "size": "drawn",
    "count_train": "drawn",
    "count_val": "drawn",
    "seed": "drawn",
    "sbd": "voc",
    "trainaug_images": "voc",
    "ignore_label": "folder",
}


def void_settings(table: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Section and key of each void setting of parsed TOML, with what makes it void."""
    return dict(_void(table))


def refuse_void_settings(table: Mapping[str, Any]) -> None:
    """Refuses a recipe file with void settings; one at its default is harmless.

    Raises:
        MessError: names the setting and what makes it void.
    """
    for (section, key), reason in void_settings(table).items():
        value = _value(table, section, key)
        if value != _default(section, key):
            raise MessError(
                f"{section}.{key} = {as_toml(value)} is without effect {reason}"
            )


def _void(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    scheme = _value(table, "training", "scheme")
    if _value(table, "training", "optimizer") == "adamw":
        yield (
            ("training", "momentum"),
            "with training.optimizer = 'adamw'; leave it out.",
        )
    if scheme == "e2e":
        reason = "with training.scheme = 'e2e', which trains all heads in stage 1"
        for key in ("stage2_epochs", "stage2_learning_rate", "early_exits_per_step"):
            yield ("training", key), f"{reason}; leave it out."
        yield ("training", "stage2_min_gain_pp"), f"{reason}; leave it out."
    if scheme == "heads-only":
        reason = "with training.scheme = 'heads-only', which has no stage 1"
        for key in ("stage1_epochs", "learning_rate", "early_exits_per_step"):
            yield ("training", key), f"{reason}; leave it out."
    if scheme == "frozen":
        yield (
            ("training", "early_exits_per_step"),
            "with training.scheme = 'frozen', whose stage 1 has no early exits; leave"
            " it out.",
        )
    if _value(table, "network", "exit_layers"):
        for key in ("exits", "exit_placement"):
            yield (
                ("network", key),
                "beside network.exit_layers; leave one of them out.",
            )
    kind = _value(table, "data", "kind")
    for key, only in _OF_ONE_KIND.items():
        if kind != only:
            yield (
                ("data", key),
                f"with data.kind = {as_toml(kind)}, being of kind {as_toml(only)};"
                " leave it out.",
            )
    if _value(table, "data", "workers") == 0:
        yield (
            ("data", "workers"),
            "since one worker at least prepares batches; give 1 or more.",
        )


def _value(table: Mapping[str, Any], section: str, key: str) -> Any:
    values = table.get(section)
    if isinstance(values, Mapping) and key in values:
        return values[key]
    return _default(section, key)


def _default(section: str, key: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])}
    return fields[key].default
