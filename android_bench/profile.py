"""Measures ``.tflite`` files on devices into a store: the core of `mess profile`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from android_bench.device import Device
from android_bench.devices import HOST, open_device, refuse_unused_tool, resolve_names
from android_bench.errors import BenchError
from android_bench.many import DeviceProgress, DeviceRun, measure_many
from android_bench.records import MeasureSettings, ModelFile


def profile(
    models: Sequence[Path] | Mapping[str, Path],
    devices: Sequence[str] = (HOST,),
    *,
    store: str | Path,
    settings: MeasureSettings | None = None,
    fresh: bool = False,
    benchmark_model: Path | None = None,
    progress: DeviceProgress | None = None,
    groups: Mapping[str, str] | None = None,
) -> list[DeviceRun]:
    """Measures models on devices; what the store holds already is not measured again.

    Args:
        models: files, or files by the name they get in tables.
        devices: names as for ``open_device``; ``all`` stands for every phone within
            reach. Several are measured at the same time.
        store: path of the SQLite file, or a database URL.
        settings: how each model is measured; the quick preset by default.
        fresh: measure again what is stored, too.
        benchmark_model: Google's tool for phones; None looks for it.
        progress: called with (device, visits done, visits planned, text).
        groups: by name in tables, the group (``ModelFile.group``) of models whose
            differences matter.

    Returns:
        One per device. Models that failed have a ``failure`` instead of figures. A
        device that was lost says so in ``lost``.

    Raises:
        BenchError: a file that cannot be read, a store that cannot be written, no phone
            for ``all``, a tool for phones without a phone; nothing was measured on any
            device.
    """
    files = [
        dataclasses.replace(file, group=(groups or {}).get(file.name, ""))
        for file in read_models(models)
    ]
    wanted = settings or MeasureSettings()
    names, unusable = resolve_names(devices)
    refuse_unused_tool(names, benchmark_model)

    def open_one(name: str) -> Device:
        return open_device(name, benchmark_model)

    runs = measure_many(names, files, wanted, store, open_one, fresh, progress)
    runs += [DeviceRun(name, None, (), reason) for name, reason in unusable.items()]
    if not any(run.measurements for run in runs):
        raise BenchError(_nothing_measured(runs))
    return runs


def _nothing_measured(runs: Sequence[DeviceRun]) -> str:
    if len(runs) == 1:
        return runs[0].lost
    reasons = "; ".join(f"{run.name}: {run.lost}" for run in runs if run.lost)
    return f"None of {len(runs)} devices could be measured. {reasons}"


def read_models(models: Sequence[Path] | Mapping[str, Path]) -> list[ModelFile]:
    """The files with digests and names that differ. Raises BenchError for none."""
    if not models:
        raise BenchError("No models were given; name at least one .tflite file.")
    if isinstance(models, Mapping):
        return [ModelFile.read(Path(path), name) for name, path in models.items()]
    paths = [Path(path) for path in models]
    stems = [path.stem for path in paths]
    # Two files of one name are distinguished by their paths.
    names = [
        s if stems.count(s) == 1 else str(p) for s, p in zip(stems, paths, strict=True)
    ]
    return [ModelFile.read(path, name) for path, name in zip(paths, names, strict=True)]
