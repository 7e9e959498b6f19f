"""What a path through a configuration costs, from the latencies of its pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import (
    branch_name,
    decision_name,
    head_name,
    output_name,
    segment_name,
)
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec


@dataclass(frozen=True)
class PieceCosts:
    """Latencies by piece name, looked up the way paths need them.

    Attributes:
        spec: structure of the supernet; gives the grids that piece names speak of.
        latency_ms: milliseconds by piece name.
    """

    spec: SupernetSpec
    latency_ms: Mapping[str, float]
    _size: dict[tuple[int, str], tuple[int, int]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def segments(self, exit_index: int) -> float:
        """Backbone from the image to exit point ``exit_index``, ms."""
        return sum(self._piece(segment_name(i)) for i in range(1, exit_index + 1))

    def head(self, exit_index: int, head: str) -> float:
        """The head alone, ms."""
        return self._piece(head_name(exit_index, head))

    def decision(self, exit_index: int, head: str, policy: str) -> float:
        """The policy's confidence from the head's own logits, and the branch, ms.

        What the runtime spends on entering a branch is there once it was measured
        (``mess_tf.compiling.latency_composition``); without a figure it counts as 0.
        """
        branch = branch_name(exit_index)
        entering = self._piece(branch) if branch in self.latency_ms else 0.0
        return (
            self._piece(decision_name(policy, self._grid(exit_index, head))) + entering
        )

    def output(self, exit_index: int, head: str) -> float:
        """Bringing the answering head's logits to the output grid, ms.

        Logits that already have the output grid need no piece and cost nothing.
        """
        grid = self._grid(exit_index, head)
        name = output_name(grid)
        if name not in self.latency_ms and grid == self.spec.output_size:
            return 0.0
        return self._piece(name)

    def paths(self, configuration: Configuration) -> np.ndarray:
        """Milliseconds of an image that leaves at each exit, in the order of the exits.

        Every kept head on the way is paid, and every decision asked on the way, whether
        it let the image leave or not; the last exit decides nothing.

        Returns:
            float64 array of shape (n_exits,).
        """
        paths = []
        paid = 0.0
        for place, choice in enumerate(configuration.exits):
            paid += self.head(choice.exit, choice.head)
            if place < len(configuration.exits) - 1 and choice.policy is not None:
                paid += self.decision(choice.exit, choice.head, choice.policy)
            paths.append(
                self.segments(choice.exit)
                + paid
                + self.output(choice.exit, choice.head)
            )
        return np.array(paths)

    def _grid(self, exit_index: int, head: str) -> tuple[int, int]:
        key = (exit_index, head)
        if key not in self._size:
            self._size[key] = self.spec.head_size(exit_index, HeadSpec.parse(head))
        return self._size[key]

    def _piece(self, name: str) -> float:
        try:
            value = float(self.latency_ms[name])
        except KeyError:
            raise MessError(
                f"No latency for piece {name!r} among the {len(self.latency_ms)} given;"
                " measure it first (`mess profile`)."
            ) from None
        if not math.isfinite(value) or value < 0:
            raise MessError(
                f"Latency of piece {name!r} is {value} ms; a finite number of at least"
                " 0 is needed: measure it again."
            )
        return value
