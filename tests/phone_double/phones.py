"""Which phone the double is: what never changes while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class Cluster:
    """Cores of one kind; numbers as the kernel prints them."""

    cores: int
    part: str
    min_khz: int
    max_khz: int
    implementer: str = "0x41"


@dataclass(frozen=True)
class Sensor:
    """One line of ``dumpsys thermalservice``; ``kind`` is the service's number."""

    name: str
    kind: int
    idle_c: float


@dataclass(frozen=True)
class Phone:
    """A kind of phone.

    Attributes:
        features: what its adbd announces.
        clusters: of its CPU, in the order of core numbers.
        sensors: what thermalservice tells; empty: the phone has no such service.
        files: contents by path, for /proc and /sys; they replace the made ones.
        refused: files that a shell user may not read.
        absent: programs that this phone's system lacks.
        shell_is_terminal: ``shell:`` commands run on a terminal (before Android 7):
            lines end with a carriage return, and stderr is not told apart.
        delegates: by ``gpu`` and ``nnapi``: ``full``, ``partial``, ``none`` (the graph
            stays on the CPU although it was applied) or ``refused``.
    """

    name: str
    properties: Mapping[str, str]
    clusters: tuple[Cluster, ...]
    sensors: tuple[Sensor, ...] = ()
    features: tuple[str, ...] = NEW_FEATURES
    kernel: str = "5.15.123-android13-8"
    machine: str = "aarch64"
    cpu_features: str = "fp asimd aes crc32 atomics asimdhp asimddp"
    hardware: str | None = None
    governor: str = "schedutil"
    gpu: str = "Imaginary, Pixel Mill G9, OpenGL ES 3.2 build 7"
    memory_kb: int = 7_654_321
    files: Mapping[str, str] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    shell_is_terminal: bool = False
    delegates: Mapping[str, str] = field(
        default_factory=lambda: {"gpu": "refused", "nnapi": "refused"}
    )

    @property
    def cores(self) -> int:
        return sum(cluster.cores for cluster in self.clusters)

    @property
    def sdk(self) -> int:
        return int(self.properties.get("ro.build.version.sdk", "30"))

    @property
    def abis(self) -> tuple[str, ...]:
        """Program formats that it runs, the preferred one first."""
        told = self.properties.get("ro.product.cpu.abilist")
        return tuple((told or self.properties["ro.product.cpu.abi"]).split(","))

    @property
    def banner(self) -> bytes:
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        told = "".join(f"{n}={self.properties.get(n, '')};" for n in names)
        features = ",".join(self.features)
        return f"device::{told}features={features}".encode()


def _properties(**values: str) -> dict[str, str]:
    return {key.replace("__", "."): value for key, value in values.items()}


BIG_LITTLE = Phone(
    name="big-little",
    properties=_properties(
        dalvik__vm__isa__arm64__variant="cortex-a55",
        ro__board__platform="doublet",
        ro__boot__hardware="doublet",
        ro__build__fingerprint="mess/doublet/doublet:14/DBL1.240101.001/1:user/release-keys",
        ro__build__id="DBL1.240101.001",
        ro__build__type="user",
        ro__build__version__release="14",
        ro__build__version__sdk="34",
        ro__build__version__security_patch="2024-01-05",
        ro__hardware="doublet",
        ro__hardware__egl="imaginary",
        ro__opengles__version="196610",
        ro__product__brand="Mess",
        ro__product__cpu__abi="arm64-v8a",
        ro__product__cpu__abilist="arm64-v8a,armeabi-v7a,armeabi",
        ro__product__cpu__abilist32="armeabi-v7a,armeabi",
        ro__product__cpu__abilist64="arm64-v8a",
        ro__product__device="doublet",
        ro__product__manufacturer="Mess",
        ro__product__model="Doublet 8",
        ro__product__name="doublet",
        ro__serialno="MESS0DOUBLE1",
        ro__soc__manufacturer="Mess",
        ro__soc__model="MS8400",
        sys__boot_completed="1",
    ),
    clusters=(
        Cluster(4, "0xd05", 300_000, 1_804_000),
        Cluster(3, "0xd41", 500_000, 2_348_000),
        Cluster(1, "0xd44", 500_000, 2_850_000),
    ),
    sensors=(
        Sensor("cpu-little-usr", 0, 38.2),
        Sensor("cpu-mid-usr", 0, 38.7),
        Sensor("cpu-big-usr", 0, 39.5),
        Sensor("gpu-usr", 1, 37.1),
        Sensor("battery", 2, 27.4),
        Sensor("skin-therm", 3, 30.6),
        Sensor("usb-therm", 4, 28.9),
        Sensor("vbat", 6, 4.1),
    ),
)

PHONES = {phone.name: phone for phone in (BIG_LITTLE,)}
