"""Per-operator profiles of models, in a pass apart from the latencies.

Profiling slows a model down, so nothing measured here is ever a latency. Rounds visit
every model in turn, as in ``android_bench.measure``; a model's operators are committed
when its last round is in.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from android_bench.device import Device
from android_bench.devices import HOST, open_device, refuse_unused_tool, resolve_names
from android_bench.errors import BenchError
from android_bench.many import DeviceProgress
from android_bench.measure import Progress
from android_bench.operator_records import OperatorProfile, OperatorTime, combined
from android_bench.profile import read_models
from android_bench.records import DeviceInfo, Failure, MeasureSettings, ModelFile
from android_bench.store import Store
from android_bench.store_errors import StoreError


@dataclasses.dataclass(frozen=True)
class OperatorRun:
    """Operator profiles of one device.

    Attributes:
        name: as it was asked for.
        info: what it is; None where it was never reached.
        profiles: one per model in their order; of a device that was lost, those that
            were finished.
        lost: why it did not come to its end, one line; empty when it did.
    """

    name: str
    info: DeviceInfo | None
    profiles: tuple[OperatorProfile, ...]
    lost: str = ""


def profile_operators(
    models: Sequence[Path] | Mapping[str, Path],
    devices: Sequence[str] = (HOST,),
    *,
    store: str | Path,
    settings: MeasureSettings | None = None,
    fresh: bool = False,
    benchmark_model: Path | None = None,
    progress: DeviceProgress | None = None,
) -> list[OperatorRun]:
    """Profiles the operators of models on devices, one device after the other.

    What the store holds already is not profiled again. The arguments are those of
    ``android_bench.profile.profile``.

    Returns:
        One per device.

    Raises:
        BenchError: a file that cannot be read, a store that cannot be written, no phone
            for ``all``, or no device could be profiled at all.
    """
    files = read_models(models)
    wanted = settings or MeasureSettings()
    names, unusable = resolve_names(devices)
    refuse_unused_tool(names, benchmark_model)
    runs = []
    with Store(store) as opened:
        for name in names:
            finished: list[OperatorProfile] = []
            info = None

            def show(done: int, planned: int, text: str, name: str = name) -> None:
                if progress is not None:
                    progress(name, done, planned, text)

            try:
                with open_device(name, benchmark_model) as device:
                    info = device.describe()
                    profile_on(device, files, wanted, opened, finished, fresh, show)
            except StoreError:
                raise
            except BenchError as error:
                runs.append(OperatorRun(name, info, tuple(finished), str(error)))
            else:
                newest = {row.sha256: row for row in finished}
                rows = tuple(
                    dataclasses.replace(newest[f.sha256], name=f.name) for f in files
                )
                runs.append(OperatorRun(name, info, rows))
    runs += [OperatorRun(name, None, (), why) for name, why in unusable.items()]
    if not any(run.profiles for run in runs):
        raise BenchError(
            "; ".join(
                run.lost if len(runs) == 1 else f"{run.name}: {run.lost}"
                for run in runs
            )
        )
    return runs


def profile_on(
    device: Device,
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    store: Store,
    finished: list[OperatorProfile],
    fresh: bool = False,
    progress: Progress | None = None,
) -> None:
    """Profiles models on an opened device and commits each when finished.

    Args:
        finished: takes each profile as soon as it is in the store, those first that
            were there before.

    Raises:
        BenchError: the device is lost or cannot profile, or the store cannot be
            written.
    """
    info, tool = device.describe(), device.tool()
    store.put_device(info)
    unique = {model.sha256: model for model in models}
    stored: dict[str, OperatorProfile] = {}
    if not fresh:
        stored = store.latest_operators(info.fingerprint, settings, list(unique), tool)
    finished.extend(stored.values())
    alive = [model for sha256, model in unique.items() if sha256 not in stored]
    taken: dict[str, list[tuple[OperatorTime, ...]]] = {m.sha256: [] for m in alive}
    done, planned = 0, len(alive) * settings.rounds
    for number in range(settings.rounds):
        last = number == settings.rounds - 1
        for model, outcome in device.profile_operators(list(alive), settings):
            done += 1
            result: tuple[OperatorTime, ...] | Failure | None = None
            if isinstance(outcome, Failure):
                alive.remove(model)
                planned -= settings.rounds - number - 1
                result = outcome
            else:
                taken[model.sha256].append(outcome)
                if last:
                    result = combined(taken[model.sha256])
            if result is not None:
                failed = isinstance(result, Failure)
                row = OperatorProfile(
                    name=model.name,
                    sha256=model.sha256,
                    fingerprint=info.fingerprint,
                    settings_key=settings.key,
                    tool_key=tool.key,
                    time=datetime.datetime.now(datetime.UTC).isoformat(
                        timespec="seconds"
                    ),
                    operators=() if isinstance(result, Failure) else result,
                    rounds=0 if failed else settings.rounds,
                    failure=result if isinstance(result, Failure) else None,
                )
                store.put_operators(row)
                finished.append(row)
            if progress is not None:
                progress(done, planned, model.name)
