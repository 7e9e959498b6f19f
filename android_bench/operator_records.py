"""Records of per-operator profiles, and their combination over rounds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from android_bench.errors import BenchError
from android_bench.logs.op_profile import OpProfile, OpRow
from android_bench.records import Failure

XNNPACK = "TfLiteXNNPackDelegate"
INTERNAL = "Delegate internal"

CONTROL_FLOW = "Control flow"
"""Graph of nodes whose bodies' operators are listed beside them."""

_CONTAINERS = ("IF", "WHILE", "CALL", "CALL_ONCE")
_NODE = re.compile(r"^\[?(.*?)\]?:(\d+)$", re.S)
_DELEGATED = "Delegate/"


@dataclass(frozen=True)
class OperatorTime:
    """One node of a model, in run order.

    Attributes:
        kind: the node's type, e.g. ``CONV_2D`` or ``Convolution (NHWC, QC8) IGEMM``.
        name: the node's name; empty where the tool prints none.
        node: its index in its graph or in its delegate; None where not printed.
        graph: heading of its (sub)graph, e.g. ``Primary graph (name: main)``; empty
            where there are no headings.
        delegate: kernel type of the delegate that ran it; empty for TFLite's kernels.
        time_us: mean time in one run of the model, microseconds.
        share: ``time_us`` as a part of its graph's, 0 to 1.
        times_called: calls in one run.
    """

    kind: str
    name: str
    node: int | None
    graph: str
    delegate: str
    time_us: float
    share: float
    times_called: float


@dataclass(frozen=True)
class OperatorProfile:
    """The operators of a model on a device with settings and a tool, or a failure.

    Times were taken under profiling: they tell where the time goes, not how long a
    model takes.

    Attributes:
        operators: in run order; empty when failed.
        rounds: visits to the model; each time is the median over them.
        time: when it was finished; UTC, ISO 8601.
    """

    name: str
    sha256: str
    fingerprint: str
    settings_key: str
    tool_key: str
    time: str
    operators: tuple[OperatorTime, ...] = ()
    rounds: int = 0
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if bool(self.operators) == (self.failure is not None):
            raise BenchError(
                f"The operator profile of {self.name} must have either operators or a"
                " failure."
            )

    @property
    def failed(self) -> bool:
        return self.failure is not None

    @property
    def main_graph(self) -> tuple[OperatorTime, ...]:
        """Operators of the first graph.

        Those of subgraphs and "Delegate internal" tables are parts of nodes here, and
        control-flow nodes in a separate graph contain some of these: their times
        must not be added to these.
        """
        graphs = [o.graph for o in self.operators if o.graph != CONTROL_FLOW]
        first = graphs[0] if graphs else CONTROL_FLOW
        return tuple(o for o in self.operators if o.graph == first)

    @property
    def total_us(self) -> float:
        """Sum of the main graph's operators; on GPUs far less than the wall time."""
        return sum(operator.time_us for operator in self.main_graph)


def operator_times(
    profile: OpProfile,
    delegates: Sequence[str] = (),
    runs: int = 1,
    flat: bool = False,
) -> tuple[OperatorTime, ...]:
    """The operators of a tool's tables of regular runs.

    Args:
        profile: as printed.
        delegates: kernel types of the delegates that took part; one that is alone is
            named in the operators that the tool marks as delegated.
        runs: where the tool adds the calls of all runs up, their number, else 1.
        flat: the tool lists the operators of subgraphs among those of the main graph:
            control-flow nodes, which contain them, get a separate graph.
    """
    alone = delegates[0] if len(set(delegates)) == 1 else "delegate"
    return tuple(
        dataclasses.replace(
            _operator(
                row,
                CONTROL_FLOW if flat and row.kind in _CONTAINERS else graph.title,
                alone,
            ),
            time_us=round(row.run_ms * 1000 / runs, 6),
            times_called=row.times_called / runs,
        )
        for graph in profile.regular
        for row in graph.rows
    )


def _operator(row: OpRow, graph: str, delegate: str) -> OperatorTime:
    kind = row.kind.removeprefix(_DELEGATED)
    delegated = row.kind != kind or row.name.startswith(_DELEGATED)
    match = _NODE.match(row.name)
    name = match[1] if match else row.name
    inside = "elegate" in kind  # a whole partition as one node
    of_delegate = graph == INTERNAL or delegated
    return OperatorTime(
        kind=kind,
        name="" if delegated else name,
        node=int(match[2]) if match else None,
        graph=graph,
        delegate=delegate if of_delegate else kind if inside else "",
        time_us=row.run_ms * 1000,
        share=row.share,
        times_called=row.times_called,
    )


def combined(
    rounds: Sequence[tuple[OperatorTime, ...]],
) -> tuple[OperatorTime, ...] | Failure:
    """Per operator the median time over rounds, and the shares of these medians.

    Returns:
        A failure where the rounds did not run the same operators.
    """
    layouts = {tuple((o.kind, o.graph, o.node) for o in taken) for taken in rounds}
    if len(layouts) != 1:
        return Failure("log", "its rounds did not run the same operators")
    medians = np.median([[o.time_us for o in taken] for taken in rounds], axis=0)
    totals: dict[str, float] = {}
    for operator, time_us in zip(rounds[0], medians, strict=True):
        totals[operator.graph] = totals.get(operator.graph, 0.0) + float(time_us)
    return tuple(
        dataclasses.replace(
            operator,
            time_us=float(time_us),
            share=float(time_us) / totals[operator.graph]
            if totals[operator.graph]
            else 0.0,
        )
        for operator, time_us in zip(rounds[0], medians, strict=True)
    )
