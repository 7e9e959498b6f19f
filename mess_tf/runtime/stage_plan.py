"""``plan.json``: the exit stages of an export in files, and a reference runner.

One stage after the other: run ``file`` on the image and on what earlier stages made;
then, unless it is the last, run ``decision`` on the logits. If the confidence
reaches the threshold, or there is no decision, ``answer`` turns logits into the answer.

In a progressive plan (the anytime setting) no stage decides: each one answers, and the
next one goes on from its features until the time is up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import read_record, write_record
from mess_tf.core.piece_names import IMAGE_TENSOR
from mess_tf.core.pieces import TensorInfo
from mess_tf.runtime.interpreter import LiteRTFile
from mess_tf.runtime.linked_model import Prediction, as_input, read_prediction
from mess_tf.runtime.signature_names import CONFIDENCE, LOGITS

PLAN = "plan.json"
PLAN_SCHEMA = 1


@dataclass(frozen=True)
class PlannedStage:
    """One exit stage: its files, their inputs and outputs, and its decision.

    Attributes:
        exit: exit point, 1-based.
        file: segments and head.
        inputs: of the file: the image, and outputs of earlier stages, by name.
        outputs: of the file: the logits first, then what later stages read.
        logits: name of the logits among the outputs.
        decision: file from the logits to ``confidence`` float32 (1,); None on the last.
        compares: what the decision takes beside the logits: outputs of this or of an
            earlier stage, by name.
        policy: what the decision computes.
        threshold: the image leaves here if confidence >= threshold.
        answer: file from the logits to ``logits`` and/or ``classes``; None where the
            logits are the answer as they are.
    """

    exit: int
    file: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    logits: str
    decision: str | None
    policy: str | None
    threshold: float | None
    answer: str | None
    compares: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagePlan:
    """The stages of an export, in order of depth."""

    stages: tuple[PlannedStage, ...]
    schema: int = PLAN_SCHEMA

    @property
    def progressive(self) -> bool:
        """Whether every stage answers, and none decides."""
        return all(stage.decision is None for stage in self.stages)

    def save(self, folder: Path) -> None:
        """Writes ``plan.json``."""
        write_record(folder / PLAN, self)

    @classmethod
    def load(cls, folder: Path) -> StagePlan:
        """Reads ``plan.json``; raises like ``read_record``."""
        made_by = "mess export --form stages"
        return read_record(folder / PLAN, cls, "plan", made_by, PLAN_SCHEMA)


class StagedModel:
    """Runs an export by its plan, as a reference for apps.

    Args:
        folder: of ``plan.json`` and its files.
        threads: LiteRT threads.

    Attributes:
        plan: of the export.
        image: the input for the image.
        logits: the output for logits, None where there is none.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.plan = StagePlan.load(folder)
        self._folder = folder
        self._threads = threads
        self._files: dict[str, LiteRTFile] = {}
        first, last = self.plan.stages[0], self.plan.stages[-1]
        self.image = next(t for t in first.inputs if t.name == IMAGE_TENSOR)
        if last.answer is None:
            self.logits: TensorInfo | None = last.outputs[0]
        else:
            found = self._file(last.answer).outputs.get(LOGITS)
            self.logits = None if found is None else found[1]

    def run(
        self, image: np.ndarray, thresholds: Sequence[float] | None = None
    ) -> Prediction:
        """Segments one image; of a progressive plan the last answer.

        Args:
            image: normalised float32 (H, W, 3), or uint8 RGB pixels for files that take
                these.
            thresholds: one per early exit instead of the plan's.
        """
        if self.plan.progressive:
            *_, last = self.answers(image)
            return last
        tensors = {IMAGE_TENSOR: as_input(image, self.image, self._folder)}
        planned = [stage.threshold for stage in self.plan.stages]
        limits = planned if thresholds is None else [*thresholds, None]
        for stage, limit in zip(self.plan.stages, limits, strict=True):
            tensors.update(self._file(stage.file).run(tensors))
            logits = tensors[stage.logits]
            if limit is None or self._confidence(stage, tensors) >= np.float32(limit):
                return self._predict(stage, logits)
        raise MessError(f"The plan in {self._folder} has no last stage; export again.")

    def answers(self, image: np.ndarray) -> Iterator[Prediction]:
        """Segments one image stage after stage; yields the answer of every stage.

        Nothing is run before it is asked for: whoever stops asking when the time is up
        has paid for what was answered only.

        Args:
            image: as ``run`` takes it.
        """
        tensors = {IMAGE_TENSOR: as_input(image, self.image, self._folder)}
        for stage in self.plan.stages:
            tensors.update(self._file(stage.file).run(tensors))
            yield self._predict(stage, tensors[stage.logits])

    def _confidence(
        self, stage: PlannedStage, tensors: Mapping[str, np.ndarray]
    ) -> float:
        file = self._file(str(stage.decision))
        return float(file.run(tensors)[CONFIDENCE][0])

    def _predict(self, stage: PlannedStage, logits: np.ndarray) -> Prediction:
        if stage.answer is None:
            outputs = {LOGITS: logits}
        else:
            outputs = self._file(stage.answer).run({stage.logits: logits})
        return self.read(outputs, stage)

    def read(
        self, outputs: Mapping[str, np.ndarray], stage: PlannedStage
    ) -> Prediction:
        """The outputs of a stage's answer file (or its logits) as a prediction."""
        return read_prediction(outputs, self.logits, stage.exit)

    def _file(self, name: str) -> LiteRTFile:
        if name not in self._files:
            self._files[name] = LiteRTFile(self._folder / name, self._threads)
        return self._files[name]
