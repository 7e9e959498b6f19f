"""A configuration: the chosen exits with their heads, policies and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import Json, from_json, to_json


@dataclass(frozen=True)
class ExitChoice:
    """One exit of a configuration.

    Attributes:
        exit: exit point, 1-based.
        head: head id.
        policy: policy key with its pixel threshold (``eq7@0.9``); None on the last.
        threshold: the image leaves here if confidence >= threshold; None on the last.
        parameters: the head's parameters of a fitted policy (``cbt``, ``gate``), as in
            the statistics; empty for others.
    """

    exit: int
    head: str
    policy: str | None = None
    threshold: float | None = None
    parameters: tuple[float, ...] = ()


class Configuration:
    """The chosen exits in order of depth; the last one always answers.

    Immutable, and equal to others with the same exits. No dataclass, because in files
    it is the list of its exits and not an object with one field.

    Args:
        exits: at least one; all but the last need policy and threshold.

    Raises:
        MessError: no exit, an order that is not that of depth, or a missing rule.
    """

    JSON_TYPE: ClassVar = tuple[ExitChoice, ...]

    def __init__(self, exits: tuple[ExitChoice, ...]) -> None:
        if not exits:
            raise MessError("A configuration needs at least one exit.")
        order = [choice.exit for choice in exits]
        if order != sorted(set(order)):
            raise MessError(f"A configuration's exits must grow in depth; got {order}.")
        for choice in exits[:-1]:
            if choice.policy is None or choice.threshold is None:
                raise MessError(
                    f"Exit {choice.exit} is not the last: it needs policy and"
                    " threshold."
                )
        self._exits = exits

    @property
    def exits(self) -> tuple[ExitChoice, ...]:
        return self._exits

    json_content = exits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._exits == other._exits

    def __hash__(self) -> int:
        return hash(self._exits)

    def __repr__(self) -> str:
        return f"Configuration({self._exits!r})"

    def to_json(self) -> list[dict[str, Json]]:
        """The list of exits as plain JSON types, as JSON gives it back."""
        return [to_json(choice) for choice in self._exits]

    @classmethod
    def from_json(cls, data: list[dict[str, Json]]) -> Configuration:
        """Inverse of ``to_json``; raises MessError like ``json_files.from_json``."""
        return from_json(data, cls, "A configuration")
