"""What a configuration takes besides time: bytes on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.piece_names import decision_name, head_name, output_name, segment_name
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from search.requirement import Requirement

MB = 1e6


@dataclass(frozen=True)
class Resources:
    """Bytes by piece name; a piece that is missing counts as 0.

    Attributes:
        size_bytes: of the piece's file.
        peak_bytes: memory the piece takes at its peak.
    """

    size_bytes: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: Mapping[str, float] = field(default_factory=dict)

    def check(self, requirement: Requirement) -> None:
        """Raises MessError where a limit is asked for without figures to hold it to."""
        for limit, table, what in (
            (requirement.max_size_mb, self.size_bytes, "sizes of the pieces"),
            (requirement.max_memory_mb, self.peak_bytes, "peak memory of the pieces"),
        ):
            if limit is not None and not table:
                raise MessError(
                    f"The requirement ({requirement}) needs the {what}, and none were"
                    " given; leave the limit out or pass Resources."
                )

    def of(self, configuration: Configuration, spec: SupernetSpec) -> dict[str, float]:
        """``size_mb`` (sum of the pieces kept) and ``memory_mb`` (the largest peak)."""
        names = pieces_of(configuration, spec)
        size = sum(self.size_bytes.get(name, 0.0) for name in names)
        peak = max(self.peak_bytes.get(name, 0.0) for name in names)
        return {"size_mb": size / MB, "memory_mb": peak / MB}


def pieces_of(configuration: Configuration, spec: SupernetSpec) -> list[str]:
    """Names of all pieces that a configuration is put together from."""
    names = [segment_name(i + 1) for i in range(configuration.exits[-1].exit)]
    for choice in configuration.exits:
        names += head_pieces(spec, choice.exit, choice.head)
        if choice.policy is not None:
            grid = spec.head_size(choice.exit, HeadSpec.parse(choice.head))
            names.append(decision_name(choice.policy, grid))
    return names


def head_pieces(spec: SupernetSpec, exit_index: int, head: str) -> list[str]:
    """Names of a head and of its output step."""
    grid = spec.head_size(exit_index, HeadSpec.parse(head))
    return [head_name(exit_index, head), output_name(grid)]
