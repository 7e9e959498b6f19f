"""One call from ``.tflite`` files to stored latencies: what `mess profile` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from android_bench.device import HOST, open_device
from android_bench.errors import BenchError
from android_bench.measure import Progress, measure
from android_bench.records import DeviceInfo, Measurement, MeasureSettings, ModelFile
from android_bench.store import Store


def profile(
    models: Sequence[Path] | Mapping[str, Path],
    device: str = HOST,
    *,
    store: str | Path,
    preset: str = "quick",
    threads: int = 1,
    fresh: bool = False,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measures models on a device; what the store holds already is not measured again.

    Args:
        models: files, or files by the name they get in tables.
        device: ``host``.
        store: path of the SQLite file, or a database URL.
        preset: ``quick`` or ``report``; see ``MeasureSettings.preset``.
        threads: CPU threads of the interpreter.
        fresh: measure again what is stored, too.
        progress: called with (visits done, visits planned, text).

    Returns:
        One measurement per model in the order given; those that failed have a
        ``failure`` instead of figures.

    Raises:
        BenchError: a file that cannot be read, an unknown device or preset, a device
            that is lost, a store that cannot be written.
    """
    files = _files(models)
    settings = MeasureSettings.preset(preset, threads)
    with Store(store) as opened, open_device(device) as reached:
        return measure(reached, files, settings, opened, fresh, progress)


def list_devices() -> list[DeviceInfo]:
    """Every device that can be reached now."""
    with open_device(HOST) as host:
        return [host.describe()]


def _files(models: Sequence[Path] | Mapping[str, Path]) -> list[ModelFile]:
    if not models:
        raise BenchError("No models were given; name at least one .tflite file.")
    if isinstance(models, Mapping):
        return [ModelFile.read(Path(path), name) for name, path in models.items()]
    paths = [Path(path) for path in models]
    stems = [path.stem for path in paths]
    # Two files of one name are told apart by their paths.
    names = [
        s if stems.count(s) == 1 else str(p) for s, p in zip(stems, paths, strict=True)
    ]
    return [ModelFile.read(path, name) for path, name in zip(paths, names, strict=True)]
