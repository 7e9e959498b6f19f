"""What a phone is doing at the moment; tests change it while the phone runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class PhoneState:
    """What a phone tells of its condition; change any field at any time.

    None, and what a dict does not name, is as the phone tells it at rest.

    Attributes:
        battery_level: percent.
        battery_status: 2 charging, 3 discharging, 4 not charging, 5 full.
        powered_by: of ``AC``, ``USB``, ``Wireless``, ``Dock``.
        thermal_status: the overall one, 0 (none) to 6 (shutdown).
        temperatures_c: by sensor of ``dumpsys thermalservice``.
        sensor_status: likewise, on the same scale as the overall one.
        frequencies_khz: current ones by core.
        caps_khz: highest ones allowed (``scaling_max_freq``) by core.
        foreign_load: cores kept busy by anything but benchmark runs.
        load: the one-minute load average.
        clock_offset_s: the phone's clock against the host's.
        slowdown: how many times longer a model runs.
        evolve: called before the phone answers anything, to change the rest.
    """

    battery_level: int | None = None
    battery_status: int | None = None
    battery_temperature_c: float | None = None
    powered_by: tuple[str, ...] | None = None
    thermal_status: int | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    sensor_status: dict[str, int] = field(default_factory=dict)
    frequencies_khz: dict[int, int] = field(default_factory=dict)
    caps_khz: dict[int, int] = field(default_factory=dict)
    governor: str | None = None
    power_save: bool = False
    screen_on: bool = True
    foreign_load: float = 0.1
    load: float = 0.6
    clock_offset_s: float = 0.0
    slowdown: float = 1.0
    evolve: Callable[[PhoneState], None] | None = None


class Uptime:
    """Since when the phone runs, and how long its cores were busy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.restart(8_000.0)

    def restart(self, uptime_s: float = 20.0) -> None:
        """A new boot, ``uptime_s`` ago."""
        with self._lock:
            self.boot_id = str(uuid.uuid4())
            self._began = time.monotonic() - uptime_s
            self._busy_s = 0.2 * uptime_s
            self._counted = time.monotonic()

    def jump(self, seconds: float) -> None:
        """Moves the uptime, as no sound phone does."""
        with self._lock:
            self._began -= seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def busy_seconds(self, foreign_load: float, run_s: float) -> float:
        """Seconds of work of all cores since boot.

        Args:
            foreign_load: cores that others kept busy since this was last asked.
            run_s: processor seconds that benchmark runs took since this was last asked.
        """
        with self._lock:
            now = time.monotonic()
            self._busy_s += foreign_load * (now - self._counted) + run_s
            self._counted = now
            return self._busy_s


class Heating:
    """Makes a phone warm while it works and cool while it rests: ``state.evolve``.

    Above ``limit_c`` the phone throttles: it says so, allows its cores half of their
    speed and runs models twice as long, until it is ``hysteresis_c`` below.

    Args:
        works: whether something runs now.
        sensor: the skin's, by its name in ``dumpsys thermalservice``.
        max_khz: by core.
        clock_s: whose time passes.
    """

    def __init__(
        self,
        works: Callable[[], bool],
        sensor: str,
        max_khz: dict[int, int],
        *,
        idle_c: float = 30.0,
        limit_c: float = 40.0,
        rise_c_per_s: float = 5.0,
        fall_c_per_s: float = 5.0,
        hysteresis_c: float = 2.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._works, self._sensor, self._max_khz = works, sensor, max_khz
        self._idle_c, self._limit_c = idle_c, limit_c
        self._rise, self._fall = rise_c_per_s, fall_c_per_s
        self._hysteresis_c = hysteresis_c
        self._clock_s = clock_s
        self._now_c, self._asked, self._hot = idle_c, clock_s(), False

    def __call__(self, state: PhoneState) -> None:
        now = self._clock_s()
        passed, self._asked = now - self._asked, now
        if self._works():
            self._now_c += self._rise * passed
        else:
            self._now_c = max(self._idle_c, self._now_c - self._fall * passed)
        edge = self._limit_c - (self._hysteresis_c if self._hot else 0.0)
        self._hot = self._now_c > edge
        state.temperatures_c[self._sensor] = round(self._now_c, 1)
        state.sensor_status[self._sensor] = 3 if self._hot else 0
        state.thermal_status = 3 if self._hot else 0
        state.slowdown = 2.0 if self._hot else 1.0
        state.caps_khz = {
            core: khz // 2 if self._hot else khz for core, khz in self._max_khz.items()
        }
