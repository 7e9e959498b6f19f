"""Reads what TFLite's benchmark tool says of delegates: asked for, applied, taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_bench.logs.lines import LogLines


@dataclass(frozen=True)
class AppliedDelegate:
    """What became of a delegate that was asked for.

    Attributes:
        name: as the tool prints it: ``GPU``, ``NNAPI``, ``XNNPACK``, ``EXTERNAL``, ...
        extent: ``full``, ``partial``, ``none`` (a silent run on the CPU) or ``unknown``
            (the run failed, or the tool is of 2018 or 2019 and does not tell).
        kernels: delegate kernels in the graph, where reported.
    """

    name: str
    extent: str
    kernels: int | None = None


@dataclass(frozen=True)
class Partition:
    """A runtime line "Replacing ... node(s)": what a delegate took of a subgraph.

    Attributes:
        delegate: the kernel's type, e.g. ``TfLiteXNNPackDelegate``.
        nodes_before: all nodes there were; None where an old runtime does not tell.
        subgraph: its index; None where an old runtime names none.
    """

    delegate: str
    nodes: int
    nodes_before: int | None
    partitions: int
    subgraph: int | None = None


FULL, PARTIAL, NONE, UNKNOWN = "full", "partial", "none", "unknown"

_SWITCHES = {
    "use gpu": "GPU",
    "use nnapi": "NNAPI",
    "use legacy nnapi": "NNAPI",
    "use hexagon": "Hexagon",
    "use xnnpack": "XNNPACK",
    "use ynnpack": "YNNPACK",
    "use coreml": "COREML",
}
_PATHS = {"external delegate path": "EXTERNAL"}
_APPLIED = re.compile(
    r"(?:Explicitly a|A)pplied (\S+) delegate(?:, and the model graph will be"
    r" (completely|partially) executed (?:by|w/) the delegate"
    r"(?: w/ (\d+) delegate kernels)?)?\.?"
)
_NOT_APPLIED = re.compile(
    r"Though (\S+) delegate is (?:explicitly )?applied, the model graph will not be"
    r" executed by the delegate\.?"
)
_REPLACING = re.compile(
    r"Replacing (\d+) +(?:out of (\d+) +)?node\(s\) with delegate \((.+?)\) node,"
    r" yielding (\d+) partitions"
    r"(?: for (?:the whole graph|subgraph (\d+)(?: \(.*\))?))?\.?"
)


def parse_requested(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Delegates that the echoed settings ask for, by the tool's names."""
    named: dict[str, None] = {}
    for key, value in parameters.items():
        key = key.casefold()
        if key in _SWITCHES and value in ("1", "true"):
            named[_SWITCHES[key]] = None
        elif key in _PATHS and value:
            named[_PATHS[key]] = None
    return tuple(named)


def parse_applied(
    log: LogLines, requested: tuple[str, ...], tells: bool
) -> tuple[AppliedDelegate, ...]:
    """What became of each delegate asked for.

    Args:
        tells: the tool is new enough to say when it applied one; then silence about a
            delegate that was asked for means that it could not be made.
    """
    found: dict[str, AppliedDelegate] = {}
    for line in log.lines:
        text = line.text.strip()
        if match := _APPLIED.fullmatch(text):
            extents = {"completely": FULL, "partially": PARTIAL, None: UNKNOWN}
            kernels = None if match[3] is None else int(match[3])
            found[match[1]] = AppliedDelegate(match[1], extents[match[2]], kernels)
        elif match := _NOT_APPLIED.fullmatch(text):
            found[match[1]] = AppliedDelegate(match[1], NONE)
    known = {name.casefold() for name in found}
    for name in requested:
        if name.casefold() not in known:
            found[name] = AppliedDelegate(name, NONE if tells else UNKNOWN)
    return tuple(found.values())


def parse_partitions(log: LogLines) -> tuple[Partition, ...]:
    """What delegates took of each subgraph, in the order reported."""
    found = []
    for line in log.lines:
        text = line.text.strip()
        if match := _REPLACING.fullmatch(text):
            nodes, before, delegate, parts, subgraph = match.groups()
            found.append(
                Partition(
                    delegate,
                    int(nodes),
                    None if before is None else int(before),
                    int(parts),
                    None if subgraph is None else int(subgraph),
                )
            )
    return tuple(found)
