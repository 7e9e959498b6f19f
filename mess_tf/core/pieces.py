"""The pieces of a supernet: the ``.tflite`` files listed in ``pieces.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import read_record, write_record
from mess_tf.core.piece_names import (
    head_name,
)
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec

PIECES_SCHEMA = 1
"""Version of ``pieces.json``."""

PieceKind = Literal["segment", "head", "decision", "output", "probe"]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor at a piece's border; ``scale`` is 0 for float tensors."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Piece:
    """One ``.tflite`` cut from the supernet.

    Attributes:
        name: see ``segment_name``, ``head_name``, ``decision_name``, ``output_name``,
            ``WHOLE_PROBE``, ``single_probe`` and ``branch_probe``.
        file: file name, relative to the folder of ``pieces.json``.
        sha256: of the file.
        macs: counted from the operators, at batch 1.
        size_bytes: of the file.
    """

    name: str
    kind: PieceKind
    file: str
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    macs: int
    size_bytes: int


@dataclass(frozen=True)
class PiecesFile:
    """Contents of ``pieces.json``.

    Attributes:
        precision: of all pieces.
        pieces: in the order they were made.
        made: how the numbers came about, e.g. calibration method and images; goes onto
            the cards of what is exported.
    """

    precision: Precision
    pieces: tuple[Piece, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    schema: int = PIECES_SCHEMA


@dataclass(frozen=True)
class Pieces(PiecesFile):
    """The pieces of one precision and the folder that holds them.

    Attributes:
        folder: of ``pieces.json`` and the files.
    """

    folder: Path = field(kw_only=True)

    def __getitem__(self, name: str) -> Piece:
        for piece in self.pieces:
            if piece.name == name:
                return piece
        raise MessError(
            f"No piece named {name!r} in {self.folder}; run `mess compile` again."
        )

    def path(self, name: str) -> Path:
        return self.folder / self[name].file

    def part_of(self, spec: SupernetSpec) -> SupernetSpec:
        """``spec`` with the heads that have a piece here: all, or those of a choice."""
        names = {piece.name for piece in self.pieces if piece.kind == "head"}
        present = [name for name in spec.head_names() if head_name(*name) in names]
        return spec.with_heads(present)

    def save(self) -> None:
        """Writes ``pieces.json``."""
        content = PiecesFile(self.precision, self.pieces, self.made, self.schema)
        write_record(self.folder / "pieces.json", content)

    @classmethod
    def load(cls, folder: Path) -> Pieces:
        """Reads ``pieces.json``; raises like ``read_record``."""
        run = folder.parent.parent
        made_by = f"mess compile {run} --precision {folder.name}"
        if folder.name == "int8-qat":
            made_by = f"mess quantise {run}"
        file = folder / "pieces.json"
        read = read_record(file, PiecesFile, "list of pieces", made_by, PIECES_SCHEMA)
        return cls(read.precision, read.pieces, read.made, read.schema, folder=folder)
