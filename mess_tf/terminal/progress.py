"""Progress with time left: a bar on a terminal, a line now and then elsewhere.

Library code takes a callback and knows nothing of this; commands hand it a ``Step``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from mess_tf.terminal.output_capture import terminal_descriptor

# bars: a bar on a terminal, else nothing (the default, for use as a library);
# lines: a bar on a terminal, else sparse lines (the command line);
# off: nothing.
Mode = Literal["bars", "lines", "off"]
LINE_EVERY_S = 30.0

_mode: Mode = "bars"


def show_progress(mode: Mode) -> None:
    """Says how progress is shown in this process; the command line calls it."""
    global _mode
    _mode = mode


class Step(Protocol):
    """Reports progress: by counts, by position, or as a fraction."""

    def __call__(self, count: float = 1, note: str = "") -> None:
        """``count`` more are done."""

    def at(self, done: float, total: float, note: str = "") -> None:
        """``done`` of ``total`` are done."""

    def share(self, note: str, fraction: float) -> None:
        """``fraction`` (0..1) of the whole is done."""


@contextlib.contextmanager
def progress(what: str, total: float = 1.0) -> Iterator[Step]:
    """Shows how far ``what`` has come while the block runs.

    Example:
        with progress("Training", epochs) as step:
            for epoch in range(epochs):
                ...
                step(note=f"mIoU {miou:.1%}")
    """
    with _display() as show:
        yield show(what, total)


@contextlib.contextmanager
def parallel_progress() -> Iterator[Callable[[str], Step]]:
    """Shows progress of several tasks that run at the same time, one line for each.

    Yields:
        A function that returns the ``Step`` of a task by its name; a new name is a new
        line. Steps may be used by several threads.
    """
    steps: dict[str, Step] = {}
    with _display() as show:

        def step_of(what: str) -> Step:
            if what not in steps:
                steps[what] = show(what, 1.0)
            return steps[what]

        yield step_of


@contextlib.contextmanager
def _display() -> Iterator[Callable[[str, float], Step]]:
    """Yields what shows one more thing of some total."""
    descriptor = terminal_descriptor()
    if _mode == "off":
        yield lambda what, total: _Count(total)
    elif os.isatty(descriptor):
        with _bars(descriptor) as show:
            yield show
    elif _mode == "lines":
        yield lambda what, total: _Lines(total, what, descriptor)
    else:
        yield lambda what, total: _Count(total)


class _Count:
    """Counts and shows nothing; the others show what it counts."""

    def __init__(self, total: float) -> None:
        self.done, self.total, self.note = 0.0, total, ""

    def __call__(self, count: float = 1, note: str = "") -> None:
        self.at(self.done + count, self.total, note)

    def at(self, done: float, total: float, note: str = "") -> None:
        self.done, self.total, self.note = done, total, note or self.note
        self.show()

    def share(self, note: str, fraction: float) -> None:
        self.at(fraction * self.total, self.total, note)

    def show(self) -> None:
        """Called after every change."""


class _Lines(_Count):
    def __init__(self, total: float, what: str, descriptor: int) -> None:
        super().__init__(total)
        self.what, self.descriptor = what, descriptor
        self.last_line_s = time.monotonic()
        # What an earlier call did and the first step, which compiles, are no measure.
        self.uncounted_calls = 2
        self.first: tuple[float, float] | None = None

    def show(self) -> None:
        now = time.monotonic()
        if self.uncounted_calls and self.done > 0:
            self.uncounted_calls -= 1
            self.first = now, self.done
        if now - self.last_line_s < LINE_EVERY_S or not 0 < self.done <= self.total:
            return
        self.last_line_s = now
        parts = [f"{self.what}: {self.done / self.total:.0%}", self._left(now)]
        parts.append(self.note)
        line = ", ".join(part for part in parts if part) + "\n"
        # A reader that has gone away must not stop hours of work.
        with contextlib.suppress(OSError):
            os.write(self.descriptor, line.encode())

    def _left(self, now: float) -> str:
        began, before = self.first or (now, self.done)
        if self.done <= before:
            return ""
        left_s = (now - began) * (self.total - self.done) / (self.done - before)
        return f"{_duration(left_s)} left"


class _Bar(_Count):
    def __init__(self, total: float, bar: Any, task: Any) -> None:
        super().__init__(total)
        self.bar, self.task = bar, task

    def show(self) -> None:
        self.bar.update(
            self.task, completed=self.done, total=self.total, note=self.note
        )


@contextlib.contextmanager
def _bars(descriptor: int) -> Iterator[Callable[[str, float], Step]]:
    from rich import progress as rich_progress
    from rich.console import Console

    # A copy: the bar stays on the terminal when descriptors are redirected meanwhile.
    with open(os.dup(descriptor), "w", encoding="utf-8") as stream:
        bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=stream),
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=4,
        )
        with bar:
            yield lambda what, total: _Bar(
                total, bar, bar.add_task(what, total=total, note="")
            )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
