"""A display of progress that counts a training's steps and can break it off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Killed(Exception):
    """What a training is broken off by."""


class Display:
    """Counts steps; can break training off at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.steps = 0

    @contextmanager
    def __call__(self, what: str, total: int) -> Iterator[Any]:
        yield self.step

    def step(self, count: int, note: str) -> None:
        if note:
            self.steps += count
            if self.steps == self.kill_at:
                raise Killed
