"""What the benchmark tool and the runtime say when delegates are applied.

Nothing is delegated: the CPU computes whatever is said here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.phone_double.benchmark.errors import Failed
from tests.phone_double.benchmark.report import Log

FULL, PARTIAL, NONE, REFUSED, MISSING = "full", "partial", "none", "refused", "missing"


@dataclass(frozen=True)
class Kind:
    """A delegate as the tool and as the runtime name it."""

    name: str
    kernel: str


KINDS = {
    "use_gpu": Kind("GPU", "TfLiteGpuDelegateV2"),
    "use_nnapi": Kind("NNAPI", "TfLiteNnapiDelegate"),
    "use_xnnpack": Kind("XNNPACK", "TfLiteXNNPackDelegate"),
}


def replacing(log: Log, taken: int, nodes: int, kernel: str, partitions: int) -> None:
    """The runtime's line on what a delegate takes."""
    log.runtime(
        "VERBOSE",
        f"Replacing {taken} out of {nodes} node(s) with delegate ({kernel}) node,"
        f" yielding {partitions} partitions for subgraph 0.",
    )


def applied(log: Log, name: str, kernels: int, all_of_it: bool) -> None:
    """The tool's line on what became of a delegate."""
    if kernels and all_of_it:
        log.info(
            f"Explicitly applied {name} delegate, and the model graph will be"
            " completely executed by the delegate."
        )
    elif kernels:
        log.info(
            f"Explicitly applied {name} delegate, and the model graph will be partially"
            f" executed by the delegate w/ {kernels} delegate kernels."
        )
    else:
        log.info(
            f"Though {name} delegate is explicitly applied, the model graph will not be"
            " executed by the delegate."
        )


def apply(log: Log, switch: str, mode: str, nodes: int, full_only: bool) -> None:
    """Plays the application of a GPU or NNAPI delegate.

    Args:
        full_only: the tool is to stop where the CPU would have to run anything.

    Raises:
        Failed: the tool ends; the reason is told.
    """
    kind = KINDS[switch]
    if mode == MISSING:
        log.warn(f"{kind.name} acceleration is unsupported on this platform.")
        _refuse_fallback(log, full_only)
        return
    log.info(f"{kind.name} delegate created.")
    log.runtime("INFO", f"Created TensorFlow Lite delegate for {kind.name}.")
    taken = {FULL: nodes, NONE: 0}.get(mode, nodes // 2)
    if kind.name == "GPU" and mode in (PARTIAL, REFUSED):
        log.runtime("ERROR", "Following operations are not supported by GPU delegate:")
        for line in (
            "CONV_2D: Operation is not supported.",
            f"{taken} operations will run on the GPU, and the remaining"
            f" {nodes - taken} operations will run on the CPU.",
        ):
            log.plain(line)
    if mode == REFUSED:
        _refuse(log, kind, taken, nodes)
    if taken:
        replacing(log, taken, nodes, kind.kernel, 1 if taken == nodes else 2)
        if kind.name == "GPU":
            log.runtime("INFO", "Initialized OpenCL-based API.")
            log.runtime("INFO", "Created 1 GPU delegate kernels.")
    if taken < nodes:
        _refuse_fallback(log, full_only)
    applied(log, kind.name, int(taken > 0), taken == nodes)


def _refuse_fallback(log: Log, full_only: bool) -> None:
    if full_only:
        log.error("Disallowed CPU fallback detected.")
        raise Failed


def _refuse(log: Log, kind: Kind, taken: int, nodes: int) -> None:
    replacing(log, taken, nodes, kind.kernel, 2)
    if kind.name == "GPU":
        reason = "TfLiteGpuDelegate Prepare: delegate is not initialized"
    else:
        reason = (
            "NN API returned error ANEURALNETWORKS_OP_FAILED at line 4768 while"
            " completing NNAPI compilation.\n"
        )
    log.runtime("ERROR", reason)
    log.runtime("ERROR", f"Node number {nodes} ({kind.kernel}) failed to prepare.")
    log.runtime(
        "ERROR", "Restored original execution plan after delegate application failure."
    )
    log.error(f"Failed to apply {kind.name} delegate.")
    raise Failed


def partition(operators: Sequence[Mapping[str, Any]]) -> tuple[int, int, int, int]:
    """What the runtime's default delegate took of a graph.

    A node is a delegate's when its result is the delegate's, or when only such nodes
    use its result.

    Returns:
        Nodes before, nodes taken, delegate kernels, partitions.
    """
    kernels = [op for op in operators if op["op_name"] == "DELEGATE"]
    nodes = [op for op in operators if op["op_name"] != "DELEGATE"]
    given = {t for kernel in kernels for t in kernel["outputs"]}
    needed = {t for kernel in kernels for t in kernel["inputs"]}
    taken: set[int] = set()
    for number in reversed(range(len(nodes))):
        results = set(nodes[number]["outputs"])
        users = [
            user
            for user in range(number + 1, len(nodes))
            if results & set(nodes[user]["inputs"])
        ]
        inside = bool(users) and not results & needed and taken.issuperset(users)
        if results & given or inside:
            taken.add(number)
    left = [n for n in range(len(nodes)) if n not in taken]
    groups = sum(1 for n in left if n - 1 not in left)
    return len(nodes), len(taken), len(kernels), len(kernels) + groups
