"""Latency of a path through a configuration, summed from its pieces' latencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

# What an image's time is spent on, in the order of ``PathLatency.terms_ms``.
KINDS = ("segments", "heads", "decisions", "output")


class UnmeasuredPieceError(MessError):
    """A path has a piece without a latency."""


@dataclass(frozen=True)
class PathLatency:
    """Latency of paths through a supernet, as sums over their pieces.

    An image that leaves at an exit pays for the backbone up to it, for every head
    and every decision on the way, whether it let the image leave or not, and for the
    answer's way to the output grid. The last exit decides nothing.

    Attributes:
        spec: structure of the supernet; gives the grids that piece names speak of.
        latency_ms: milliseconds by piece name.
    """

    spec: SupernetSpec
    latency_ms: Mapping[str, float]
    _size: dict[tuple[int, str], tuple[int, int]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def segments_ms(self, exit_index: int) -> float:
        """Backbone from the image to exit point ``exit_index``, ms."""
        return sum(self._piece(segment_name(i)) for i in range(1, exit_index + 1))

    def head_ms(self, exit_index: int, head: str) -> float:
        """The head alone, ms."""
        return self._piece(head_name(exit_index, head))

    def decision_ms(self, exit_index: int, head: str, policy: str) -> float:
        """The policy's confidence from the head's logits, and the branch, ms.

        What the runtime spends on entering a branch is there once it was measured
        (``mess_tf.compiling.latency_composition``); without a figure it counts as 0.
        """
        branch = branch_name(exit_index)
        entering = self._piece(branch) if branch in self.latency_ms else 0.0
        return (
            self._piece(decision_name(policy, self._grid(exit_index, head))) + entering
        )

    def output_ms(self, exit_index: int, head: str) -> float:
        """Bringing the answering head's logits to the output grid, ms.

        Logits that already have the output grid need no piece and cost nothing.
        """
        grid = self._grid(exit_index, head)
        name = output_name(grid)
        if name not in self.latency_ms and grid == self.spec.output_size:
            return 0.0
        return self._piece(name)

    def path_ms(self, configuration: Configuration) -> np.ndarray:
        """Milliseconds of an image that leaves at each exit, in the order of the exits.

        Returns:
            float64 array of shape (n_exits,).

        Raises:
            UnmeasuredPieceError: a piece has no latency.
        """
        segments, heads, decisions, output = self._steps_ms(configuration)
        # Heads and decisions in the order in which an image pays for them.
        paid = np.cumsum(np.stack([heads, decisions], axis=1))[1::2]
        return np.asarray(segments + paid + output)

    def terms_ms(self, configuration: Configuration) -> np.ndarray:
        """The same by what the time is spent on (``KINDS``); rows sum to ``path_ms``.

        Returns:
            float64 array of shape (n_exits, 4).

        Raises:
            UnmeasuredPieceError: a piece has no latency.
        """
        segments, heads, decisions, output = self._steps_ms(configuration)
        terms = [segments, np.cumsum(heads), np.cumsum(decisions), output]
        return np.stack(terms, axis=1)

    def image_ms(
        self, configuration: Configuration, positions: np.ndarray
    ) -> np.ndarray:
        """Milliseconds of each image, shape (I,).

        Args:
            positions: int array of shape (I,), position at which each image leaves.
        """
        return np.asarray(self.path_ms(configuration)[positions])

    def mean_ms(
        self, configuration: Configuration, exit_rates: Sequence[float]
    ) -> float:
        """Mean latency of a configuration, from the share leaving at each exit."""
        return float(np.dot(exit_rates, self.path_ms(configuration)))

    def _steps_ms(self, configuration: Configuration) -> np.ndarray:
        """Per kind what each exit itself adds; the backbone counts from the image.

        Returns:
            float64 array of shape (4, n_exits), rows as ``KINDS``.
        """
        exits = configuration.exits
        steps = np.zeros((len(KINDS), len(exits)))
        for position, choice in enumerate(exits):
            steps[0, position] = self.segments_ms(choice.exit)
            steps[1, position] = self.head_ms(choice.exit, choice.head)
            if position < len(exits) - 1 and choice.policy is not None:
                steps[2, position] = self.decision_ms(
                    choice.exit, choice.head, choice.policy
                )
            steps[3, position] = self.output_ms(choice.exit, choice.head)
        return steps

    def _grid(self, exit_index: int, head: str) -> tuple[int, int]:
        key = (exit_index, head)
        if key not in self._size:
            self._size[key] = self.spec.head_size(exit_index, HeadSpec.parse(head))
        return self._size[key]

    def _piece(self, name: str) -> float:
        try:
            value = float(self.latency_ms[name])
        except KeyError:
            raise UnmeasuredPieceError(
                f"No latency for piece {name!r} among the {len(self.latency_ms)} given;"
                " measure it first (`mess profile`)."
            ) from None
        if not math.isfinite(value) or value < 0:
            raise MessError(
                f"Latency of piece {name!r} is {value} ms; a finite number of at least"
                " 0 is needed: measure it again."
            )
        return value
