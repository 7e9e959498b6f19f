"""The measuring loop: interleaved rounds, one repetition, every row stored at once.

Separate runs of one model differ by far more than its samples do (frequency, caches,
neighbours), so a model is visited in several rounds with other models in between, in
an order shuffled anew for each round, and the rounds' disagreement is reported with the
figure.

Models are taken in blocks: all rounds of a block are interleaved, and each model is
committed as soon as its last round is in. One block of everything would spread a
model's rounds wider in time, but a kill would then lose all of it; single models would
lose nothing but see no interleaving. A block of 24 takes half a minute with the quick
preset: long enough for slow drift to show in a model's spread, and all a kill can lose.

Where the difference of two models matters (``ModelFile.group``), drift must not come
between them: a group shares a block, and if the rounds of one disagree, all of it is
measured again and the steadier set is taken for all. Rounds of equal position then
belong together, and may be compared one by one.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from android_bench.device import Device, ModelInputs
from android_bench.errors import BenchError
from android_bench.records import (
    CAPPED,
    DISTURBED,
    FEW_RUNS,
    LOW_BATTERY,
    MEAN_ONLY,
    POWER_SAVE,
    REBOOTED,
    SCREEN_OFF,
    THROTTLED,
    UNSTABLE,
    Failure,
    InferenceRun,
    Measurement,
    MeasureSettings,
    ModelFile,
    Round,
    spread_of,
)
from android_bench.store import Store

Progress = Callable[[int, int, str], None]
"""Called with (visits done, visits planned, what is done now); a visit is one round of
one model. The plan grows when models are measured again."""

Finished = tuple[ModelFile, tuple[Round, ...] | Failure]

FOREIGN_LOAD = 0.25
"""Cores of other work from which a measurement counts as disturbed."""

COOLDOWN_STEP_S = 5.0


def measure(
    device: Device,
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    store: Store,
    fresh: bool = False,
    progress: Progress | None = None,
    finished: Callable[[Measurement], None] | None = None,
) -> list[Measurement]:
    """Measures what the store does not hold yet, and commits each model when finished.

    Failures are rows, not measurements: what failed before is tried again. Ctrl-C (or a
    device that is lost) passes through; what was finished is in the store, and the same
    call goes on from there.

    Args:
        fresh: measure again what is stored, too.
        finished: called with each row as soon as it is in the store, those first that
            were there before.

    Returns:
        One measurement per model, in the order given; equal files share theirs.

    Raises:
        BenchError: the device is lost or refuses, or the store cannot be written.
    """
    info, tool = device.describe(), device.tool()
    store.put_device(info)
    unique = {model.sha256: model for model in models}
    done: dict[str, Measurement] = {}
    if not fresh:
        done = store.latest(info.fingerprint, settings, list(unique), tool)
    keep = finished or (lambda row: None)
    incomplete = {m.group for m in unique.values() if m.sha256 not in done} - {""}
    todo = [
        model
        for sha256, model in unique.items()
        if sha256 not in done or model.group in incomplete
    ]
    for model in todo:
        done.pop(model.sha256, None)
    for row in done.values():
        keep(row)
    visits = _VisitCounter(len(todo) * settings.rounds, progress)
    rng = np.random.default_rng(settings.seed)
    for block in _blocks(_shuffled(todo, rng), settings.block_models):
        for model, rounds, set_aside in _measure_block(
            device, block, settings, rng, visits
        ):
            failed = isinstance(rounds, Failure)
            row = Measurement(
                name=model.name,
                sha256=model.sha256,
                fingerprint=info.fingerprint,
                settings_key=settings.key,
                tool_key=tool.key,
                rounds=() if isinstance(rounds, Failure) else rounds,
                set_aside=set_aside,
                flags=() if isinstance(rounds, Failure) else flags_of(rounds, settings),
                failure=rounds if isinstance(rounds, Failure) else None,
                time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
            store.put(row)
            done[model.sha256] = row
            keep(row)
            visits.report(
                f"{model.name} {'failed' if failed else f'{row.p50_ms:.3g} ms'}"
            )
    return [dataclasses.replace(done[m.sha256], name=m.name) for m in models]


def flags_of(rounds: tuple[Round, ...], settings: MeasureSettings) -> tuple[str, ...]:
    """Doubts about a finished set of rounds; see ``Measurement.flags``."""
    foreign = [
        r.conditions.foreign_load
        for r in rounds
        if r.conditions.foreign_load is not None
    ]
    doubts = {
        UNSTABLE: spread_of(rounds) > settings.max_spread,
        THROTTLED: any(r.conditions.throttled for r in rounds),
        DISTURBED: bool(foreign) and float(np.median(foreign)) > FOREIGN_LOAD,
        FEW_RUNS: any(0 < r.runs < settings.runs_per_round for r in rounds),
        MEAN_ONLY: any(r.summary and r.summary.median_us is None for r in rounds),
        **{
            flag: any(r.conditions.other.get(flag) == "yes" for r in rounds)
            for flag in (POWER_SAVE, LOW_BATTERY, SCREEN_OFF, CAPPED)
        },
        REBOOTED: len({r.conditions.other.get("boot") for r in rounds}) > 1,
    }
    return tuple(flag for flag, doubtful in doubts.items() if doubtful)


def run_inference(
    device: Device,
    model: ModelFile,
    inputs: Iterable[ModelInputs],
    settings: MeasureSettings | None = None,
) -> InferenceRun:
    """Runs a model over real inputs and returns every output.

    Args:
        inputs: per item, the model's input arrays in the model's order or by name;
            type and shape must be the model's. ``device.infer`` streams where the
            outputs are too large for memory.
        settings: threads, warm-up and timeout; the quick preset by default.

    Raises:
        BenchError: there are no inputs, or the model cannot be opened, fed or run.
    """
    settings = settings or MeasureSettings()
    results = list(device.infer(model, inputs, settings))
    if not results:
        raise BenchError(f"No inputs were given for {model.path}; give at least one.")
    return InferenceRun(
        latencies_us=np.array([latency for latency, _ in results]),
        outputs=tuple(outputs for _, outputs in results),
    )


class _VisitCounter:
    """Counts visits for whoever watches.

    Attributes:
        longest_wait_s: the longest wait for a cooler device.
    """

    def __init__(self, planned: int, progress: Progress | None) -> None:
        self.done, self.planned, self._progress = 0, planned, progress
        self.longest_wait_s = math.inf

    def step(self, text: str) -> None:
        self.done += 1
        self.report(text)

    def report(self, text: str) -> None:
        if self._progress is not None:
            self._progress(self.done, self.planned, text)


def _shuffled(models: Sequence[ModelFile], rng: np.random.Generator) -> list[ModelFile]:
    return [models[i] for i in rng.permutation(len(models))]


def _blocks(models: Sequence[ModelFile], most: int) -> list[list[ModelFile]]:
    """Blocks of nearly equal size: a last block of one would not be interleaved.

    A group is never divided, though its block may become larger than ``most``.
    """
    groups: dict[str, list[ModelFile]] = {}
    alone: list[list[ModelFile]] = []
    for model in models:
        if model.group:
            groups.setdefault(model.group, []).append(model)
        else:
            alone.append([model])
    blocks: list[list[ModelFile]] = [[]]
    left = len(models)  # of this block and those after it
    for unit in [*groups.values(), *alone]:
        fair = left / math.ceil(left / most)
        if blocks[-1] and len(blocks[-1]) + len(unit) > fair:
            left -= len(blocks[-1])
            blocks.append([])
        blocks[-1] += unit
    return [block for block in blocks if block]


def _measure_block(
    device: Device,
    block: Sequence[ModelFile],
    settings: MeasureSettings,
    rng: np.random.Generator,
    visits: _VisitCounter,
) -> Iterator[tuple[ModelFile, tuple[Round, ...] | Failure, tuple[Round, ...]]]:
    """Yields (model, its rounds or failure, rounds set aside) as models finish."""
    first: dict[ModelFile, tuple[Round, ...]] = {}
    for model, rounds in _all_rounds(device, block, settings, rng, visits):
        if isinstance(rounds, Failure):
            yield model, rounds, ()
        elif not model.group and spread_of(rounds) <= settings.max_spread:
            yield model, rounds, ()
        else:
            first[model] = rounds
    doubtful = {m.group for m, r in first.items() if spread_of(r) > settings.max_spread}
    again = [model for model in first if model.group in doubtful]
    for model, rounds in first.items():
        if model not in again:
            yield model, rounds, ()
    visits.planned += len(again) * settings.rounds
    second: dict[ModelFile, tuple[Round, ...]] = {}
    for model, rounds in _all_rounds(device, again, settings, rng, visits):
        if isinstance(rounds, Failure):
            yield model, rounds, first.pop(model)
        elif model.group:
            second[model] = rounds
        else:
            yield model, *_steadier([rounds], [first[model]])[0]
    for group in {model.group for model in second}:
        members = [model for model in second if model.group == group]
        chosen = _steadier([second[m] for m in members], [first[m] for m in members])
        for model, (rounds, set_aside) in zip(members, chosen, strict=True):
            yield model, rounds, set_aside


def _steadier(
    one: Sequence[tuple[Round, ...]], other: Sequence[tuple[Round, ...]]
) -> list[tuple[tuple[Round, ...], tuple[Round, ...]]]:
    """Per model (rounds taken, rounds set aside); the same set for all models.

    Chosen by steadiness, never by speed: a choice by speed would be a bias.
    """
    spreads = [sum(map(spread_of, rounds)) for rounds in (one, other)]
    if spreads[0] <= spreads[1]:
        return list(zip(one, other, strict=True))
    return list(zip(other, one, strict=True))


def _all_rounds(
    device: Device,
    models: Sequence[ModelFile],
    settings: MeasureSettings,
    rng: np.random.Generator,
    visits: _VisitCounter,
) -> Iterator[Finished]:
    """Interleaves all rounds of some models; yields each model once, when finished."""
    rounds: dict[str, list[Round]] = {model.sha256: [] for model in models}
    alive = list(models)
    for number in range(settings.rounds):
        if not alive:
            return
        _cool_down(device, settings, visits)
        silent = {model.sha256: model for model in alive}
        for model, outcome in device.benchmark(_shuffled(alive, rng), settings):
            del silent[model.sha256]
            visits.step(model.name)
            if isinstance(outcome, Failure):
                visits.planned -= settings.rounds - number - 1
                alive.remove(model)
                yield model, outcome
                continue
            rounds[model.sha256].append(outcome)
            if number == settings.rounds - 1:
                yield model, tuple(rounds[model.sha256])
        for model in silent.values():
            visits.planned -= settings.rounds - number
            alive.remove(model)
            yield model, Failure("run", "the device gave no answer for this model")


def _cool_down(
    device: Device, settings: MeasureSettings, visits: _VisitCounter
) -> None:
    """Waits while the device is throttled, at most ``settings.cooldown_s``.

    A device that is as hot after a whole wait as before will not be cooler next time:
    each wait in vain halves the next, so that a run ends in any case.
    """
    waited_s, longest_s = 0.0, min(settings.cooldown_s, visits.longest_wait_s)
    while device.state().throttled:
        if waited_s >= longest_s:
            visits.longest_wait_s = longest_s / 2
            return
        step_s = min(COOLDOWN_STEP_S, longest_s - waited_s)
        visits.report(f"cooling down, {longest_s - waited_s:.0f} s at most")
        time.sleep(step_s)
        waited_s += step_s
    visits.longest_wait_s = settings.cooldown_s
