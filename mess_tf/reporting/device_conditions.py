"""State of a device while it was measured, summarised over all rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from android_bench.records import Conditions


def conditions_summary(conditions: Sequence[Conditions]) -> dict[str, str]:
    """Ranges of temperature, battery, throttling and other load, ready to print.

    Args:
        conditions: one record per round; fields that are None are left out.
    """
    summary = {"rounds": f"{len(conditions)}"}
    for field, name, unit, digits in (
        ("temperature_c", "temperature", " °C", 1),
        ("battery_percent", "battery", " %", 0),
        ("foreign_load", "busy with other work", " cores", 2),
    ):
        values = [v for c in conditions if (v := getattr(c, field)) is not None]
        if values:
            low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
            summary[name] = f"{low if low == high else f'{low} to {high}'}{unit}"
    for field in ("throttled", "charging"):
        flags = [v for c in conditions if (v := getattr(c, field)) is not None]
        if flags:
            summary[field] = f"in {sum(flags)} of {len(flags)} rounds"
    governors = Counter(c.governor for c in conditions if c.governor)
    if governors:
        summary["governor"] = ", ".join(governors)
    return summary
