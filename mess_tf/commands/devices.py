"""``mess devices``."""

from __future__ import annotations

import dataclasses
from typing import Any

from mess_tf.doors import open_door


def devices() -> dict[str, Any]:
    """Lists the devices that can be measured now.

    Returns:
        ``devices``: per device its name, model, SoC, ABI, system and cores.
    """
    return {"devices": [dataclasses.asdict(d) for d in open_door("list_devices")()]}


def render(result: dict[str, Any]) -> str:
    """One line per device."""
    return "\n".join(
        f"{d['name']}: {d['model']}, {d['soc']}, {d['abi']}, {d['os_version']},"
        f" {d['cores']} cores"
        for d in result["devices"]
    )
