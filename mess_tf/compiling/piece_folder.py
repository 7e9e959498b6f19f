"""Writes a folder of pieces, whole or not at all; each piece is verified first."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mess_tf.converting.graph_checks import check_piece
from mess_tf.core.errors import MessError
from mess_tf.core.files import sha256_of
from mess_tf.core.pieces import Piece, PieceKind, Pieces, TensorInfo
from mess_tf.core.precisions import Precision
from mess_tf.flatbuffer.macs import count_macs
from mess_tf.flatbuffer.reader import Graph


def write_pieces(
    folder: Path,
    precision: Precision,
    fill: Callable[[PieceWriter], None],
    made: Mapping[str, Any] | None = None,
) -> Pieces:
    """Writes a folder of pieces; an existing one stays until the new one is complete.

    Args:
        folder: to write or replace.
        precision: of all pieces.
        fill: adds the pieces by the writer that it is called with.
        made: see ``Pieces``.

    Raises:
        MessError: a piece that fails its check, or a disk that refuses.
    """
    with write_folder_atomically(folder) as partial:
        writer = PieceWriter(partial, precision)
        fill(writer)
        pieces = writer.written(made or {})
        pieces.save()
    return replace(pieces, folder=folder)


class PieceWriter:
    """Writes pieces into a folder and verifies each as it comes."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.folder = folder
        self.precision = precision
        self.pieces: list[Piece] = []

    def written(self, made: Mapping[str, Any] | None = None) -> Pieces:
        """The pieces so far; ``made`` as for ``write_pieces``."""
        return Pieces(
            self.precision, tuple(self.pieces), made or {}, folder=self.folder
        )

    def add(self, name: str, kind: PieceKind, content: bytes) -> None:
        """Writes, checks and lists a piece; raises MessError as ``check_piece``."""
        path = self.folder / f"{name}.tflite"
        path.write_bytes(content)
        graph = check_piece(path, name, kind, self.precision)
        self.pieces.append(
            Piece(
                name=name,
                kind=kind,
                file=path.name,
                sha256=sha256_of(path),
                inputs=_infos(graph, graph.inputs),
                outputs=_infos(graph, graph.outputs),
                macs=count_macs(graph),
                size_bytes=len(content),
            )
        )


def _infos(graph: Graph, tensors: Sequence[int]) -> tuple[TensorInfo, ...]:
    return tuple(graph.info(tensor) for tensor in tensors)


@contextlib.contextmanager
def write_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that replaces ``folder`` when the block succeeds.

    Raises:
        MessError: the disk refuses.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        _replace(folder, partial)
    except OSError as error:
        raise MessError(f"Cannot write {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    """Renames the folder ``new`` to ``folder``, which may not exist yet."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
