"""Several devices at once: one worker each; a lost one does not stop the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from android_bench.device import Device
from android_bench.errors import BenchError
from android_bench.measure import Progress, measure
from android_bench.records import DeviceInfo, Measurement, MeasureSettings, ModelFile
from android_bench.store import Store

Open = Callable[[str], Device]

STOP_S = 20.0
"""How long workers may take to put their device in order after Ctrl-C."""


@dataclass(frozen=True)
class DeviceRun:
    """What came of one device.

    Attributes:
        name: as it was asked for.
        info: what it is; None where it was never reached.
        measurements: one per model in their order; of a device that was lost, those
            that were finished before.
        lost: why it did not come to its end, one line; empty when it did.
    """

    name: str
    info: DeviceInfo | None
    measurements: tuple[Measurement, ...]
    lost: str = ""


def measure_many(
    names: Sequence[str],
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    store: str | Path,
    open_one: Open,
    fresh: bool = False,
    progress: Progress | None = None,
) -> list[DeviceRun]:
    """Measures the same models on several devices at the same time.

    Args:
        names: of the devices, each once.
        store: path or URL; every worker opens it for itself.
        open_one: name -> opened device.
        progress: called with visits done and planned of all devices together, and the
            device's name before the text. Calls come from several threads, one at a
            time.

    Returns:
        One ``DeviceRun`` per name, in their order.

    Raises:
        BenchError: the store cannot be opened.
        KeyboardInterrupt: Ctrl-C, after every worker was told to stop; what was
            finished is in the store.
    """
    Store(store).close()  # a store that cannot be used is one error, not one per device
    together = _Together(progress)
    workers = [
        _Worker(name, models, settings, store, open_one, fresh, together.of(name))
        for name in names
    ]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)  # a bound, so that Ctrl-C is heard
    except BaseException:
        together.stopped.set()
        for worker in workers:
            worker.join(STOP_S)
        raise
    return [worker.outcome() for worker in workers]


class _Stopped(Exception):
    """Ends a worker between two visits after Ctrl-C."""


class _Together:
    """One count of visits over all devices, and the word to stop."""

    def __init__(self, progress: Progress | None) -> None:
        self.stopped = threading.Event()
        self._progress = progress
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> Progress:
        def tell(done: int, planned: int, text: str) -> None:
            if self.stopped.is_set():
                raise _Stopped
            with self._lock:
                self._counts[name] = (done, planned)
                if self._progress is not None:
                    all_done, all_planned = map(
                        sum, zip(*self._counts.values(), strict=True)
                    )
                    self._progress(all_done, all_planned, f"{name}: {text}")

        return tell


class _Remembering(Store):
    """A store that also keeps what this worker adds, for a device that is lost."""

    def __init__(self, target: str | Path) -> None:
        super().__init__(target)
        self.added: list[Measurement] = []

    def put(self, measurement: Measurement) -> None:
        super().put(measurement)
        self.added.append(measurement)


class _Worker(threading.Thread):
    """Measures on one device."""

    def __init__(
        self,
        name: str,
        models: Sequence[ModelFile],
        settings: MeasureSettings,
        store: str | Path,
        open_one: Open,
        fresh: bool,
        progress: Progress,
    ) -> None:
        # A daemon: a device that hangs must not keep a stopped program alive.
        super().__init__(name=f"measuring {name}", daemon=True)
        self._models, self._settings, self._store = models, settings, store
        self._open_one, self._fresh, self._progress = open_one, fresh, progress
        self._run = DeviceRun(name, None, ())
        self._mistake: Exception | None = None

    def run(self) -> None:
        try:
            with _Remembering(self._store) as store:
                self._measure(store)
        except BenchError as error:
            self._run = replace(self._run, lost=str(error))
        except _Stopped:
            self._run = replace(self._run, lost="stopped")
        # Handed to the caller's thread by ``outcome``: a mistake of ours is no lost
        # device.
        except Exception as error:
            self._mistake = error

    def outcome(self) -> DeviceRun:
        if self._mistake is not None:
            raise self._mistake
        return self._run

    def _measure(self, store: _Remembering) -> None:
        try:
            with self._open_one(self._run.name) as device:
                self._run = replace(self._run, info=device.describe())
                rows = measure(
                    device,
                    self._models,
                    self._settings,
                    store,
                    self._fresh,
                    self._progress,
                )
                self._run = replace(self._run, measurements=tuple(rows))
        except (BenchError, _Stopped):
            self._run = replace(self._run, measurements=tuple(store.added))
            raise
