"""Scalars for TensorBoard, written without TensorFlow so that JAX machines log too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType


class ScalarLog:
    """An event file in ``folder``; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def __enter__(self) -> ScalarLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add(
        self,
        step: int,
        scalars: Mapping[str, float],
        prefix: str,
        miou: Mapping[str, float],
    ) -> None:
        """Adds ``scalars`` as they are and ``miou`` under ``<prefix>/miou/``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = {
            **scalars,
            **{f"{prefix}/miou/{name}": value for name, value in miou.items()},
        }
        summary = Summary(
            value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        )
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()
