"""What a phone is doing at the moment; tests change it while the phone runs."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field


@dataclass
class PhoneState:
    """Everything a phone tells of its condition; change any field at any time.

    Attributes:
        battery_status: 2 charging, 3 discharging, 4 not charging, 5 full.
        powered_by: of ``AC``, ``USB``, ``Wireless``, ``Dock``.
        temperatures_c: by sensor name; sensors that the phone has keep their kind.
        thermal_status: the overall one, 0 (none) to 6 (shutdown).
        sensor_status: of single sensors, where it differs from 0.
        frequencies_khz: by core; cores not named run at their cluster's maximum.
        governor: None: the phone's own.
        foreign_load: cores kept busy by anything but benchmark runs.
        load: the one-minute load average that is told.
        clock_offset_s: the phone's clock against the host's.
        slowdown: how many times longer a model runs (a throttled phone).
    """

    battery_level: int = 87
    battery_status: int = 2
    powered_by: tuple[str, ...] = ("USB",)
    battery_temperature_c: float = 27.4
    temperatures_c: dict[str, float] = field(default_factory=dict)
    thermal_status: int = 0
    sensor_status: dict[str, int] = field(default_factory=dict)
    frequencies_khz: dict[int, int] = field(default_factory=dict)
    governor: str | None = None
    power_save: bool = False
    screen_on: bool = True
    foreign_load: float = 0.1
    load: float = 0.6
    clock_offset_s: float = 0.0
    slowdown: float = 1.0


class Uptime:
    """The phone's clocks: since when it runs, and how busy its cores were."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._lock = threading.Lock()
        self.restart(8_000.0)

    def restart(self, uptime_s: float = 20.0) -> None:
        """A new boot, ``uptime_s`` ago."""
        with self._lock:
            self.boot_id = str(uuid.uuid4())
            self._began = time.monotonic() - uptime_s
            self._busy_s = 0.04 * uptime_s * self._cores
            self._counted = time.monotonic()

    def jump(self, seconds: float) -> None:
        """Moves the uptime, as no sound phone does."""
        with self._lock:
            self._began -= seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def busy_seconds(self, load: float) -> float:
        """Seconds of work of all cores since boot; ``load`` cores since last asked."""
        with self._lock:
            now = time.monotonic()
            self._busy_s += min(load, self._cores) * (now - self._counted)
            self._counted = now
            return self._busy_s
