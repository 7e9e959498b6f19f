"""Stage 1: backbone and final head, and early exits beside them.

How far early exits shape the backbone is what training schemes differ in. The paper's
("two-stage") lets the final exit and *one* early exit count per step, in round-robin
("exit dropout"); E2E (MSDNet, BranchyNet) lets all of them count always and has no
second stage; Frozen (SDN, HAPI) trains the final exit alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from mess_tf.core.segmentation_metrics import Areas
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.models.supernet import Supernet
from mess_tf.recipe.sections import ExitLoss, Taught
from mess_tf.training.losses import exit_loss, resize_to
from mess_tf.training.schedule import Optimisation
from mess_tf.training.step_model import (
    StepModel,
    areas_on_grid,
    as_list,
    compile_model,
    predicted,
    state,
)
from mess_tf.training.teacher import Teacher


@dataclass(frozen=True)
class ExitLossConfig:
    """Losses of early exits in stage 1, beside that of the final exit.

    Attributes:
        early_exits_per_step: early exits whose turn it is; more than there are = all.
        loss: of early exits; the final exit is the teacher of those that have one.
        alpha: weight of the teacher.
        teacher_targets: exits that another run teaches: the final one, by ``kd``, or
            the early ones, in place of the final exit.
    """

    early_exits_per_step: int = 1
    loss: ExitLoss = "ce"
    alpha: float = 0.5
    teacher_targets: Sequence[Taught] = ()


class MultiExitModel(StepModel):
    """Final head and early heads, trained jointly (stage 1).

    ``y`` is a dict: ``labels`` (B, h, w) int, ``turn`` (B, outputs) float, 1 where an
    output counts, and where another run teaches ``teacher`` (B, h, w, C), its logits.
    """

    loss_config: ExitLossConfig
    final: int

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        labels, weights = y["labels"], self.class_weights
        height, width = labels.shape[1:3]
        outputs = [resize_to(p, height, width) for p in as_list(y_pred)]
        final, alpha, targets = (
            outputs[self.final],
            self.loss_config.alpha,
            self.loss_config.teacher_targets,
        )
        final_loss: ExitLoss = "kd" if "final" in targets else "ce"
        loss = exit_loss(final_loss, final, y.get("teacher"), labels, alpha, weights)
        teacher = y["teacher"] if "early" in targets else final
        for i, logits in enumerate(outputs):
            if i != self.final:
                early_loss = exit_loss(
                    self.loss_config.loss, logits, teacher, labels, alpha, weights
                )
                loss = loss + y["turn"][:, i] * early_loss
        return ops.mean(loss)


class StageOne:
    """Joint training of backbone, final head and the early heads of the layout."""

    name = "stage1"

    def __init__(
        self,
        supernet: Supernet,
        optimisation: Optimisation,
        class_weights: np.ndarray,
        loss_config: ExitLossConfig = ExitLossConfig(),
        teacher: Teacher | None = None,
    ) -> None:
        """``supernet`` has the heads that this stage trains, and any image size;
        ``teacher`` teaches those in ``loss_config.teacher_targets``."""
        self.supernet = supernet
        self.teacher = teacher
        spec = supernet.spec
        heads = spec.head_names()
        last = len(spec.exit_points)
        self.final = heads.index((last, spec.final_head.id))
        self.exit_of_output = np.array([exit_index for exit_index, _ in heads])
        # Further heads at the final exit point take a turn as early exits do.
        self.always = np.arange(len(heads)) == self.final
        self.round_robin_exits = np.unique(self.exit_of_output[~self.always])
        self.exits_per_step = min(
            loss_config.early_exits_per_step, len(self.round_robin_exits)
        )
        self.output_names = [
            "final" if i == self.final else f"exit_{exit_index}/{head_id}"
            for i, (exit_index, head_id) in enumerate(heads)
        ]
        self.model = MultiExitModel(
            supernet.model.input, supernet.model.outputs, name="joint"
        )
        self.model.class_weights = class_weights
        self.model.loss_config, self.model.final = loss_config, self.final
        compile_model(self.model, optimisation)

    def step(self, images: np.ndarray, labels: np.ndarray, step: int) -> float:
        """One update; returns the loss.

        Args:
            images: float32 (B, H, W, 3), normalised.
            labels: integers (B, h, w).
            step: number of this step since the stage began; decides whose turn it is.
        """
        places = step * self.exits_per_step + np.arange(self.exits_per_step)
        exits = self.round_robin_exits[places % max(1, len(self.round_robin_exits))]
        takes_turn = np.isin(self.exit_of_output, exits) & ~self.always
        counts = self.always | takes_turn
        turn = np.tile(counts.astype(np.float32), (len(images), 1))
        y = {"labels": labels.astype(np.int32), "turn": turn}
        if self.teacher is not None:
            y["teacher"] = self.teacher.answer(images, labels.shape[1:3])
        return float(self.model.train_on_batch(images, y))

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> dict[str, Areas]:
        """Areas per head on the label grid, ``exit_<k>/<id>``, and of ``final``."""
        logits = predicted(self.model, images)
        return {
            name: areas_on_grid(values, labels)
            for name, values in zip(self.output_names, logits, strict=True)
        }

    def variables(self) -> list[Any]:
        """Everything a checkpoint has to hold, in a fixed order."""
        return state(self.model)


def stage_one_spec(spec: SupernetSpec, *, early: bool = True) -> SupernetSpec:
    """Layout of stage 1: plain FCN heads at the early exits, and the final head.

    Plain FCN heads are our choice where the paper's text is silent. If the full layout
    has one beside the final head, it is trained here as the early exits are, so that
    the backbone serves it too. Stage 2 goes on with those that are candidates there.

    Args:
        spec: the full layout.
        early: False leaves the final head alone (Frozen).
    """
    plain = HeadSpec()
    if not early:
        heads: tuple[tuple[HeadSpec, ...], ...] = ((),) * (len(spec.exit_points) - 1)
        return dataclasses.replace(spec, heads=(*heads, (spec.final_head,)))
    also = (plain,) if plain in spec.heads[-1][1:] else ()
    heads = ((plain,),) * (len(spec.exit_points) - 1)
    return dataclasses.replace(spec, heads=(*heads, (spec.final_head, *also)))
