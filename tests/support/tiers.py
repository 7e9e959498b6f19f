"""The two tiers of tests: the default one, and ``slow`` (``make test-all``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], default: int) -> list[Any]:
    """Parameters of which ``default``, spread evenly, run in the default tier.

    The others are marked ``slow``.

    Args:
        values: for ``parametrize``; a tuple is one set of several arguments.
    """
    every = list(values)
    chosen = {len(every) * number // default for number in range(default)}
    return [
        value if number in chosen else _slow(value)
        for number, value in enumerate(every)
    ]


def _slow(value: Any) -> Any:
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)
