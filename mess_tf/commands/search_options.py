"""How ``mess search`` looks for an answer to a requirement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from mess_tf.commands.arguments import check_choice
from mess_tf.core.errors import UsageError
from search.generalisation.guarantees import Guarantee
from search.jobs import Engine
from search.requirement import Setting

DEFAULT_IMAGE_DROP_PP = 10.0


@dataclass(frozen=True)
class SearchOptions:
    """How to search; requirements themselves are ``search.requirement.Requirement``.

    Attributes:
        setting: how the exit is chosen: per image by its confidence, or one exit for
            all images.
        max_early_exits: exits before the last one, at most (default: the recipe's; two
            for the Pareto front).
        confidence: e.g. 0.95: at most the rest of new images (5 %) loses more than
            --max-image-drop-pp, with this probability; half of the calibration's groups
            are kept to test that.
        max_image_drop_pp: largest loss of an image's mIoU against the final exit, for
            --confidence, absolute points (default: 10).
        finalists: so many of the best are linked and measured on the device, and the
            one that measures best is chosen; 1 chooses by the promise alone.
        time_limit_s: longest search per requirement, seconds.
        engine: where several devices and requirements are searched: one after the other
            here, or spread over a Dask cluster.
        scheduler: address of a Dask cluster, e.g. tcp://10.0.0.5:8786 (default: two
            workers here).

    Raises:
        UsageError: a value that is not accepted, or one without effect.
    """

    setting: Setting = "input-dependent"
    max_early_exits: int | None = None
    confidence: float | None = None
    max_image_drop_pp: float | None = None
    finalists: int = 1
    time_limit_s: float = 120.0
    engine: Engine = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        check_choice("setting", self.setting, get_args(Setting))
        check_choice("engine", self.engine, get_args(Engine))
        if self.setting == "budgeted" and self.max_early_exits is not None:
            raise UsageError(
                "--setting budgeted has one exit for all images, so --max-early-exits"
                f" {self.max_early_exits} is without effect; leave one of them out."
            )
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise UsageError(
                f"--confidence is {self.confidence:g}; give a probability between 0 and"
                " 1, e.g. 0.95."
            )
        if self.max_image_drop_pp is not None and self.confidence is None:
            raise UsageError(
                f"--max-image-drop-pp {self.max_image_drop_pp:g} is without effect"
                " without --confidence; give both, e.g. --confidence 0.95."
            )

    @property
    def guarantee(self) -> Guarantee | None:
        """What is promised of new images; None where no confidence is asked for."""
        if self.confidence is None:
            return None
        drop_pp = self.max_image_drop_pp
        return Guarantee(
            DEFAULT_IMAGE_DROP_PP if drop_pp is None else drop_pp,
            1 - self.confidence,
            self.confidence,
        )
