"""Checks of the commands' arguments, and the command line to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mess_tf.core.errors import UsageError

Value = TypeVar("Value", str, Path, "str | Path")


def as_tuple(given: Value | Sequence[Value]) -> tuple[Value, ...]:
    """One or more values as a tuple; a text alone is one value, not its letters."""
    return (given,) if isinstance(given, str | Path) else tuple(given)


def check_choice(name: str, given: str | None, accepted: Sequence[str]) -> None:
    """Checks a value of a few accepted ones, as the command line does by itself.

    Raises:
        UsageError: ``given`` is neither accepted nor None.
    """
    if given is not None and given not in accepted:
        raise UsageError(
            f"{name} = {given!r} is not accepted; accepted: {', '.join(accepted)}."
        )


def next_command(
    command: str,
    target: str | Path,
    /,
    **options: str | int | bool | Sequence[str] | None,
) -> str:
    """A command line to type next; options that are None, empty or False are left out.

    Example:
        >>> next_command("export", "runs/my phone", device="host", precision=None)
        "mess export 'runs/my phone' --device host"
    """
    words = ["mess", command, str(target)]
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            values = [str(value)] if isinstance(value, str | int) else value
            words += [word for one in values for word in (flag, one)]
    return shlex.join(words)
