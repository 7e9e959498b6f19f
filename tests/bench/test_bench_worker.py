"""The worker's parts, and what the host tells of itself, on recorded trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from android_bench.host import worker
from android_bench.host.state import (
    describe_host,
    frequencies_khz,
    host_conditions,
    temperature_c,
)


class Clock:
    """Each run takes ``run_ns``; looking at the clock takes nothing."""

    def __init__(self, run_ns: int) -> None:
        self.now, self.run_ns, self.invoked = 0, run_ns, 0

    def perf_counter_ns(self) -> int:
        return self.now

    def invoke(self) -> None:
        self.now += self.run_ns
        self.invoked += 1


@pytest.mark.parametrize(
    ("run_ms", "warm", "timed"),
    [
        (1, 30, 150),  # seconds decide
        (100, 3, 10),  # counts decide
        (4000, 3, 3),  # the time limit decides: 12 s > 10 s
        (60000, 1, 1),  # even one run is too long
    ],
)
def test_runs_stop_at_both_minima_or_at_the_limit(
    monkeypatch: pytest.MonkeyPatch, run_ms: int, warm: int, timed: int
) -> None:
    clock = Clock(run_ms * 10**6)
    monkeypatch.setattr(worker, "time", clock)
    samples = worker.take_samples(
        clock.invoke,
        {
            "warmup_runs": 3,
            "warmup_seconds": 0.03,
            "runs": 10,
            "min_seconds": 0.15,
            "max_seconds": 10.0,
        },
    )
    assert samples == [run_ms * 10**6] * timed
    assert clock.invoked == warm + timed


def test_thinning_keeps_both_ends_and_the_distribution() -> None:
    samples = list(range(100_000))
    thin = worker.thin_out(samples)
    assert len(thin) == worker.MAX_SAMPLES
    assert (thin[0], thin[-1]) == (0, 99_999)
    assert np.percentile(thin, 90) == pytest.approx(90_000, rel=1e-3)
    assert worker.thin_out([3, 1, 2]) == [3, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("float32", -1, 1),
        ("float16", -1, 1),
        ("int8", -128, 127),
        ("uint8", 0, 255),
        ("int32", 0, 1),
        ("bool", 0, 1),
    ],
)
def test_random_inputs_fill_the_range_and_follow_the_seed(
    dtype: str, low: float, high: float
) -> None:
    arrays = [
        worker.random_array((50, 100), np.dtype(dtype), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    first = arrays[0].astype(np.float64)
    assert arrays[0].dtype == dtype
    assert low <= first.min() <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= first.max() <= high
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert (arrays[0] != arrays[2]).any()


def test_no_random_text() -> None:
    with pytest.raises(worker.InputError, match="S5"):
        worker.random_array((1,), np.dtype("S5"), np.random.default_rng(0))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_conditions_of_a_laptop(tmp_path: Path) -> None:
    cores = {
        f"devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq": f"{1000 + i}\n"
        for i in range(11)
    }
    root = write(
        tmp_path,
        {
            "class/thermal/thermal_zone0/temp": "-274000\n",
            "class/thermal/thermal_zone1/temp": "48500\n",
            "class/thermal/thermal_zone2/temp": "41000\n",
            "class/thermal/thermal_zone3/temp": "not a number\n",
            "class/power_supply/BAT0/capacity": "83\n",
            "class/power_supply/BAT0/status": "Discharging\n",
            "devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            **cores,
        },
    )
    conditions = host_conditions(root)
    assert conditions.temperature_c == 48.5
    assert conditions.battery_percent == 83
    assert conditions.charging is False
    assert conditions.governor == "powersave"
    assert conditions.frequencies_khz == tuple(range(1000, 1011))  # by number, not name


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    conditions = host_conditions(tmp_path)
    assert temperature_c(tmp_path) is None
    assert frequencies_khz(tmp_path) == ()
    assert conditions.battery_percent is conditions.charging is None
    assert conditions.governor is None and conditions.load is not None


def test_the_fingerprint_is_the_machines_make(tmp_path: Path) -> None:
    cpu = "processor\t: 0\nmodel name\t: Some CPU 9\n"
    meminfo = "MemTotal:       16777216 kB\n"
    one = write(tmp_path / "1", {"cpuinfo": cpu, "meminfo": meminfo})
    same = write(tmp_path / "2", {"cpuinfo": cpu + "processor\t: 1\n"})
    other = write(tmp_path / "3", {"cpuinfo": cpu.replace("9", "10")})
    info = describe_host(one)
    assert info.soc == "Some CPU 9"
    assert info.details == {"memory_gib": "16.0"}
    assert info.fingerprint == describe_host(same).fingerprint
    assert info.fingerprint != describe_host(other).fingerprint
