"""How ``mess search`` looks for an answer to a requirement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from mess_tf.commands.arguments import as_tuple, check_choice
from mess_tf.core.errors import MessError, UsageError
from search.anytime import Deadline
from search.generalisation.guarantees import Guarantee
from search.jobs import Engine
from search.requirement import Setting

DEFAULT_IMAGE_DROP_PP = 10.0


@dataclass(frozen=True)
class SearchOptions:
    """How to search; requirements themselves are ``search.requirement.Requirement``.

    Attributes:
        setting: what answers: per image the exit that is confident, one exit for all
            images, or exit after exit until a deadline (anytime).
        deadline: for --setting anytime: milliseconds at which an answer is wanted, and
            how much it counts, e.g. 8 or 8:2; may be repeated.
        max_early_exits: exits before the last one, at most (default: the recipe's; two
            for the Pareto front; any number for --setting anytime).
        confidence: e.g. 0.95: at most the rest of new images (5 %) loses more than
            --max-image-drop-pp, with this probability; half of the calibration's groups
            are set aside to test that.
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
    deadline: str | Sequence[str] = ()
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
        # The command line passes a list: equal options are to be equal records.
        object.__setattr__(self, "deadline", as_tuple(self.deadline))
        if self.setting == "anytime":
            self._check_anytime()
        elif self.deadline:
            raise UsageError(
                f"--deadline {self.deadline[0]} is without effect without --setting"
                " anytime; give both."
            )
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

    def _check_anytime(self) -> None:
        if not self.deadlines:
            raise UsageError(
                "--setting anytime needs a deadline: give --deadline MS[:WEIGHT], e.g."
                " --deadline 8 or --deadline 8:2."
            )
        for name in ("confidence", "finalists", "time_limit_s", "engine", "scheduler"):
            value, default = getattr(self, name), getattr(SearchOptions, name)
            if value != default:
                raise UsageError(
                    f"--{name.replace('_', '-')} {value} is without effect with"
                    " --setting anytime, whose exits have no thresholds and are found"
                    " at once; leave it out."
                )

    @property
    def deadlines(self) -> tuple[Deadline, ...]:
        """The deadlines in order of time; empty in other settings than anytime.

        Raises:
            UsageError: one cannot be read or is not positive, or two are at one time.
        """
        return parse_deadlines(as_tuple(self.deadline))

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


def parse_deadlines(texts: Sequence[str]) -> tuple[Deadline, ...]:
    """Deadlines from ``MS[:WEIGHT]``, in order of time.

    Raises:
        UsageError: one cannot be read or is not positive, or two are at one time.
    """
    deadlines: dict[float, Deadline] = {}
    for text in texts:
        try:
            deadline = Deadline(*map(float, text.split(":", 1)))
        except (ValueError, MessError) as error:
            raise UsageError(
                f"--deadline {text} is not MS[:WEIGHT]: give positive milliseconds and,"
                " if it is to count more or less than the others, a positive weight,"
                " e.g. 8 or 8:2."
            ) from error
        if deadline.deadline_ms in deadlines:
            raise UsageError(
                f"--deadline {deadline.deadline_ms:g} is given twice; give it once,"
                " with the sum of the weights."
            )
        deadlines[deadline.deadline_ms] = deadline
    return tuple(deadlines[time_ms] for time_ms in sorted(deadlines))


def anytime_name(deadlines: Sequence[Deadline]) -> str:
    """Name of a result for deadlines: ``anytime-4-8``, ``anytime-4x1-8x2``."""
    weighted = any(deadline.weight != 1 for deadline in deadlines)
    return "-".join(
        ["anytime"]
        + [
            f"{deadline.deadline_ms:g}" + (f"x{deadline.weight:g}" if weighted else "")
            for deadline in deadlines
        ]
    )
