"""Which phone the double is: what never changes while it runs, and its rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.phone_double.phones.parts import (
    CPU,
    Cluster,
    Sensor,
    battery,
    cpu_files,
    cpuinfo,
    thermal,
    version,
)

NEW_FEATURES = (
    "shell_v2",
    "cmd",
    "stat_v2",
    "ls_v2",
    "fixed_push_mkdir",
    "apex",
    "abb",
    "fixed_push_symlink_timestamp",
    "abb_exec",
    "remount_shell",
    "track_app",
    "sendrecv_v2",
)


@dataclass(frozen=True)
class Phone:
    """A kind of phone; its answers are those at rest, which the state changes.

    Attributes:
        files: contents by path, of /proc and /sys.
        battery, thermal: what ``dumpsys battery`` and ``dumpsys thermalservice`` print;
            "": there is no such service.
        features: what its adbd announces.
        refused: files that a shell user may not read.
        absent: programs that this phone's system lacks.
        shell_is_terminal: commands without shell v2 run on a terminal (before Android
            7): their lines end with a carriage return.
        delegates: what becomes of ``gpu`` and ``nnapi``: ``full``, ``partial``,
            ``none`` (applied, but the graph stays on the CPU), ``refused`` (the tool
            fails) or ``missing`` (it warns and goes on with the CPU).
        accelerators: those that NNAPI names.
    """

    name: str
    properties: Mapping[str, str]
    files: Mapping[str, str]
    battery: str
    thermal: str = ""
    features: tuple[str, ...] = NEW_FEATURES
    kernel: str = "5.15.123-android13-8"
    machine: str = "aarch64"
    gpu: str = "Imaginary, Pixel Mill G9, OpenGL ES 3.2 build 7"
    memory_kb: int = 7_654_321
    refused: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    shell_is_terminal: bool = False
    delegates: Mapping[str, str] = field(
        default_factory=lambda: {"gpu": "full", "nnapi": "refused"}
    )
    accelerators: tuple[str, ...] = ("nnapi-reference",)

    @property
    def cores(self) -> int:
        present = self.files.get(f"{CPU}/present", "").strip()
        if match := re.fullmatch(r"0-(\d+)", present):
            return int(match[1]) + 1
        return max(1, self.files.get("/proc/cpuinfo", "").count("processor\t:"))

    @property
    def sdk(self) -> int:
        return int(self.properties.get("ro.build.version.sdk", "30"))

    @property
    def abis(self) -> tuple[str, ...]:
        """Program formats that it runs, the preferred one first."""
        told = self.properties.get("ro.product.cpu.abilist")
        return tuple((told or self.properties["ro.product.cpu.abi"]).split(","))

    @property
    def max_khz(self) -> dict[int, int]:
        """By core, as far as its files tell."""
        paths = {n: f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq" for n in range(self.cores)}
        return {n: int(self.files[p]) for n, p in paths.items() if p in self.files}

    @property
    def banner(self) -> bytes:
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        told = "".join(f"{n}={self.properties.get(n, '')};" for n in names)
        features = ",".join(self.features)
        return f"device::{told}features={features}".encode()


_BIG_LITTLE_CLUSTERS = (
    Cluster(4, "0xd05", 300_000, 1_804_000),
    Cluster(3, "0xd41", 500_000, 2_348_000),
    Cluster(1, "0xd44", 500_000, 2_850_000),
)

BIG_LITTLE = Phone(
    name="big-little",
    properties={
        "dalvik.vm.isa.arm64.variant": "cortex-a55",
        "ro.board.platform": "doublet",
        "ro.boot.hardware": "doublet",
        "ro.build.fingerprint": "Mess/doublet/doublet:14/DBL1.240101.001/1:user/keys",
        "ro.build.id": "DBL1.240101.001",
        "ro.build.type": "user",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.build.version.security_patch": "2024-01-05",
        "ro.hardware": "doublet",
        "ro.hardware.egl": "imaginary",
        "ro.opengles.version": "196610",
        "ro.product.brand": "Mess",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.product.cpu.abilist32": "armeabi-v7a,armeabi",
        "ro.product.cpu.abilist64": "arm64-v8a",
        "ro.product.device": "doublet",
        "ro.product.manufacturer": "Mess",
        "ro.product.model": "Doublet 8",
        "ro.product.name": "doublet",
        "ro.serialno": "MESS0DOUBLE1",
        "ro.soc.manufacturer": "Mess",
        "ro.soc.model": "MS8400",
        "sys.boot_completed": "1",
    },
    files={
        "/proc/cpuinfo": cpuinfo(
            _BIG_LITTLE_CLUSTERS, "fp asimd aes crc32 atomics asimddp", None, 64
        ),
        **cpu_files(_BIG_LITTLE_CLUSTERS, "schedutil"),
        **version("5.15.123-android13-8"),
        "/sys/class/thermal/thermal_zone0/type": "cpu-big-usr\n",
        "/sys/class/thermal/thermal_zone0/temp": "39500\n",
        "/sys/class/thermal/thermal_zone1/type": "soc\n",
        "/sys/class/thermal/thermal_zone1/temp": "87\n",
    },
    battery=battery(87, 274, 4231),
    thermal=thermal(
        (
            Sensor("cpu-little-usr", 0, 38.2),
            Sensor("cpu-mid-usr", 0, 38.7),
            Sensor("cpu-big-usr", 0, 39.5),
            Sensor("gpu-usr", 1, 37.1),
            Sensor("battery", 2, 27.4),
            Sensor("skin-therm", 3, 30.6),
            Sensor("usb-therm", 4, 28.9),
            Sensor("vbat", 6, 4.1),
        )
    ),
    refused=frozenset({"/sys/class/thermal/thermal_zone0/temp"}),
)

_OLD_CLUSTERS = (Cluster(4, "0xd03", 400_000, 1_209_600),)

# A 64-bit kernel with a 32-bit userland, as many cheap phones of 2016: `uname` promises
# what no program of the system can keep.
OLD = Phone(
    name="old",
    properties={
        "dalvik.vm.isa.arm.variant": "cortex-a53",
        "ro.board.platform": "mss410",
        "ro.build.fingerprint": "Mess/single/single:6.0.1/SGL1/7:user/keys",
        "ro.build.version.release": "6.0.1",
        "ro.build.version.sdk": "23",
        "ro.hardware": "mss",
        "ro.product.brand": "Mess",
        "ro.product.cpu.abi": "armeabi-v7a",
        "ro.product.cpu.abilist": "armeabi-v7a,armeabi",
        "ro.product.cpu.abilist32": "armeabi-v7a,armeabi",
        "ro.product.cpu.abilist64": "",
        "ro.product.device": "single",
        "ro.product.manufacturer": "Mess",
        "ro.product.model": "Single 4G",
        "ro.product.name": "single",
        "ro.serialno": "MESS0DOUBLE2",
    },
    files={
        "/proc/cpuinfo": cpuinfo(
            _OLD_CLUSTERS, "half thumb fastmult vfp edsp neon vfpv3 crc32", "MSS410", 32
        ),
        **cpu_files(_OLD_CLUSTERS, "interactive"),
        **version("3.10.49-g6c3fd1c"),
    },
    battery=battery(64, 301, 3987),
    # "cmd" alone: neither shell v2 nor the second forms of stat and list.
    features=("cmd",),
    kernel="3.10.49-g6c3fd1c",
    gpu="Imaginary, Pixel Mill 3, OpenGL ES 3.0 build 2",
    memory_kb=1_930_112,
    absent=frozenset("sha256sum timeout nproc seq mktemp readlink settings".split()),
    shell_is_terminal=True,
    delegates={"gpu": "refused", "nnapi": "missing"},
    accelerators=(),
)

PHONES: Mapping[str, Phone] = {phone.name: phone for phone in (BIG_LITTLE, OLD)}
