"""The protocol of a device that can be measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from android_bench.operator_records import OperatorTime
from android_bench.records import (
    Conditions,
    DeviceInfo,
    Failure,
    MeasureSettings,
    ModelFile,
    Round,
    Tool,
)

ModelInputs = Sequence[np.ndarray] | Mapping[str, np.ndarray]
ModelOutputs = Mapping[str, np.ndarray]


class Device(Protocol):
    """A computer that runs ``.tflite`` files and times them.

    What is wrong with a model is a ``Failure`` value; what is wrong with the device as
    a whole (gone, refused, unusable settings) is a BenchError. Every call ends: each
    wait is bounded by ``settings.timeout_s`` or a limit of the device.
    """

    def describe(self) -> DeviceInfo:
        """What it is; the same answer for as long as it is open."""
        ...

    def tool(self) -> Tool:
        """The program that takes the time."""
        ...

    def state(self) -> Conditions:
        """Its state now; cheap enough to ask before every round."""
        ...

    def benchmark(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, Round | Failure]]:
        """Visits each model once, in the order given, and yields each outcome at once.

        One call is one round: which models meet in it, in which order and how often is
        decided by ``android_bench.measure``. A device may batch the visits as it likes
        as long as the order is kept and outcomes arrive while later models still run.

        Raises:
            BenchError: the device is lost or cannot do what ``settings`` ask.
        """
        ...

    def profile_operators(
        self, models: Sequence[ModelFile], settings: MeasureSettings
    ) -> Iterator[tuple[ModelFile, tuple[OperatorTime, ...] | Failure]]:
        """Visits each model once under profiling; yields each model's operators.

        Raises:
            BenchError: the device is lost, or cannot profile operators as ``settings``
                ask.
        """
        ...

    def infer(
        self,
        model: ModelFile,
        inputs: Iterable[ModelInputs],
        settings: MeasureSettings,
    ) -> Iterator[tuple[float, ModelOutputs]]:
        """Runs real inputs; yields (latency in microseconds, outputs by name) of each.

        The latency is the median of a few runs after one that is not counted: how long
        the model takes amid a stream of inputs, as ``benchmark`` measures it.

        Args:
            inputs: per item the model's inputs, in the model's order or by name.
            settings: threads, delegate, warm-up (on the first input) and timeout.

        Raises:
            BenchError: the model cannot be opened, fed or run, or the device is lost.
        """
        ...

    def close(self) -> None:
        """Ends what was started on the device and leaves nothing there."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
