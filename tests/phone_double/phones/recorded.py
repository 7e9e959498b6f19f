"""Real phones, from recordings that are not part of the project.

A recording seldom holds everything: what one phone's lacks comes from the phone of our
own making, so that the double still answers every question.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from tests.phone_double.phones.parts import CPU, Cluster, cpuinfo
from tests.phone_double.phones.phone import BIG_LITTLE, OLD, Phone

# By phone: its files in the folder of recordings; those named first win.
RECORDINGS: Mapping[str, tuple[str, ...]] = {
    "pixel-8": (
        "sysfs_pixel-8.json",
        "proc_cpuinfo_pixel-8.txt",
        "thermalservice_bort-pixel.txt",
    ),
    "galaxy-s9-us": ("sysfs_galaxy-s9-us.json", "thermalservice_bort-samsung.txt"),
    "huawei-mate-20": ("sysfs_huawei-mate-20.json", "proc_cpuinfo_huawei-mate-20.txt"),
    "galaxy-j7-prime": ("sysfs_galaxy-j7-prime.json",),
    "poco-f6": (
        "getprop_poco-f6.txt",
        "thermalservice_xiaomi-13t-pro_skin-severe-status0.txt",
        "dumpsys_battery_honor-alt-nx1.txt",
    ),
    "xiaomi-12x": ("getprop_xiaomi-12x.txt",),
    "infinix-x670": ("getprop_infinix-x670.txt",),
    "huawei-g700": ("getprop_huawei-g700-android44.txt",),
}

_SHELL_V2_SDK, _THERMAL_SDK, _TOYBOX_SHA_SDK = 24, 29, 26


def load_recorded(folder: Path, name: str) -> Phone:
    """One phone of ``RECORDINGS``.

    Raises:
        FileNotFoundError: the folder lacks one of its files.
        KeyError: no such phone.
    """
    properties: dict[str, str] = {}
    files: dict[str, str] = {}
    told: dict[str, str] = {}
    for file_name in RECORDINGS[name]:
        text = (folder / file_name).read_bytes().decode()
        if file_name.startswith("sysfs_"):
            recorded = json.loads(text)
            properties |= recorded["getprop"]
            files |= recorded["files"]
        elif file_name.startswith("getprop_"):
            properties |= dict(re.findall(r"(?m)^\[(.+?)\]: \[(.*)\]\r?$", text))
        elif file_name.startswith("proc_cpuinfo_"):
            files["/proc/cpuinfo"] = text
        elif file_name.startswith("thermalservice_"):
            told["thermal"] = text
        else:
            told["battery"] = text
    return _complete(name, properties, files, told)


def _complete(
    name: str,
    properties: Mapping[str, str],
    files: Mapping[str, str],
    told: Mapping[str, str],
) -> Phone:
    sdk = int(properties["ro.build.version.sdk"])
    filler = BIG_LITTLE if sdk >= _SHELL_V2_SDK else OLD
    if not any(path.startswith(CPU) for path in files):
        files = {**filler.files, **files}
    elif "/proc/cpuinfo" not in files:
        last = files[f"{CPU}/present"].strip().rpartition("-")[2]
        text = cpuinfo([Cluster(int(last) + 1, "0xd03", 0, 0)], "fp asimd", None, 64)
        files = {**files, "/proc/cpuinfo": text}
    absent = filler.absent
    if sdk < _TOYBOX_SHA_SDK:
        absent |= {"sha256sum"}
    return dataclasses.replace(
        filler,
        name=name,
        properties=properties,
        files=files,
        battery=told.get("battery", filler.battery),
        thermal=told.get("thermal", filler.thermal) if sdk >= _THERMAL_SDK else "",
        absent=absent,
    )
