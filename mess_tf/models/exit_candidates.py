"""Where a network may be cut: tensors that carry the whole network on, with its skips.

A cut at a tensor T parts what T needs (its *prefix*) from the rest. What the rest reads
of the prefix is *live* there: T itself, and skips that pass by. T is a good place for
an exit if it is the network's main path: the coarsest of the live tensors, joined by
no other before the network goes back to a finer grid than T's. So a cut lies neither
inside a residual block (the block's input joins at once) nor between branches, but
anywhere along the encoder and the decoder of a U-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mess_tf.converting.keras_graph import nodes_in_order
from mess_tf.models.flatten import refuse
from mess_tf.models.macs import layer_macs

LEAST_CELLS = 2
"""An exit's grid has at least as many rows and columns."""


@dataclass(frozen=True)
class Operation:
    """One operation of a flat network.

    Attributes:
        name: of the layer.
        inputs: positions of the operations it reads.
        grid: (height, width) of its output; None where that is no map.
        size: elements of its output.
        macs: of the operation.
        pointwise: whether it changes each value by itself and nothing else.
    """

    name: str
    inputs: tuple[int, ...]
    grid: tuple[int, int] | None
    size: int
    macs: int = 0
    pointwise: bool = False


@dataclass(frozen=True)
class CutPoint:
    """A place for an exit.

    Attributes:
        operation: position of the operation whose output the exit reads.
        live: positions of all operations that the rest of the network reads, growing.
        macs: of the prefix.
        size: elements of all live tensors.
    """

    operation: int
    live: tuple[int, ...]
    macs: int
    size: int


def read_operations(model: Any) -> list[Operation]:
    """Steps of a flat functional model of fixed image size; the first is the image.

    Raises:
        MessError: a size that is not known, by the layer's name.
    """
    operations: list[Operation] = []
    positions: dict[int, int] = {}
    for node in nodes_in_order(model.outputs):
        operation, outputs = node.operation, node.outputs
        for output in outputs:
            if None in output.shape[1:]:
                refuse(operation, f"the size of its output {output.shape} is not known")
        shape = tuple(outputs[0].shape)
        macs = layer_macs(operation)
        given = [tuple(tensor.shape) for tensor in node.input_tensors]
        norm = type(operation).__name__.endswith("Normalization")
        positions.update({id(output): len(operations) for output in outputs})
        operations.append(
            Operation(
                name=operation.name,
                inputs=tuple(positions[id(t)] for t in node.input_tensors),
                grid=shape[1:3] if len(shape) == 4 and len(outputs) == 1 else None,
                size=sum(math.prod(output.shape[1:]) for output in outputs),
                macs=macs,
                pointwise=given == [shape] and (norm or not macs),
            )
        )
    return operations


class DataflowGraph:
    """What depends on what among operations.

    Args:
        operations: in an order in which they can run; all that the last needs.

    Attributes:
        readers: per operation, the operations that read it.
        before: per operation, those it needs and itself, as bits of a whole number.
        after: per operation, the operations that need it.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.readers: list[list[int]] = [[] for _ in operations]
        self.before = [1 << i for i in range(len(operations))]
        self.after = [0] * len(operations)
        for i, operation in enumerate(operations):
            for source in dict.fromkeys(operation.inputs):
                self.readers[source].append(i)
                self.before[i] |= self.before[source]
        for i in reversed(range(len(operations))):
            for reader in self.readers[i]:
                self.after[i] |= self.after[reader] | 1 << reader

    def live(self, operation: int) -> tuple[int, ...]:
        """Operations of the prefix that the rest reads, and ``operation`` itself."""
        prefix = self.before[operation]
        return tuple(
            i
            for i in range(operation + 1)
            if prefix >> i & 1
            and (i == operation or any(not prefix >> r & 1 for r in self.readers[i]))
        )

    def macs(self, operation: int) -> int:
        """Of the prefix."""
        prefix = self.before[operation]
        return sum(s.macs for i, s in enumerate(self.operations) if prefix >> i & 1)

    def joined(self, operation: int) -> bool:
        """Whether another path joins before the grid becomes finer than here."""
        grid = self.operations[operation].grid
        own = self.after[operation] | 1 << operation
        stack, seen = [operation], {operation}
        while stack:
            for reader in self.readers[stack.pop()]:
                if reader in seen or finer(self.operations[reader].grid, grid):
                    continue
                if any(
                    not own >> source & 1 for source in self.operations[reader].inputs
                ):
                    return True
                seen.add(reader)
                stack.append(reader)
        return False


def finer(grid: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether ``grid`` has more cells than ``other``; what is no map is never finer."""
    return grid is not None and other is not None and math.prod(grid) > math.prod(other)


def find_cut_points(operations: Sequence[Operation]) -> list[CutPoint]:
    """All places for an exit before the last operation, in order of depth.

    Each is a map of a whole-numbered stride with at least 2x2 cells. A tensor that is
    only read by a pointwise operation (normalisation, activation) is none: the exit
    belongs behind that. Of cuts of which none lies before the other, the ones on the
    way to the last cut are kept.

    Args:
        operations: the first is the image, the last the network's output.
    """
    graph, image = DataflowGraph(operations), operations[0].grid
    cuts = []
    for i, operation in enumerate(operations[:-1]):
        if stride_of(operation, image) is None or not graph.macs(i):
            continue
        readers = graph.readers[i]
        if len(readers) == 1 and operations[readers[0]].pointwise:
            continue
        live = graph.live(i)
        others_finer = all(
            finer(operations[j].grid, operation.grid) for j in live if j != i
        )
        if others_finer and not graph.joined(i):
            cuts.append(
                CutPoint(i, live, graph.macs(i), sum(operations[j].size for j in live))
            )
    chain: list[CutPoint] = []
    for cut in reversed(cuts):
        if not chain or graph.before[chain[-1].operation] >> cut.operation & 1:
            chain.append(cut)
    return chain[::-1]


def stride_of(operation: Operation, image: tuple[int, int] | None) -> int | None:
    """Image pixels per cell; None where it is no map of such a grid."""
    if operation.grid is None or image is None or min(operation.grid) < LEAST_CELLS:
        return None
    (height, width), (rows, columns) = image, operation.grid
    fits = height % rows == 0 and (height // rows) * columns == width
    return height // rows if fits else None


def cut_before_head(cuts: Sequence[CutPoint], near: float) -> CutPoint | None:
    """The last cut that nothing passes by: what follows is the network's own end.

    Args:
        cuts: of ``find_cut_points``.
        near: MACs within which the smallest tensor is taken.
    """
    alone = [cut for cut in cuts if len(cut.live) == 1]
    if not alone:
        return None
    late = [cut for cut in alone if cut.macs >= alone[-1].macs - near]
    return min(late, key=lambda cut: (cut.size, -cut.operation))


def spaced_cut_points(
    cuts: Sequence[CutPoint], last: CutPoint, near: float
) -> list[CutPoint]:
    """Of cuts nearer to one another than ``near`` MACs, those that hand on least.

    Args:
        cuts: of ``find_cut_points``.
        last: is kept in any case, and none behind it.
        near: distance in MACs.
    """
    kept = [last]
    before = [cut for cut in cuts if cut.operation < last.operation]
    for cut in sorted(before, key=lambda c: (c.size, -c.operation)):
        if all(abs(cut.macs - other.macs) >= near for other in kept):
            kept.append(cut)
    return sorted(kept, key=lambda c: c.operation)
