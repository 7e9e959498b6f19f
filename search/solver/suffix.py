"""Heads that are still possible behind the third exit of a chain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class SuffixHeads:
    """Heads that are still possible behind a chain's third exit.

    The best of many heads on each single image is much better than any of them, so
    bounds with few heads per exit are far tighter.

    Attributes:
        early: per further early exit, int64 array of heads in order of their mean
            Lagrangian value, so that similar ones are neighbours.
        last_heads: heads that may answer last, ascending, int64 array.
    """

    early: tuple[np.ndarray, ...]
    last_heads: np.ndarray

    @property
    def early_fixed(self) -> bool:
        """Whether each further early exit has one head left."""
        return all(len(heads) == 1 for heads in self.early)

    @property
    def all_heads(self) -> np.ndarray:
        """Early and last heads, ascending, int64 array."""
        return np.sort(np.concatenate([*self.early, self.last_heads]))

    def subsets(self, count: int) -> list[SuffixHeads]:
        """A partition into ``count`` at most, by the exit with the most heads.

        Last heads are not split: bounds that sum before the maximum is taken deal with
        them better.
        """
        widest = int(np.argmax([len(heads) for heads in self.early]))
        heads = self.early[widest]
        before, after = self.early[:widest], self.early[widest + 1 :]
        return [
            replace(self, early=(*before, subset, *after))
            for subset in np.array_split(heads, min(count, len(heads)))
        ]
