"""Measures on several devices at once: one worker thread each, independent losses."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.measure import measure
from android_bench.records import DeviceInfo, Measurement, MeasureSettings, ModelFile
from android_bench.store import Store
from android_bench.store_errors import StoreError

_LOG = logging.getLogger(__name__)

Open = Callable[[str], Device]

DeviceProgress = Callable[[str, int, int, str], None]
"""Called with (device, visits done, visits planned, what is done now)."""

STOP_S = 20.0
"""How long all workers together may take to put their devices in order at the end."""


@dataclass(frozen=True)
class DeviceRun:
    """Measurements of one device.

    Attributes:
        name: as it was asked for.
        info: what it is; None where it was never reached.
        measurements: one per model in their order; of a device that was lost, those
            that are in the store.
        lost: why it did not come to its end, one line; empty when it did.
        same_as: another name of the same device, under which it was measured.
    """

    name: str
    info: DeviceInfo | None
    measurements: tuple[Measurement, ...]
    lost: str = ""
    same_as: str = ""


def measure_many(
    names: Sequence[str],
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    store: str | Path,
    open_one: Open,
    fresh: bool = False,
    progress: DeviceProgress | None = None,
) -> list[DeviceRun]:
    """Measures the same models on several devices at the same time.

    Args:
        names: of the devices, each once.
        store: path or URL; every worker opens it for itself.
        open_one: name -> opened device.
        progress: called from several threads, one at a time.

    Returns:
        One ``DeviceRun`` per name, in their order.

    Raises:
        BenchError: the store cannot be used; all devices were asked to stop.
        KeyboardInterrupt: Ctrl-C, after every device was asked to stop; what was
            finished is in the store.
    """
    Store(store).close()  # a store that cannot be used is one error, not one per device
    shared = _SharedState(progress)
    workers = [
        _Worker(name, models, settings, store, open_one, fresh, shared)
        for name in names
    ]
    if len(workers) == 1:
        workers[0].work()  # in this thread: Ctrl-C ends even what is under way
    else:
        _work_together(workers, shared)
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    return [worker.outcome() for worker in workers]


def _work_together(workers: Sequence[_Worker], shared: _SharedState) -> None:
    for worker in workers:
        # A daemon: a device that hangs must not keep a stopped program alive.
        name = f"measuring {worker.name}"
        threading.Thread(target=worker.work, name=name, daemon=True).start()
    # Not Thread.join: interrupted by Ctrl-C, Python 3.11's takes a thread that still
    # runs for ended (https://github.com/python/cpython/issues/90882).
    try:
        for worker in workers:
            while not worker.ended.wait(0.2):  # a bound, so that Ctrl-C is heard
                pass
    except BaseException:
        shared.stopped.set()
        deadline = time.monotonic() + STOP_S
        for worker in workers:
            worker.ended.wait(max(0.0, deadline - time.monotonic()))
        raise


class _Stopped(Exception):
    """Ends a worker between two visits."""


class _SharedState:
    """What the workers share: the progress, the word to stop, which devices are in use.

    Attributes:
        stopped: all are to end.
    """

    def __init__(self, progress: DeviceProgress | None) -> None:
        self.stopped = threading.Event()
        self._progress = progress
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}

    def report(self, name: str, done: int, planned: int, text: str) -> None:
        """Shows how far a device has come. Raises _Stopped when all are to end."""
        if self.stopped.is_set():
            raise _Stopped
        with self._lock:
            if self._progress is not None:
                self._progress(name, done, planned, text)

    def claim(self, name: str, device: Device) -> str:
        """The other name under which a device is measured already; empty if none.

        A phone may be reached over several ways; two workers would disturb each other.
        Serial numbers do not tell phones apart (some makers give all the same one), but
        no two share the identity of their present boot.
        """
        boot = device.state().other.get("boot", name)
        with self._lock:
            other = self._names.setdefault(boot, name)
        return "" if other == name else other


class _Worker:
    """Measures on one device.

    Attributes:
        error: what is no loss of the device: the store cannot be used, or a mistake of
            ours.
        ended: its device is in order again.
    """

    def __init__(
        self,
        name: str,
        models: Sequence[ModelFile],
        settings: MeasureSettings,
        store: str | Path,
        open_one: Open,
        fresh: bool,
        shared: _SharedState,
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self.ended = threading.Event()
        self._models, self._settings, self._store = models, settings, store
        self._open_one, self._fresh, self._shared = open_one, fresh, shared
        self._info: DeviceInfo | None = None
        self._rows: dict[str, Measurement] = {}
        self._visits = 0, 0
        self._lost = self._same_as = ""

    def work(self) -> None:
        """Measures; an error is stored, not raised."""
        try:
            with Store(self._store) as store, self._open_one(self.name) as device:
                self._measure(device, store)
        except StoreError as error:  # in vain for the others, too
            self.error = error
            self._shared.stopped.set()
        except BenchError as error:
            self._lost = str(error)
            self._report_loss()
        except _Stopped:
            self._lost = "stopped"
        # A mistake of ours is no lost device; the others go on until it is reported.
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    def outcome(self) -> DeviceRun:
        rows = (
            dataclasses.replace(self._rows[model.sha256], name=model.name)
            for model in self._models
            if model.sha256 in self._rows
        )
        return DeviceRun(self.name, self._info, tuple(rows), self._lost, self._same_as)

    def _measure(self, device: Device, store: Store) -> None:
        self._info = device.describe()
        self._same_as = self._shared.claim(self.name, device)
        if self._same_as:
            _LOG.warning("%s is the same device as %s", self.name, self._same_as)
            return
        measure(
            device,
            self._models,
            self._settings,
            store,
            self._fresh,
            self._report_progress,
            self._keep,
        )

    def _keep(self, row: Measurement) -> None:
        self._rows[row.sha256] = row

    def _report_progress(self, done: int, planned: int, text: str) -> None:
        self._visits = done, planned
        self._shared.report(self.name, done, planned, text)

    def _report_loss(self) -> None:
        _LOG.warning("%s is lost: %s", self.name, self._lost)
        done, planned = self._visits
        try:
            self._shared.report(self.name, done, max(planned, 1), "lost")
        except _Stopped:
            return
