"""Keeps decoded samples in memory, up to a limit."""

from __future__ import annotations

import threading
from typing import Any

from mess_tf.data.sources import Sample, Source

DEFAULT_LIMIT_BYTES = 1 << 30


class Cached:
    """A source whose samples are decoded once, as far as ``limit_bytes`` allows.

    The first samples that come stay; nothing is evicted, because training visits every
    sample once per epoch and an eviction could only make room for an equal.

    Samples are shared between callers: treat their arrays as read-only (they are marked
    so). Pickling, as for worker processes, leaves the cached samples behind.
    """

    def __init__(self, source: Source, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.source = source
        self.limit_bytes = limit_bytes
        self.names = source.names
        self.groups = source.groups
        self.classes = source.classes
        self.ignore_label = source.ignore_label
        self.palette = source.palette
        self._cached: dict[int, Sample] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def cached_bytes(self) -> int:
        """Bytes of pixels held now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self.source)

    def load(self, index: int) -> Sample:
        cached = self._cached.get(index)
        if cached is not None:
            return cached
        sample = self.source.load(index)
        size = sample.image.nbytes + sample.labels.nbytes
        with self._lock:
            if index not in self._cached and self._bytes + size <= self.limit_bytes:
                sample.image.flags.writeable = False
                sample.labels.flags.writeable = False
                self._cached[index] = sample
                self._bytes += size
        return sample

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return {**state, "_cached": {}, "_bytes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
