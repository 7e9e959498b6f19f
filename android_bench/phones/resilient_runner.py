"""Runs models on a phone with retries after lost connections.

Nothing here knows adb: what runs models and what brings a phone back are arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from android_bench.adb.transport import ConnectionLost
from android_bench.errors import BenchError
from android_bench.phones.folder import NoSpace
from android_bench.phones.rounds import ScriptInterrupted
from android_bench.records import Failure, ModelFile

MOST_LOSSES = 3
"""Losses of the connection in a row, without a result between, until it is given up."""

T = TypeVar("T")
Recover = Callable[[ConnectionLost | None], None]


@dataclass
class ResilientRunner(Generic[T]):
    """Visits each model once, in order, and retries what a lost connection cut off.

    A model in flight when the connection was lost is run again, once; so is one during
    whose run the phone's clock was set. One that hung is not: it would hang again.

    Attributes:
        run: yields one outcome per model that it is given, in order.
        recover: brings the phone back, or, called with None, ends what still runs
            there; BenchError when the phone is gone for good.
        most: models to run at once.
    """

    run: Callable[[Sequence[ModelFile]], Iterator[T | Failure]]
    recover: Recover
    most: int
    _strikes: Counter[str] = field(default_factory=Counter)
    _losses: int = 0

    def visit(
        self, models: Sequence[ModelFile]
    ) -> Iterator[tuple[ModelFile, T | Failure]]:
        """Yields each model's outcome.

        Raises:
            BenchError: the phone is gone, or is lost again and again.
        """
        queue = list(models)
        while queue:
            try:
                for outcome in self.run(queue[: self.most]):
                    self._losses = 0
                    if self._is_first(queue[0], outcome):
                        self.recover(None)
                        break
                    yield queue.pop(0), outcome
            except (ScriptInterrupted, ConnectionLost, NoSpace) as error:
                failure = self._settle(error, queue[0])
                if failure is not None:
                    yield queue.pop(0), failure

    def _is_first(self, model: ModelFile, outcome: T | Failure) -> bool:
        """Whether the clock was set during the run, for the first time."""
        if not isinstance(outcome, Failure) or outcome.stage != "clock":
            return False
        self._strikes[model.sha256] += 1
        return self._strikes[model.sha256] == 1

    def _settle(self, error: Exception, model: ModelFile) -> Failure | None:
        """Makes going on possible; the failure of the model, if it is to have one."""
        if isinstance(error, NoSpace):
            if self.most == 1:
                return Failure("push", str(error))
            self.most = 1
            return None
        if isinstance(error, ScriptInterrupted) and error.lost is None:
            self.recover(None)
            return Failure("run", str(error))
        lost = error.lost if isinstance(error, ScriptInterrupted) else error
        running = isinstance(error, ScriptInterrupted) and error.running
        self._strikes[model.sha256] += running
        self._losses += 1
        if self._losses > MOST_LOSSES or not isinstance(lost, ConnectionLost):
            raise BenchError(
                f"The connection was lost {self._losses} times in a row ({error});"
                " check the cable or the network and repeat the command: what was"
                " measured is stored."
            ) from error
        self.recover(lost)
        if running and self._strikes[model.sha256] > 1:
            return Failure("run", f"the connection was lost twice while it ran: {lost}")
        return None
