"""What the phone says about itself, in the formats of real phones."""

from __future__ import annotations

import time
from collections.abc import Iterator

from phone_double.phones import Phone
from phone_double.state import PhoneState, Uptime

CPU = "/sys/devices/system/cpu"


def getprop(phone: Phone) -> str:
    return "".join(f"[{k}]: [{v}]\n" for k, v in sorted(phone.properties.items()))


def battery(state: PhoneState) -> str:
    """``dumpsys battery``."""
    sources = ("AC", "USB", "Wireless", "Dock")
    powered = "".join(
        f"  {name} powered: {str(name in state.powered_by).lower()}\n"
        for name in sources
    )
    return (
        "Current Battery Service state:\n"
        + powered
        + "  Max charging current: 500000\n"
        "  Max charging voltage: 5000000\n"
        "  Charge counter: 3105000\n"
        f"  status: {state.battery_status}\n"
        "  health: 2\n"
        "  present: true\n"
        f"  level: {state.battery_level}\n"
        "  scale: 100\n"
        "  voltage: 4231\n"
        f"  temperature: {round(10 * state.battery_temperature_c)}\n"
        "  technology: Li-ion\n"
    )


def thermal(phone: Phone, state: PhoneState) -> str:
    """``dumpsys thermalservice``; the cached block is stale, as on real phones."""
    cached = "".join(
        f"\tTemperature{{mValue={s.idle_c + 11.5:.1f}, mType={s.kind},"
        f" mName={s.name}, mStatus=0}}\n"
        for s in phone.sensors
    )
    current = "".join(
        f"\tTemperature{{mValue={state.temperatures_c.get(s.name, s.idle_c)},"
        f" mType={s.kind}, mName={s.name},"
        f" mStatus={state.sensor_status.get(s.name, 0)}}}\n"
        for s in phone.sensors
    )
    return (
        "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 2\n"
        "\tkilled: false\n\tbroadcasts count: -1\nThermalStatusListeners:\n"
        "\tcallbacks: 5\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {state.thermal_status}\nCached temperatures:\n{cached}"
        "HAL Ready: true\nHAL connection:\n\tThermalHAL AIDL 1  connected: yes\n"
        f"Current temperatures from HAL:\n{current}"
        "Current cooling devices from HAL:\n"
        "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
    )


def power(state: PhoneState) -> str:
    """``dumpsys power``, as far as the screen and power saving are told in it."""
    return (
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n"
        f"  mWakefulness={'Awake' if state.screen_on else 'Asleep'}\n"
        f"  mIsPowered={str(bool(state.powered_by)).lower()}\n"
        f"  mBatteryLevel={state.battery_level}\n"
        "  mBatterySaverController:\n"
        f"    mIsBatterySaverEnabled={str(state.power_save).lower()}\n"
        f"Display Power: state={'ON' if state.screen_on else 'OFF'}\n"
    )


def cpuinfo(phone: Phone) -> str:
    """``/proc/cpuinfo``."""
    blocks, number = [], 0
    for cluster in phone.clusters:
        for _ in range(cluster.cores):
            blocks.append(
                f"processor\t: {number}\nBogoMIPS\t: 38.40\n"
                f"Features\t: {phone.cpu_features}\n"
                f"CPU implementer\t: {cluster.implementer}\nCPU architecture: 8\n"
                f"CPU variant\t: 0x1\nCPU part\t: {cluster.part}\nCPU revision\t: 0\n\n"
            )
            number += 1
    end = f"Hardware\t: {phone.hardware}\n" if phone.hardware else ""
    return "".join(blocks) + end


