"""The final exit of another run as a teacher, frozen and in inference mode.

Networks know objects at the size in pixels that they were trained with, so a crop is
enlarged or reduced as much as the teacher's input is larger or smaller than the
student's: a teacher of 240x320 sees the 96x128 crop of a student of 96x128 at 240x320,
if with no more detail. One that works at a single size sees every crop at that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import keras
import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.models.supernet import Supernet
from mess_tf.training.step_model import predicted, resized


class Teacher:
    """Answers for a student's crops."""

    def __init__(self, supernet: Supernet, student: SupernetSpec) -> None:
        """``supernet`` is trained; ``student`` says what a crop of it looks like."""
        self.spec, self.student = supernet.spec, student
        self.model = keras.Model(
            supernet.model.input, supernet.final_logits(), name="teacher"
        )
        self.model.trainable = False

    def answer(self, images: np.ndarray, grid: Sequence[int]) -> np.ndarray:
        """The final exit's logits.

        Args:
            images: float32 (B, H, W, 3), normalised for the student.
            grid: (height, width) in cells.

        Returns:
            float32 array of shape (B, height, width, C).
        """
        mine, theirs = self.spec.preprocessing, self.student.preprocessing
        pixels = images * np.array(theirs.std) + np.array(theirs.mean)
        normalised = (pixels - np.array(mine.mean)) / np.array(mine.std)
        seen = resized(
            normalised.astype(np.float32), self.input_size(images.shape[1:3])
        )
        return resized(predicted(self.model, seen)[0], grid)

    def input_size(self, crop: Sequence[int]) -> tuple[int, int]:
        """(height, width) in pixels at which it sees a crop of (height, width)."""
        only = self.model.input.shape[1:3]
        if None not in only:
            return only[0], only[1]
        here = (self.spec.image_height, self.spec.image_width)
        there = (self.student.image_height, self.student.image_width)
        stride = self.spec.output_stride
        height, width = (
            max(1, round(side * a / b / stride)) * stride
            for side, a, b in zip(crop, here, there, strict=True)
        )
        return height, width


def load_teacher(folder: Path, student: SupernetSpec) -> Teacher:
    """Reads the run that teaches ``student``; raises like ``check_teacher``."""
    check_teacher(folder, student.classes)
    return Teacher(Supernet.load(folder), student)


def check_teacher(folder: Path, classes: Sequence[str]) -> None:
    """Whether a run can teach a network of these classes.

    Raises:
        MessError: there is no such run, it is not trained, or has other classes.
    """
    if not (folder / "supernet.keras").is_file():
        raise MessError(
            f"training.teacher = {str(folder)!r} is not accepted: there is no trained"
            f" network in it. Run `mess train {folder}` to its end first, or name"
            " another run."
        )
    theirs = SupernetSpec.load(folder / "supernet.json").classes
    for index, (there, here) in enumerate(zip_longest(theirs, classes)):
        if there != here:
            raise MessError(
                f"training.teacher = {str(folder)!r} is not accepted: its class"
                f" {index} is {there or 'missing'}, that of this data set"
                f" {here or 'missing'}; name a run of the same classes in the same"
                " order."
            )
