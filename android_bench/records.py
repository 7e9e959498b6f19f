"""Records that devices, the measuring loop and the store exchange.

Frozen records of stdlib types (numpy only for outputs and statistics). Everything that
is stored survives a round trip through JSON (``mess_tf.core.json_files``). Raw samples
are stored; every figure is computed from them when it is asked for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.errors import BenchError
from mess_tf.core.files import sha256_of
from mess_tf.core.quantiles import quantile

SCHEMA = 1

UNSTABLE = "unstable"
THROTTLED = "throttled"
DISTURBED = "disturbed"
FEW_RUNS = "few_runs"
MEAN_ONLY = "mean_only"
POWER_SAVE = "power_save"
LOW_BATTERY = "low_battery"
SCREEN_OFF = "screen_off"
REBOOTED = "rebooted"
CAPPED = "capped"


@dataclass(frozen=True)
class ModelFile:
    """A ``.tflite`` file to measure; the digest, not the name, is its identity.

    Attributes:
        group: models of one group are compared with one another: their rounds share a
            block, and they are measured again together. Empty is none.
    """

    name: str
    path: Path
    sha256: str
    group: str = ""

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> ModelFile:
        """Digests the file. Raises BenchError when it cannot be read."""
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise BenchError(
                f"Model {path} cannot be read ({error.strerror}); give the path of a"
                " .tflite file."
            ) from error
        # File names may hold bytes that are no text; tables and terminals take text.
        text = (name or path.stem).encode("utf-8", "backslashreplace").decode()
        return cls(text, path, digest)


@dataclass(frozen=True)
class DeviceInfo:
    """A device's properties that change a latency.

    Attributes:
        kind: ``host``, later e.g. ``adb``.
        name: what the user types to reach it, e.g. ``host`` or a serial number.
        fingerprint: the same for devices whose figures may stand for each other (model,
            SoC, ABI, system version and build); part of every measurement's key.
        cores: number of CPU cores that can be used.
        details: anything more worth showing, as text.
    """

    kind: str
    name: str
    fingerprint: str
    model: str
    soc: str
    abi: str
    os_version: str
    cores: int
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tool:
    """The measuring program; another build of it may measure other figures."""

    name: str
    version: str
    sha256: str

    @property
    def key(self) -> str:
        return f"{self.name} {self.version} {self.sha256}"


@dataclass(frozen=True)
class Conditions:
    """A device's state at one moment; None is what it does not tell.

    Attributes:
        time: UTC, ISO 8601.
        throttled: the device slows itself down, or is about to: measuring waits.
        load: one-minute load average.
        foreign_load: CPU cores kept busy by anything but the measured model (stolen
            time included) while its samples were taken.
        frequencies_khz: current, one per core.
        other: anything more, as text.
    """

    time: str
    temperature_c: float | None = None
    throttled: bool | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    load: float | None = None
    foreign_load: float | None = None
    governor: str | None = None
    frequencies_khz: tuple[int, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureSettings:
    """How a model is measured.

    One round warms the model up, then takes samples until there are ``runs_per_round``
    of them *and* ``min_seconds_per_round`` have passed, or ``max_seconds_per_round``
    have passed, whichever comes first.

    Attributes:
        threads: CPU threads of the interpreter.
        delegate: ``cpu`` (XNNPACK where LiteRT chooses it); on phones also ``gpu``,
            ``nnapi`` and ``xnnpack-off``.
        affinity: cores of a phone to run on: ``auto`` (the fastest cluster, or as many
            clusters as give each thread a core), ``none`` (the phone decides), or a
            mask in hexadecimal digits like ``f0``.
        rounds: visits to the model; other models are measured between them.
        warmup_runs, warmup_seconds: both are reached before the first sample counts.
        max_spread: rounds that disagree by more than this part of their median are
            measured again once, then flagged ``unstable``.
        cooldown_s: longest wait before a round while the device is throttled.
        block_models: models whose rounds are interleaved before they are committed.
        timeout_s: a model that gives no answer for so long in one round has failed.
        seed: of the order of the rounds and of the random inputs.
        extra: further flags of a device's benchmark tool.
    """

    threads: int = 1
    delegate: str = "cpu"
    affinity: str = "auto"
    rounds: int = 5
    warmup_runs: int = 3
    warmup_seconds: float = 0.03
    runs_per_round: int = 10
    min_seconds_per_round: float = 0.15
    max_seconds_per_round: float = 10.0
    max_spread: float = 0.05
    cooldown_s: float = 60.0
    block_models: int = 24
    timeout_s: float = 120.0
    seed: int = 0
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("threads", "rounds", "runs_per_round", "block_models"):
            if getattr(self, name) < 1:
                raise BenchError(
                    f"Measuring setting {name} = {getattr(self, name)} is too small;"
                    " it must be at least 1."
                )
        for name in (
            "warmup_runs",
            "warmup_seconds",
            "min_seconds_per_round",
            "max_spread",
            "cooldown_s",
        ):
            if not getattr(self, name) >= 0:
                raise BenchError(
                    f"Measuring setting {name} = {getattr(self, name)} is negative;"
                    " it must be 0 or more."
                )
        if not self.max_seconds_per_round >= max(self.min_seconds_per_round, 1e-9):
            raise BenchError(
                "Measuring setting max_seconds_per_round ="
                f" {self.max_seconds_per_round} must be positive and not less than"
                f" min_seconds_per_round = {self.min_seconds_per_round}."
            )
        if not self.timeout_s > self.max_seconds_per_round:
            raise BenchError(
                f"Measuring setting timeout_s = {self.timeout_s} must be longer than"
                f" max_seconds_per_round = {self.max_seconds_per_round}."
            )

    @classmethod
    def preset(cls, name: str, threads: int = 1) -> MeasureSettings:
        """``quick``, ``report`` (MLPerf Mobile) or ``compare`` (paired comparisons).

        Raises:
            BenchError: the name is none of these.
        """
        if name not in PRESETS:
            raise BenchError(
                f"Preset {name!r} is unknown; accepted: {', '.join(PRESETS)}."
            )
        return dataclasses.replace(cls(**PRESETS[name]), threads=threads)

    @property
    def key(self) -> str:
        """Canonical text of what may change a figure; part of a measurement's key.

        How long to wait for an answer or for a cooler phone changes none.
        """
        data = dataclasses.asdict(self)
        del data["timeout_s"], data["cooldown_s"]
        if self.affinity == "auto":  # keys from before there was a choice
            del data["affinity"]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_key(cls, key: str) -> MeasureSettings:
        data = json.loads(key)
        # The waits are no part of the key: any timeout that is long enough will do.
        timeout_s = max(cls.timeout_s, 2 * data["max_seconds_per_round"])
        return cls(**{**data, "extra": tuple(data["extra"]), "timeout_s": timeout_s})


# quick: 1.1 s of samples per model on a machine that is not disturbed, so that 300
# pieces take minutes. report: at least 1024 runs and 60 s per model (MLPerf Mobile's
# single-stream rules), in small blocks because a block is what a kill can lose.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "report": {
        "warmup_runs": 10,
        "warmup_seconds": 0.5,
        "runs_per_round": 205,
        "min_seconds_per_round": 12.0,
        "max_seconds_per_round": 600.0,
        "cooldown_s": 300.0,
        "block_models": 4,
        "timeout_s": 1800.0,
    },
    "compare": {"rounds": 20, "min_seconds_per_round": 0.1},
}


@dataclass(frozen=True)
class Summary:
    """Statistics of a round's runs, from tools that print no samples.

    Attributes:
        count: runs.
        std_us: standard deviation, cut to whole microseconds by the tool.
        p5_us, median_us, p95_us: all three, or None from tools before 2023.
    """

    count: int
    min_us: float
    max_us: float
    mean_us: float
    std_us: float
    p5_us: float | None = None
    median_us: float | None = None
    p95_us: float | None = None

    def at_most_us(self, share: float) -> float:
        """A latency that at least ``share`` of the runs are proven not to exceed.

        The next percentile reported above ``share``, at most the largest run;
        without percentiles, Cantelli's inequality on mean and standard deviation.
        """
        reported = [(0.5, self.median_us), (0.95, self.p95_us), (1.0, self.max_us)]
        bounds = [us for part, us in reported if us is not None and share <= part]
        if self.p95_us is None and share < 1:
            # What the tool cut off the deviation is added again.
            deviations = (share / (1 - share)) ** 0.5
            bounds.append(self.mean_us + deviations * (self.std_us + 1))
        return min(bounds)


@dataclass(frozen=True)
class Round:
    """One visit to a model.

    Attributes:
        samples_us: latency of each run used, microseconds, in the order taken; with a
            ``summary``, one value: its median, or its mean where it tells no median.
        conditions: while they were taken.
        init_us: opening the model and preparing it, None where not reported.
        runs: runs made; more than the samples where a device thins them out.
        summary: the runs' statistics where the device's tool gives no samples.
    """

    samples_us: tuple[float, ...]
    conditions: Conditions
    init_us: float | None = None
    runs: int = 0
    summary: Summary | None = None

    @classmethod
    def of_summary(
        cls, summary: Summary, conditions: Conditions, init_us: float | None
    ) -> Round:
        """A round of a tool that prints statistics only."""
        typical = summary.median_us
        return cls(
            samples_us=(summary.mean_us if typical is None else typical,),
            conditions=conditions,
            init_us=init_us,
            runs=summary.count,
            summary=summary,
        )

    def __post_init__(self) -> None:
        if not self.samples_us or not all(
            0 < s < float("inf") for s in self.samples_us
        ):
            raise BenchError(
                "A round needs at least one sample, each a positive number of"
                f" microseconds; got {list(self.samples_us[:5])}."
            )

    @property
    def median_us(self) -> float:
        return float(np.median(self.samples_us))


@dataclass(frozen=True)
class Failure:
    """Why there is no figure.

    Attributes:
        stage: ``start`` (the measuring program), ``load``, ``input`` or ``run``; on
            phones also ``push`` (the model cannot be brought there), ``settings`` (the
            tool did something else than asked), ``delegate`` (it fell back to the CPU),
            ``log`` (no result can be read) or ``clock`` (the phone's clock jumped).
        message: one line.
        log_tail: the last lines the program said.
    """

    stage: str
    message: str
    log_tail: str = ""


def spread_of(rounds: tuple[Round, ...]) -> float:
    """(largest - smallest round median) / median of the round medians."""
    medians = [r.median_us for r in rounds]
    return (max(medians) - min(medians)) / float(np.median(medians))


@dataclass(frozen=True)
class Measurement:
    """One row: a model on a device with settings and a tool; figures or a failure.

    Attributes:
        rounds: what the figures are computed from; empty when failed.
        set_aside: the less steady set of rounds of a model that was measured twice.
        flags: doubts: ``unstable`` (rounds disagree), ``throttled``, ``disturbed``
            (other work on the CPU), ``few_runs`` (a round's time limit came first);
            of phones also ``mean_only`` (the tool tells no median), ``power_save``,
            ``low_battery``, ``screen_off``, ``capped`` (the phone holds its cores below
            their highest frequency) and ``rebooted`` (between two rounds).
        failure: why there is no figure, or None.
        time: when it was finished; UTC, ISO 8601.
    """

    name: str
    sha256: str
    fingerprint: str
    settings_key: str
    tool_key: str
    rounds: tuple[Round, ...]
    time: str
    set_aside: tuple[Round, ...] = ()
    flags: tuple[str, ...] = ()
    failure: Failure | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if bool(self.rounds) == self.failed:
            raise BenchError(
                f"The measurement of {self.name} must have either rounds or a failure."
            )

    @property
    def failed(self) -> bool:
        return self.failure is not None

    @property
    def _measured_rounds(self) -> tuple[Round, ...]:
        if self.failure is not None:
            raise BenchError(
                f"{self.name} has no latency: it failed at stage"
                f" {self.failure.stage!r} ({self.failure.message})."
            )
        return self.rounds

    @property
    def samples_ms(self) -> np.ndarray:
        """All samples, float64 array of shape (n_samples,). BenchError when failed.

        One per round where the rounds are summaries.
        """
        return np.concatenate([r.samples_us for r in self._measured_rounds]) / 1000.0

    @property
    def p50_ms(self) -> float:
        """Median of all samples; of the rounds' medians where they are summaries."""
        return float(np.median(self.samples_ms))

    @property
    def p90_ms(self) -> float:
        """The smallest sample that at least 90 % of the samples do not exceed.

        A summary tells no such sample. Then it is the largest of what 90 % of each
        round's runs are proven not to exceed (its 95th percentile as a rule, see
        ``Summary.at_most_us``): never less than the true one, often more.
        """
        summaries = [r.summary for r in self._measured_rounds if r.summary is not None]
        if summaries:
            return max(summary.at_most_us(0.9) for summary in summaries) / 1000
        return quantile(self.samples_ms, 0.9)

    @property
    def mean_ms(self) -> float:
        """Mean of all runs that were stored or summed up."""
        rounds = self._measured_rounds
        means = [
            float(np.mean(r.samples_us)) if r.summary is None else r.summary.mean_us
            for r in rounds
        ]
        counts = [
            len(r.samples_us) if r.summary is None else r.summary.count for r in rounds
        ]
        return float(np.average(means, weights=counts)) / 1000

    @property
    def spread(self) -> float:
        """Disagreement of the rounds as a part of their median; see ``spread_of``."""
        return spread_of(self._measured_rounds)


@dataclass(frozen=True, eq=False)
class InferenceRun:
    """A model over real inputs.

    Attributes:
        latencies_us: float64 array of shape (n_inputs,), the run alone (inputs are in
            place before, outputs are read after).
        outputs: per input, arrays by output name (the signature's name where the
            model has one, else the tensor's).
    """

    latencies_us: np.ndarray
    outputs: tuple[Mapping[str, np.ndarray], ...]
