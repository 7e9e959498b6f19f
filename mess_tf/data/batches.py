"""Batches for Keras, and the same batches made ahead for a training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mess_tf.data.assemble import BatchMaker
from mess_tf.data.prefetch import Prefetcher


class Batches(keras.utils.PyDataset):
    """One epoch of a ``BatchMaker`` as Keras wants it.

    A training loop makes one object per epoch. Under ``fit``, pass ``follow_epochs()``
    as a callback, and ``shuffle=False``: the order is shuffled here, repeatably.

    Args:
        maker: what the batches are made of.
        epoch: 0-based; decides order and augmentation.
        workers, use_multiprocessing, max_queue_size: see ``keras.utils.PyDataset``.
    """

    def __init__(
        self,
        maker: BatchMaker,
        epoch: int = 0,
        *,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 4,
    ) -> None:
        super().__init__(
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
        )
        self.maker = maker
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.maker)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``index``; see ``BatchMaker.make``."""
        return self.maker.make(self.epoch, index)

    @property
    def num_batches(self) -> int:
        return len(self.maker)

    def follow_epochs(self) -> keras.callbacks.Callback:
        """A callback for ``fit``: every epoch gets batches of its own.

        ``on_epoch_end`` is no use for it: ``fit`` calls that once too often, when it
        looks at the first batch to build the model.
        """

        def follow(epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            self.epoch = epoch

        return keras.callbacks.LambdaCallback(on_epoch_begin=follow)

    def samples(self, index: int) -> tuple[int, ...]:
        """Indices into the source of batch ``index``."""
        return self.maker.samples(self.epoch, index)

    def native_labels(self, index: int) -> list[np.ndarray]:
        """Labels of batch ``index`` at their own size, uint8 arrays of shape (h, w)."""
        return [self.maker.source.load(i).labels for i in self.samples(index)]


def prefetch(
    batches: Batches, workers: int = 1, ahead: int = 4, **options: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields one epoch's batches in order, up to ``ahead`` of them made beforehand.

    For many epochs with worker processes, hold a ``Prefetcher`` instead: its processes
    stay.

    Args:
        batches: the epoch.
        workers: threads, or processes if ``batches.use_multiprocessing``; 0 = none.
        ahead: batches in memory beyond the one in use.
        **options: ``start``: first batch, see ``Prefetcher.epoch``.
    """
    processes = batches.use_multiprocessing
    with Prefetcher(batches.maker, workers, ahead, processes=processes) as pool:
        yield from pool.epoch(batches.epoch, **options)
