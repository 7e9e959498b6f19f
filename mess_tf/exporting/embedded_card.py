"""The card of an export as metadata of its flatbuffer.

A file travels without the folder it was made in. So the card that lies beside it is
also an entry of the flatbuffer's metadata, which runtimes ignore. What only the
finished file can tell (its digest and size) is in ``card.json`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from mess_tf.core.errors import MessError
from mess_tf.flatbuffer.reader import read_file, read_model
from mess_tf.flatbuffer.writer import write_model

CARD_SCHEMA = 1
"""Version of ``card.json`` and of the card inside a file."""

ENTRY = b"mess_tf_card"


def with_card(content: bytes, card: Mapping[str, Any]) -> bytes:
    """A flatbuffer with a card inside; one that it had is replaced."""
    model = read_model(content, "the linked model")
    text = json.dumps(card, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = np.frombuffer(text.encode(), np.uint8)
    entries = list(model.metadata or [])
    for entry in entries:
        if entry.name == ENTRY:
            model.buffers[entry.buffer].data = data
            return write_model(model)
    model.buffers.append(fb.BufferT(data=data))
    entries.append(fb.MetadataT(name=ENTRY, buffer=len(model.buffers) - 1))
    model.metadata = entries
    return write_model(model)


def read_card(path: Path) -> dict[str, Any]:
    """The card inside an exported file.

    Raises:
        MessError: the file is missing or damaged, has no card, or one of another
            version.
    """
    model = read_file(path)
    for entry in model.metadata or ():
        if entry.name == ENTRY:
            return _parsed(bytes(model.buffers[entry.buffer].data), path)
    raise MessError(
        f"{path} has no card inside: it was not made by `mess export`. Give the"
        " model.tflite of an export."
    )


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        card = json.loads(text)
    except ValueError as error:
        raise MessError(
            f"The card inside {path} cannot be read ({error}); export it again."
        ) from error
    if not isinstance(card, dict) or card.get("schema") != CARD_SCHEMA:
        found = card.get("schema") if isinstance(card, dict) else None
        raise MessError(
            f"The card inside {path} has schema {found}; this version reads"
            f" {CARD_SCHEMA}."
        )
    return card
