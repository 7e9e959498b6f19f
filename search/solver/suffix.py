"""What may come behind the third exit of a chain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Fewer would make more steps, of which the first ones leave nothing out.
PARTS = 8


@dataclass(frozen=True, eq=False)
class Rest:
    """Heads that are still possible behind a chain's third exit.

    The best of many heads on each single image is much better than any of them, so
    bounds with few heads left are far closer.

    Attributes:
        early: per further early exit, int64 array of heads, like ones side by side.
        lasts: heads that may answer last, in order.
    """

    early: tuple[np.ndarray, ...]
    lasts: np.ndarray

    @property
    def settled(self) -> bool:
        """One head is left at each further early exit."""
        return all(len(heads) == 1 for heads in self.early)

    @property
    def answers(self) -> np.ndarray:
        """All heads in here, in order, int64 array."""
        return np.sort(np.concatenate([*self.early, self.lasts]))

    def parts(self) -> list[Rest]:
        """Up to ``PARTS`` of them, each with a share of the early exits' longest list.

        Last heads stay together: sums over gates make better use of the time there.
        """
        longest = int(np.argmax([len(heads) for heads in self.early]))
        heads = self.early[longest]
        before, after = self.early[:longest], self.early[longest + 1 :]
        return [
            replace(self, early=(*before, part, *after))
            for part in np.array_split(heads, min(PARTS, len(heads)))
        ]
