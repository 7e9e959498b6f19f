"""Makes batches ahead of their use, in threads or processes; no Keras here.

Threads suit nearly always: decoding and resampling release Python's lock, and nothing
is copied. Processes help where a source spends its time in Python.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from mess_tf.core.errors import MessError, UsageError
from mess_tf.data.assemble import BatchMaker

Batch = tuple[np.ndarray, np.ndarray]

# The maker of a worker process, sent once when it starts and not with every batch.
_worker_maker: BatchMaker | None = None


class Prefetcher:
    """A pool that makes batches ahead; use it in a ``with`` block.

    Args:
        maker: what the batches are made of.
        workers: threads or processes; 0: every batch is made when it is asked for.
        ahead: batches in memory beyond the one in use, 1 or more.
        processes: processes instead of threads. They start anew (``spawn``), because a
            fork of a process that runs TensorFlow may hang.

    Raises:
        UsageError: a number too small.
    """

    def __init__(
        self,
        maker: BatchMaker,
        workers: int = 1,
        ahead: int = 4,
        *,
        processes: bool = False,
    ) -> None:
        for name, value, least in (("workers", workers, 0), ("ahead", ahead, 1)):
            if value < least:
                raise UsageError(f"{name} is {value}; it must be {least} or more.")
        self._maker = maker
        self._ahead = ahead
        self._processes = processes
        self._pool: Executor | None = None
        if workers and processes:
            self._pool = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_process,
                initargs=(maker,),
            )
        elif workers:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mess-data")

    def __enter__(self) -> Self:
        # OpenCV's threads would fight the workers, and the training, for the cores.
        cv2.setNumThreads(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch in order, from batch ``start`` on.

        Leaving the loop early cancels what has not begun.

        Raises:
            MessError: a sample cannot be read (the message names the file), or a worker
                process died.
        """
        numbers = range(start, len(self._maker))
        if self._pool is None:
            for number in numbers:
                yield self._maker.make(epoch, number)
            return
        waiting: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                waiting.append(self._submit(self._pool, epoch, number))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise MessError(
                "A data worker process died (out of memory?); use fewer workers or"
                " threads (data.multiprocessing = false)."
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, pool: Executor, epoch: int, number: int) -> Future[Batch]:
        if self._processes:
            return pool.submit(_make_in_process, epoch, number)
        return pool.submit(self._maker.make, epoch, number)


def _start_process(maker: BatchMaker) -> None:
    global _worker_maker
    cv2.setNumThreads(1)
    _worker_maker = maker


def _make_in_process(epoch: int, number: int) -> Batch:
    if _worker_maker is None:
        raise RuntimeError("The worker process was not started with a maker.")
    return _worker_maker.make(epoch, number)
