"""Fits latency models to ``.tflite`` files and a store of measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from android_bench.errors import BenchError
from android_bench.latency_model.choose import choose
from android_bench.latency_model.features import operators_of
from android_bench.latency_model.files import save
from android_bench.latency_model.model import (
    LEAST_MODELS,
    LatencyModel,
    Models,
    Prediction,
    fit,
)
from android_bench.records import MeasureSettings, ModelFile
from android_bench.store import Store

_PRIOR_THREADS = (1, 2, 4, 8)


def choose_files(
    files: Mapping[str, Path], count: int, measured: Collection[str] = ()
) -> list[str]:
    """Names of ``count`` files that tell most about the others; see ``choose``.

    Raises:
        BenchError: as ``choose``; or with them and the measured ones there are too few
            to predict from.
    """
    if count + len(measured) < LEAST_MODELS:
        raise BenchError(
            f"{count + len(measured)} models are too few to predict {len(files)} from;"
            f" measure at least {LEAST_MODELS}, or all of them."
        )
    return choose(_models(files), count, measured)


def predict_files(
    files: Mapping[str, Path],
    store: Store,
    fingerprint: str,
    settings: MeasureSettings,
    keep: Path | None = None,
) -> tuple[dict[str, Prediction], LatencyModel]:
    """Predicts those of the files that are not measured, from those that are.

    Args:
        keep: file for what was learnt (``android_bench.latency_model.files``).

    Returns:
        Latencies by name, without the measured ones; and what was learnt.

    Raises:
        BenchError: as ``learn``; a file has operators that no measured one has; or
            ``keep`` cannot be written.
    """
    model = learn(files, store, fingerprint, settings)
    if keep is not None:
        save(model, keep)
    models = _models({n: path for n, path in files.items() if n not in model.models})
    return model.predict(models), model


def learn(
    files: Mapping[str, Path],
    store: Store,
    fingerprint: str,
    settings: MeasureSettings,
) -> LatencyModel:
    """Learns from those files that are measured on a device with these settings.

    The same files' measurements on another device of the store, or with another number
    of threads, become the prior where that lowers the cross-validated error.

    Raises:
        BenchError: too few of them are measured, or a file cannot be read.
    """
    models = _models(files)
    digests = {name: ModelFile.read(path).sha256 for name, path in files.items()}

    def measured_ms(device: str, wanted: MeasureSettings) -> dict[str, float]:
        found = store.latencies_ms(device, wanted, list(digests.values()))
        return {n: found[sha256] for n, sha256 in digests.items() if sha256 in found}

    latency_ms = measured_ms(fingerprint, settings)
    measured = _only(models, latency_ms)
    about = {"fingerprint": fingerprint, "settings": settings.key}
    best = fit(measured, latency_ms, about=about)
    for device, other in _elsewhere(store, fingerprint, settings):
        elsewhere_ms = measured_ms(device, other)
        if len(elsewhere_ms) < LEAST_MODELS:
            continue
        there = {"fingerprint": device, "settings": other.key}
        prior = fit(_only(models, elsewhere_ms), elsewhere_ms, about=there)
        if not prior.kinds >= best.kinds:
            continue
        transferred = fit(measured, latency_ms, prior, about)
        if _size(transferred) < _size(best):
            best = transferred
    return best


def _models(files: Mapping[str, Path]) -> Models:
    return {name: operators_of(path) for name, path in files.items()}


def _only(models: Models, names: Collection[str]) -> Models:
    return {name: used for name, used in models.items() if name in names}


def _elsewhere(
    store: Store, fingerprint: str, settings: MeasureSettings
) -> Iterator[tuple[str, MeasureSettings]]:
    for device in store.devices():
        for threads in _PRIOR_THREADS:
            other = dataclasses.replace(settings, threads=threads)
            if (device.fingerprint, other) != (fingerprint, settings):
                yield device.fingerprint, other


def _size(model: LatencyModel) -> float:
    """Root mean square of the held-out errors, on a logarithmic scale."""
    logs = [math.log1p(error) for error in model.errors.values()]
    return float(np.sqrt(np.mean(np.square(logs))))
