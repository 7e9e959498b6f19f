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
class Step:
    """One operation of a flat network.

    Attributes:
        name: of the layer.
        inputs: positions of the steps it reads.
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
class Cut:
    """A place for an exit.

    Attributes:
        step: position of the step whose output the exit reads.
        live: positions of all steps that the rest of the network reads, growing.
        macs: of the prefix.
        size: elements of all live tensors.
    """

    step: int
    live: tuple[int, ...]
    macs: int
    size: int


def read_steps(model: Any) -> list[Step]:
    """Steps of a flat functional model of fixed image size; the first is the image.

    Raises:
        MessError: a size that is not known, by the layer's name.
    """
    steps: list[Step] = []
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
        positions.update({id(output): len(steps) for output in outputs})
        steps.append(
            Step(
                name=operation.name,
                inputs=tuple(positions[id(t)] for t in node.input_tensors),
                grid=shape[1:3] if len(shape) == 4 and len(outputs) == 1 else None,
                size=sum(math.prod(output.shape[1:]) for output in outputs),
                macs=macs,
                pointwise=given == [shape] and (norm or not macs),
            )
        )
    return steps


class Flow:
    """What depends on what among steps.

    Args:
        steps: in an order in which they can run; all that the last needs.

    Attributes:
        readers: per step, the steps that read it.
        before: per step, the steps it needs and itself, as bits of a whole number.
        after: per step, the steps that need it.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.readers: list[list[int]] = [[] for _ in steps]
        self.before = [1 << i for i in range(len(steps))]
        self.after = [0] * len(steps)
        for i, step in enumerate(steps):
            for source in dict.fromkeys(step.inputs):
                self.readers[source].append(i)
                self.before[i] |= self.before[source]
        for i in reversed(range(len(steps))):
            for reader in self.readers[i]:
                self.after[i] |= self.after[reader] | 1 << reader

    def live(self, step: int) -> tuple[int, ...]:
        """Steps of the prefix that the rest reads, and ``step`` itself."""
        prefix = self.before[step]
        return tuple(
            i
            for i in range(step + 1)
            if prefix >> i & 1
            and (i == step or any(not prefix >> r & 1 for r in self.readers[i]))
        )

    def macs(self, step: int) -> int:
        """Of the prefix."""
        prefix = self.before[step]
        return sum(s.macs for i, s in enumerate(self.steps) if prefix >> i & 1)

    def joined(self, step: int) -> bool:
        """Whether another path joins before the grid becomes finer than at ``step``."""
        grid = self.steps[step].grid
        own = self.after[step] | 1 << step
        stack, seen = [step], {step}
        while stack:
            for reader in self.readers[stack.pop()]:
                if reader in seen or finer(self.steps[reader].grid, grid):
                    continue
                if any(not own >> source & 1 for source in self.steps[reader].inputs):
                    return True
                seen.add(reader)
                stack.append(reader)
        return False


def finer(grid: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether ``grid`` has more cells than ``other``; what is no map is never finer."""
    return grid is not None and other is not None and math.prod(grid) > math.prod(other)


def find_cuts(steps: Sequence[Step]) -> list[Cut]:
    """All places for an exit before the last step, in order of depth.

    Each is a map of a whole-numbered stride with at least 2x2 cells. A tensor that is
    only read by a pointwise step (normalisation, activation) is none: the exit belongs
    behind that. Of cuts of which none lies before the other, the ones on the way to the
    last cut are kept.

    Args:
        steps: the first is the image, the last the network's output.
    """
    flow, image = Flow(steps), steps[0].grid
    cuts = []
    for i, step in enumerate(steps[:-1]):
        if stride_of(step, image) is None or not flow.macs(i):
            continue
        readers = flow.readers[i]
        if len(readers) == 1 and steps[readers[0]].pointwise:
            continue
        live = flow.live(i)
        others_finer = all(finer(steps[j].grid, step.grid) for j in live if j != i)
        if others_finer and not flow.joined(i):
            cuts.append(Cut(i, live, flow.macs(i), sum(steps[j].size for j in live)))
    chain: list[Cut] = []
    for cut in reversed(cuts):
        if not chain or flow.before[chain[-1].step] >> cut.step & 1:
            chain.append(cut)
    return chain[::-1]


def stride_of(step: Step, image: tuple[int, int] | None) -> int | None:
    """Image pixels per cell; None where it is no map of such a grid."""
    if step.grid is None or image is None or min(step.grid) < LEAST_CELLS:
        return None
    (height, width), (rows, columns) = image, step.grid
    fits = height % rows == 0 and (height // rows) * columns == width
    return height // rows if fits else None


def end_cut(cuts: Sequence[Cut], near: float) -> Cut | None:
    """The last cut that nothing passes by: what follows is the network's own end.

    Args:
        cuts: of ``find_cuts``.
        near: MACs within which the smallest tensor is taken.
    """
    alone = [cut for cut in cuts if len(cut.live) == 1]
    if not alone:
        return None
    late = [cut for cut in alone if cut.macs >= alone[-1].macs - near]
    return min(late, key=lambda cut: (cut.size, -cut.step))


def apart(cuts: Sequence[Cut], last: Cut, near: float) -> list[Cut]:
    """Of cuts nearer to one another than ``near`` MACs, those that hand on least.

    Args:
        cuts: of ``find_cuts``.
        last: is kept in any case, and none behind it.
        near: distance in MACs.
    """
    kept = [last]
    before = [cut for cut in cuts if cut.step < last.step]
    for cut in sorted(before, key=lambda c: (c.size, -c.step)):
        if all(abs(cut.macs - other.macs) >= near for other in kept):
            kept.append(cut)
    return sorted(kept, key=lambda c: c.step)
