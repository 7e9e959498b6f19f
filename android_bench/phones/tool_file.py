"""Finds Google's benchmark program for a phone: given, cached, or downloaded.

The published files have no version and no checksum, and "latest" changes: what was
downloaded is cached, its digest beside it, and goes with every measurement.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from android_bench.errors import BenchError
from android_bench.records import Tool
from mess_tf.core.errors import MessError
from mess_tf.core.files import sha256_of, write_file

VARIABLE = "MESS_BENCHMARK_MODEL"
FILE_NAME = "benchmark_model"
MOST_BYTES = 200 * 2**20
DOWNLOAD_S = 300.0
_READ_S = 20.0

Fetch = Callable[[str, int, float], bytes]
"""(address, most bytes, seconds) to content; OSError or ValueError when it fails."""

_LITERT = "https://storage.googleapis.com/litert/binaries/{version}/{name}"
_NIGHTLY = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release"
    "/lite/tools/nightly/latest/{name}"
)


@dataclass(frozen=True)
class _Source:
    """Where a tool is published.

    Attributes:
        key: its folder in the cache.
        inputs: it is TFLite's tool, which runs given inputs and writes outputs;
            LiteRT's takes time only.
    """

    key: str
    url: str
    inputs: bool


# ELF machine numbers by ABI.
_MACHINES = {"arm64-v8a": 183, "armeabi-v7a": 40, "x86_64": 62, "x86": 3}
_LITERT_NAMES = {"arm64-v8a": "android_arm64/benchmark_model"}
_NIGHTLY_NAMES = {
    "arm64-v8a": "android_aarch64_benchmark_model",
    "armeabi-v7a": "android_arm_benchmark_model",
}


def find_tool(
    abi: str,
    given: Path | None = None,
    *,
    inputs: bool = False,
    environ: Mapping[str, str] = os.environ,
    fetch: Fetch | None = None,
) -> Path:
    """The program for phones of an ABI.

    Args:
        abi: e.g. ``arm64-v8a``.
        given: this file, or a folder with one file per ABI (``arm64-v8a/
            benchmark_model``); by default the environment variable
            ``MESS_BENCHMARK_MODEL``.
        inputs: it must run given inputs and write outputs.
        fetch: downloads; for tests.

    Raises:
        BenchError: a file that is named is not there or is for other phones; or there
            is none and it cannot be downloaded.
    """
    named = environ.get(VARIABLE, "")
    if given is not None or named:
        return _given(given or Path(named), abi, "" if given else f" ({VARIABLE})")
    sources = [s for s in _sources(abi) if s.inputs or not inputs]
    folder = _cache_folder(environ) / abi
    for source in sources:
        cached = _cached(folder / source.key / FILE_NAME, abi)
        if cached is not None:
            return cached
    return _download(sources, folder, abi, fetch or fetch_url)


def read_tool(path: Path) -> Tool:
    """The record of a tool: its digest alone tells it from others."""
    return Tool(FILE_NAME, "by digest", sha256_of(path))


def fetch_url(url: str, most_bytes: int, limit_s: float) -> bytes:
    """Downloads by HTTPS; ``OSError`` or ``ValueError`` when it fails."""
    deadline = time.monotonic() + limit_s
    parts, size = [], 0
    with urllib.request.urlopen(url, timeout=_READ_S) as answer:
        while part := answer.read(1 << 16):
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                raise ValueError(f"it is larger than {most_bytes >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete within {limit_s:g} s")
    return b"".join(parts)


def _sources(abi: str) -> list[_Source]:
    found = []
    if abi in _LITERT_NAMES:
        version = importlib.metadata.version("ai-edge-litert")
        url = _LITERT.format(version=version, name=_LITERT_NAMES[abi])
        found.append(_Source(f"litert-{version}", url, inputs=False))
    if abi in _NIGHTLY_NAMES:
        url = _NIGHTLY.format(name=_NIGHTLY_NAMES[abi])
        found.append(_Source("tflite-nightly", url, inputs=True))
    return found


def _cache_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mess-tf" / FILE_NAME


def _given(path: Path, abi: str, whence: str) -> Path:
    found = path / abi / FILE_NAME if path.is_dir() else path
    if not found.is_file():
        raise BenchError(
            f"No benchmark tool at {found}{whence}; give Android's benchmark_model for"
            f" {abi}, or leave it out to have it downloaded."
        )
    with found.open("rb") as file:
        machine = _elf_machine(file.read(20))
    if machine not in (None, _MACHINES.get(abi)):
        raise BenchError(
            f"The benchmark tool {found}{whence} is for another processor (ELF machine"
            f" {machine}); this phone runs {abi}."
        )
    return found


def _elf_machine(head: bytes) -> int | None:
    """None for what is no ELF file, e.g. a script around the tool."""
    if not head.startswith(b"\x7fELF") or len(head) < 20:
        return None
    return int.from_bytes(head[18:20], "little")


def _cached(path: Path, abi: str) -> Path | None:
    """A tool in the cache, unless it is not what was put there."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    note = path.with_name(path.name + ".json")
    if note.is_file():
        try:
            reported = json.loads(note.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError):
            return None
        return path if hashlib.sha256(content).hexdigest() == reported else None
    if _elf_machine(content[:20]) != _MACHINES.get(abi):
        return None
    _write_note(path, content, "put here by hand")
    return path


def _download(sources: list[_Source], folder: Path, abi: str, fetch: Fetch) -> Path:
    reasons = []
    for source in sources:
        try:
            content = fetch(source.url, MOST_BYTES, DOWNLOAD_S)
        except (OSError, ValueError) as error:
            reasons.append(f"{source.url}: {error}")
            continue
        if _elf_machine(content[:20]) != _MACHINES[abi]:
            reasons.append(f"{source.url}: it is no program for {abi}")
            continue
        return _keep(folder / source.key / FILE_NAME, content, source.url)
    if not sources:
        raise BenchError(
            f"No benchmark tool is published for {abi}; build benchmark_model for it"
            f" and name it in {VARIABLE}."
        )
    raise BenchError(
        f"No benchmark tool for {abi} can be downloaded ({'; '.join(reasons)}); get"
        f" {sources[-1].url} and put it at {folder / sources[-1].key / FILE_NAME}, or"
        f" name it in {VARIABLE}."
    )


def _keep(path: Path, content: bytes, origin: str) -> Path:
    try:
        # The note first: a tool without the right one is not used.
        _write_note(path, content, origin)
        write_file(path, content)
    except MessError as error:
        raise BenchError(
            f"{error} The benchmark tool was to be stored there; free some space, set"
            f" XDG_CACHE_HOME, or name a tool in {VARIABLE}."
        ) from error
    return path


def _write_note(path: Path, content: bytes, origin: str) -> None:
    note = {
        "origin": origin,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    text = json.dumps(note, indent=1).encode()
    write_file(path.with_name(path.name + ".json"), text)
