"""The forms in which a configuration leaves: what is written, what goes in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mess_tf.core.errors import UsageError
from mess_tf.core.precisions import Precision, has_int8_activations
from mess_tf.core.supernet_spec import SupernetSpec

Form = Literal["linked", "stages", "single", "progressive"]
IoType = Literal["float32", "int8", "uint8"]
AnswerContent = Literal["logits", "classes", "both"]
Resolution = Literal["grid", "image"]

MOST_CLASSES = 256  # class ids are uint8


@dataclass(frozen=True)
class ExportForm:
    """What an export is made as; None means as the pieces are.

    Attributes:
        form: linked: one file that decides by itself; stages: a file per exit and a
            plan, for delegates without IF; single: the best single exit; progressive:
            a file per exit and a plan in which every exit answers, for deadlines
            (results of --setting anytime are always written so).
        input: type of the image: float32 normalised, int8 the same in the pieces'
            steps, uint8 RGB pixels of a camera, normalised inside (default: as the
            pieces).
        output: type of the logits (default: as the pieces).
        answer: what comes out: logits, class ids (uint8) or both.
        resolution: resolution of the answer: the network's grid of logits, or the
            image's.
        threshold_input: make thresholds an input: a speed knob at run time.
        exit_signatures: add signatures exit_<k> that run up to exit k and answer there,
            without decisions.
    """

    form: Form = "linked"
    input: IoType | None = None
    output: IoType | None = None
    answer: AnswerContent = "logits"
    resolution: Resolution = "grid"
    threshold_input: bool = False
    exit_signatures: bool = False

    @property
    def has_plan(self) -> bool:
        """Whether it is several files, and a plan that says what to do with them."""
        return self.form in ("stages", "progressive")

    @property
    def gives_logits(self) -> bool:
        return self.answer != "classes"

    @property
    def gives_classes(self) -> bool:
        return self.answer != "logits"

    @property
    def suffix(self) -> str:
        """What tells this form from the default in the name of an export."""
        parts = [
            self.form if self.form != "linked" else "",
            f"{self.input}-in" if self.input else "",
            f"{self.output}-out" if self.output else "",
            self.answer if self.answer != "logits" else "",
            "image" if self.resolution == "image" else "",
            "thresholds" if self.threshold_input else "",
            "exits" if self.exit_signatures else "",
        ]
        return "".join(f"_{part}" for part in parts if part)

    def answer_size(self, spec: SupernetSpec) -> tuple[int, int]:
        """(height, width) of the answer."""
        if self.resolution == "image":
            return spec.image_height, spec.image_width
        return spec.output_size

    def check(self, precision: Precision, classes: int) -> None:
        """Checks that the options go together.

        Raises:
            UsageError: names the option that does not, and what does.
        """
        if not has_int8_activations(precision):
            if self.input == "int8":
                raise UsageError(
                    f"--input int8 needs int8 pieces; {precision} ones take float32 or"
                    " uint8 (pixels)."
                )
            if self.output in ("int8", "uint8"):
                raise UsageError(
                    f"--output {self.output} needs int8 pieces; {precision} ones give"
                    " float32."
                )
        if self.output and not self.gives_logits:
            raise UsageError(
                f"--output {self.output} is the type of logits, and --answer classes"
                " gives none; class ids are always uint8."
            )
        if self.gives_classes and classes > MOST_CLASSES:
            raise UsageError(
                f"--answer {self.answer}: {classes} classes do not fit uint8 ids; at"
                f" most {MOST_CLASSES}. Take logits."
            )
        if self.threshold_input and self.form != "linked":
            raise UsageError(
                f"--threshold-input is for --form linked; with {self.form} thresholds"
                " are no part of the files."
            )
        if self.exit_signatures and self.form != "linked":
            raise UsageError(
                f"--exit-signatures is for --form linked; {self.form} has files of"
                " single exits anyway."
            )
