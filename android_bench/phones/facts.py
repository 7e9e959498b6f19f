"""A phone's constant properties: model, SoC, Android, cores and frequencies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.adb.transport import Transport
from android_bench.errors import BenchError, ParseError
from android_bench.phones.cpu import (
    parse_core_list,
    parse_cpufreq,
    parse_cpuinfo,
    parse_files,
)
from android_bench.phones.dumpsys_parsers import parse_getprop
from android_bench.phones.shell_batch import FACT_COMMANDS, run_batch
from android_bench.records import DeviceInfo

_GLES = re.compile(r"GLES: (.+)")
_MEMORY = re.compile(r"MemTotal:\s+(\d+) kB")


@dataclass(frozen=True)
class PhoneFacts:
    """What does not change while a phone is on.

    Attributes:
        core_max_khz: by core number, of the cores that are online; None for one that
            does not tell its highest frequency.
        properties: all that ``getprop`` reported.
    """

    properties: Mapping[str, str]
    core_max_khz: Mapping[int, int | None]
    hardware: str | None
    gpu: str | None
    memory_gib: float | None

    @property
    def model(self) -> str:
        maker = self._first("ro.product.manufacturer", "ro.product.brand")
        model = self._first("ro.product.model", "ro.product.name") or "unknown phone"
        name = self._first("ro.product.marketname", "ro.config.marketing_name")
        reported = name or model
        if maker and not reported.lower().startswith(maker.lower()):
            reported = f"{maker} {reported}"
        return f"{reported} ({model})" if name and name != model else reported

    @property
    def soc(self) -> str:
        chip = self._first("ro.soc.model", "ro.board.platform", "ro.hardware.chipname")
        chip = chip or self.hardware or self._first("ro.hardware")
        maker = self._first("ro.soc.manufacturer")
        return f"{maker} {chip}" if maker and chip else chip or "unknown SoC"

    @property
    def abi(self) -> str:
        """Of the programs it runs: 64 bits where they run, whatever the kernel is."""
        listed = self._first("ro.product.cpu.abilist64", "ro.product.cpu.abilist")
        return listed.partition(",")[0] or self._first("ro.product.cpu.abi")

    @property
    def android(self) -> str:
        return self._first("ro.build.version.release") or "unknown"

    @property
    def build(self) -> str:
        return self._first(
            "ro.build.fingerprint", "ro.vendor.build.fingerprint", "ro.build.display.id"
        )

    def _first(self, *keys: str) -> str:
        values = (self.properties.get(key, "").strip() for key in keys)
        return next((value for value in values if value), "")

    def as_device(self, name: str, serial: str) -> DeviceInfo:
        """The record of it. The serial number is no part of its fingerprint: phones of
        one model and build stand for each other."""
        identity = "\n".join((self.model, self.soc, self.abi, self.android, self.build))
        clusters = sorted({khz for khz in self.core_max_khz.values() if khz})
        details = {
            "serial": serial,
            "build": self.build,
            "sdk": self._first("ro.build.version.sdk"),
            "gpu": self.gpu or "",
            "memory_gib": f"{self.memory_gib:.1f}" if self.memory_gib else "",
            "core_max_khz": " ".join(map(str, clusters)),
        }
        return DeviceInfo(
            kind="adb",
            name=name,
            fingerprint="adb-" + hashlib.sha256(identity.encode()).hexdigest()[:16],
            model=self.model,
            soc=self.soc,
            abi=self.abi,
            os_version=f"Android {self.android}",
            cores=len(self.core_max_khz),
            details={key: value for key, value in details.items() if value},
        )


def read_facts(transport: Transport) -> PhoneFacts:
    """Asks the phone.

    Raises:
        ConnectionLost: it is gone.
        BenchError: it answers, but not as an Android phone does.
    """
    return parse_facts(run_batch(transport, FACT_COMMANDS), transport.label)


def parse_facts(answers: Mapping[str, str], label: str) -> PhoneFacts:
    """Parses the outputs of ``shell_batch.FACT_COMMANDS``."""
    try:
        properties = parse_getprop(answers["properties"])
        cpuinfo = parse_cpuinfo(answers["cpuinfo"])
    except ParseError as error:
        raise BenchError(
            f"{label} does not answer as an Android phone does: {error} Is Android"
            " running on it?"
        ) from error
    frequencies = {
        core.number: core.max_khz
        for core in parse_cpufreq(parse_files(answers["cpufreq"]))
    }
    try:
        online = parse_core_list(answers["online"])
    except ParseError:  # an old phone, or one that refuses: those that it listed
        online = tuple(core.number for core in cpuinfo.cores)
    gpu = _GLES.search(answers["gpu"])
    memory = _MEMORY.search(answers["memory"])
    return PhoneFacts(
        properties=properties,
        core_max_khz={number: frequencies.get(number) for number in online},
        hardware=cpuinfo.hardware,
        gpu=gpu[1].strip() if gpu else None,
        memory_gib=int(memory[1]) / 2**20 if memory else None,
    )
