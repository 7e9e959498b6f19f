"""What a phone answers at rest, in the true formats, made from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CPU = "/sys/devices/system/cpu"


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind; ``part`` as the kernel prints it."""

    cores: int
    part: str
    min_khz: int
    max_khz: int


@dataclass(frozen=True)
class Sensor:
    """One line of ``dumpsys thermalservice``; ``kind`` is the service's number."""

    name: str
    kind: int
    idle_c: float


def cpuinfo(
    clusters: Sequence[Cluster], features: str, hardware: str | None, bits: int
) -> str:
    """``/proc/cpuinfo`` as a process of 64 or of 32 bits reads it."""
    head = "" if bits == 64 else "Processor\t: ARMv8 Processor rev 4 (v8l)\n"
    blocks = []
    parts = [cluster.part for cluster in clusters for _ in range(cluster.cores)]
    for number, part in enumerate(parts):
        name = "" if bits == 64 else "model name\t: ARMv8 Processor rev 4 (v8l)\n"
        blocks.append(
            f"processor\t: {number}\n{name}BogoMIPS\t: 38.40\nFeatures\t: {features}\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
            f"CPU part\t: {part}\nCPU revision\t: 0\n\n"
        )
    end = f"Hardware\t: {hardware}\n" if hardware else ""
    return head + "".join(blocks) + end


def cpu_files(clusters: Sequence[Cluster], governor: str) -> dict[str, str]:
    """Everything below /sys/devices/system/cpu."""
    count = sum(cluster.cores for cluster in clusters)
    files = {
        f"{CPU}/possible": f"0-{count - 1}\n",
        f"{CPU}/present": f"0-{count - 1}\n",
        f"{CPU}/online": f"0-{count - 1}\n",
        f"{CPU}/offline": "\n",
        f"{CPU}/kernel_max": "31\n",
    }
    first = 0
    for package, cluster in enumerate(clusters):
        numbers = range(first, first + cluster.cores)
        for number in numbers:
            core, folder = f"{CPU}/cpu{number}", f"{CPU}/cpu{number}/cpufreq"
            files |= {
                f"{core}/online": "1\n",
                f"{core}/topology/core_id": f"{number}\n",
                f"{core}/topology/physical_package_id": f"{package}\n",
                f"{folder}/cpuinfo_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/cpuinfo_max_freq": f"{cluster.max_khz}\n",
                f"{folder}/scaling_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/scaling_max_freq": f"{cluster.max_khz}\n",
                f"{folder}/scaling_cur_freq": f"{cluster.max_khz}\n",
                f"{folder}/scaling_governor": f"{governor}\n",
                f"{folder}/related_cpus": " ".join(map(str, numbers)) + "\n",
                f"{folder}/scaling_available_governors": f"{governor} \n",
            }
        first += cluster.cores
    return files


def version(kernel: str) -> dict[str, str]:
    return {"/proc/version": f"Linux version {kernel} (build@mess) #1 SMP PREEMPT\n"}


def battery(level: int, tenths_c: int, millivolts: int) -> str:
    """``dumpsys battery`` of a phone that charges from a computer."""
    return (
        "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n"
        "  Wireless powered: false\n  Max charging current: 500000\n"
        "  Max charging voltage: 5000000\n  Charge counter: 3105000\n  status: 2\n"
        f"  health: 2\n  present: true\n  level: {level}\n  scale: 100\n"
        f"  voltage: {millivolts}\n  temperature: {tenths_c}\n  technology: Li-ion\n"
    )


def thermal(sensors: Sequence[Sensor]) -> str:
    """``dumpsys thermalservice``; its cached block is stale, as on real phones."""
    cached, current = (
        "".join(
            f"\tTemperature{{mValue={round(s.idle_c + stale, 1)}, mType={s.kind},"
            f" mName={s.name}, mStatus=0}}\n"
            for s in sensors
        )
        for stale in (11.5, 0.0)
    )
    return (
        "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 2\n"
        "\tkilled: false\n\tbroadcasts count: -1\nThermalStatusListeners:\n"
        "\tcallbacks: 5\n\tkilled: false\n\tbroadcasts count: -1\nThermal Status: 0\n"
        f"Cached temperatures:\n{cached}HAL Ready: true\nHAL connection:\n"
        "\tThermalHAL AIDL 1  connected: yes\n"
        f"Current temperatures from HAL:\n{current}"
        "Current cooling devices from HAL:\n"
        "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
    )