def fixed_files(phone: Phone) -> dict[str, str]:
    """Contents of /proc and /sys that do not change."""
    last = phone.cores - 1
    files = {
        "/proc/cpuinfo": cpuinfo(phone),
        "/proc/version": f"Linux version {phone.kernel} (build@mess) #1 SMP PREEMPT\n",
        f"{CPU}/possible": f"0-{last}\n",
        f"{CPU}/present": f"0-{last}\n",
        f"{CPU}/online": f"0-{last}\n",
        f"{CPU}/offline": "\n",
        f"{CPU}/kernel_max": "31\n",
    }
    first = 0
    for cluster in phone.clusters:
        numbers = range(first, first + cluster.cores)
        for number in numbers:
            folder = f"{CPU}/cpu{number}/cpufreq"
            files |= {
                f"{folder}/cpuinfo_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/cpuinfo_max_freq": f"{cluster.max_khz}\n",
                f"{folder}/scaling_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/scaling_max_freq": f"{cluster.max_khz}\n",
                f"{folder}/related_cpus": " ".join(map(str, numbers)) + "\n",
                f"{folder}/scaling_available_governors": f"{phone.governor} \n",
                f"{CPU}/cpu{number}/online": "1\n",
            }
        first += cluster.cores
    return files | dict(phone.files)


def changing_files(
    phone: Phone, state: PhoneState, uptime: Uptime, tool_load: float
) -> Iterator[tuple[str, str]]:
    """Paths and contents of /proc and /sys at this moment."""
    busy = uptime.busy_seconds(state.foreign_load + tool_load)
    seconds = uptime.seconds
    idle = max(0.0, seconds * phone.cores - busy)
    yield "/proc/uptime", f"{seconds:.2f} {idle:.2f}\n"
    yield "/proc/loadavg", f"{state.load:.2f} {state.load:.2f} 0.41 1/903 21504\n"
    yield "/proc/stat", _stat(phone.cores, busy, idle, seconds, state.clock_offset_s)
    yield "/proc/meminfo", _meminfo(phone.memory_kb)
    yield "/proc/sys/kernel/random/boot_id", f"{uptime.boot_id}\n"
    for number, khz in enumerate(_maxima(phone)):
        folder = f"{CPU}/cpu{number}/cpufreq"
        if f"{folder}/scaling_cur_freq" not in phone.files or state.frequencies_khz:
            yield (
                f"{folder}/scaling_cur_freq",
                f"{state.frequencies_khz.get(number, khz)}\n",
            )
        if f"{folder}/scaling_governor" not in phone.files or state.governor:
            yield f"{folder}/scaling_governor", f"{state.governor or phone.governor}\n"
    for number, sensor in enumerate(phone.sensors):
        folder = f"/sys/class/thermal/thermal_zone{number}"
        value = state.temperatures_c.get(sensor.name, sensor.idle_c)
        yield f"{folder}/type", f"{sensor.name}\n"
        yield f"{folder}/temp", f"{round(1000 * value)}\n"
    yield "/sys/class/power_supply/battery/capacity", f"{state.battery_level}\n"


def _maxima(phone: Phone) -> list[int]:
    return [c.max_khz for c in phone.clusters for _ in range(c.cores)]


def _stat(cores: int, busy: float, idle: float, uptime: float, offset: float) -> str:
    def fields(share: int) -> str:
        user, system = round(80 * busy / share), round(20 * busy / share)
        return f"{user} 0 {system} {round(100 * idle / share)} 0 0 0 0 0 0"

    each = "".join(f"cpu{n} {fields(cores)}\n" for n in range(cores))
    boot = round(time.time() + offset - uptime)
    return (
        f"cpu  {fields(1)}\n{each}intr 1\nctxt 1\nbtime {boot}\nprocesses 21504\n"
        "procs_running 1\nprocs_blocked 0\n"
    )


def _meminfo(total_kb: int) -> str:
    return (
        f"MemTotal:       {total_kb} kB\nMemFree:        {total_kb // 12} kB\n"
        f"MemAvailable:   {total_kb // 2} kB\nBuffers:            5120 kB\n"
        f"Cached:         {total_kb // 3} kB\nSwapTotal:             0 kB\n"
    )
