"""In which state a device was while it was measured, over all rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def summary(conditions: Sequence[Any]) -> dict[str, str]:
    """Ranges of what a device told of itself, ready to print.

    Args:
        conditions: one record per round (``android_bench.records.Conditions``); fields
            that are None were not told and are left out.
    """
    told = {"rounds": f"{len(conditions)}"}
    for field, name, unit, digits in (
        ("temperature_c", "temperature", " °C", 1),
        ("battery_percent", "battery", " %", 0),
        ("foreign_load", "busy with other work", " cores", 2),
    ):
        values = [v for c in conditions if (v := getattr(c, field)) is not None]
        if values:
            low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
            told[name] = f"{low if low == high else f'{low} to {high}'}{unit}"
    for field in ("throttled", "charging"):
        flags = [v for c in conditions if (v := getattr(c, field)) is not None]
        if flags:
            told[field] = f"in {sum(flags)} of {len(flags)} rounds"
    governors = Counter(c.governor for c in conditions if c.governor)
    if governors:
        told["governor"] = ", ".join(governors)
    return told
