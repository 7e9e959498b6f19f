"""Reads the per-operator tables of TFLite's benchmark tool (table and CSV form)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OpRow:
    """One node, in run order.

    Attributes:
        kind: the node's type as printed; may hold blanks, commas and arrows.
        name: the node's name; empty where none was printed.
        first_ms, avg_ms: first and mean time per run of the model.
        share: of its graph's summed ``avg_ms``, 0 to 1; computed here because the
            tool's own percentages are wrong in some versions.
        memory_kb: as printed.
        times_called: per run; 0 in versions that divide it by the number of runs.
    """

    kind: str
    name: str
    first_ms: float
    avg_ms: float
    share: float
    memory_kb: float
    times_called: int


@dataclass(frozen=True)
class OpGraph:
    """The operators of one (sub)graph.

    Attributes:
        title: heading of the graph, e.g. ``Primary graph (name: main)``; "" for one.
        complete: the number of rows is the one that the tool says it executed.
    """

    title: str
    rows: tuple[OpRow, ...]
    complete: bool

    @property
    def total_ms(self) -> float:
        """Sum of ``avg_ms``; on GPUs far less than the wall time of a run."""
        return sum(row.avg_ms for row in self.rows)


@dataclass(frozen=True)
class OpProfile:
    """All tables of a log; what happens once is kept apart from what a run takes."""

    init: tuple[OpGraph, ...]
    regular: tuple[OpGraph, ...]


def parse_op_profile(text: str) -> OpProfile | None:
    """Reads the run-order tables of one run; None where the log holds none.

    Raises:
        LogError: a table cannot be read.
    """
    raise NotImplementedError
