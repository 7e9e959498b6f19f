"""Parameters of one search: the space, the time, and what the result must come with."""

from __future__ import annotations

from dataclasses import dataclass

from mess_tf.core.errors import MessError
from search.generalisation.guarantees import Guarantee
from search.requirement import ONE_ANSWER_SETTINGS, OneAnswerSetting
from search.solver.options import DEFAULT_OPTIONS, SolverOptions


@dataclass(frozen=True)
class SearchParameters:
    """How ``search.run.search`` and ``search.pareto.pareto_front`` search.

    ``mess_tf.SearchOptions`` are the options of the command, with the recipe's values
    as defaults; these are the values themselves.

    Attributes:
        setting: ``input-dependent`` (confidence decides per image) or ``budgeted`` (one
            exit for all images).
        max_early_exits: exits before the last one, at most.
        thresholds_per_policy: thresholds per head and policy in the space, at most.
        time_limit_s: after this the incumbent is returned with the gap left; for each
            of the searches that a robust choice takes, and for the whole of a front.
        guarantee: half of the calibration's groups are set aside for testing, and
            thresholds are drawn back until the guarantee holds; not for a front.
        finalists: number of the best configurations to return, each of other heads and
            within ``search.run.RUNNER_UP_TOLERANCE`` of the optimum, for
            ``search.finalists.rerank_by_measurement``; not for a front.
        seed: of the bootstrap and of the choice of groups set aside for testing.
        solver: tunables of the branch and bound; ``runner_up_tolerance`` is set by
            ``finalists``.

    Raises:
        MessError: a value that is not accepted, or two that exclude each other.
    """

    setting: OneAnswerSetting = "input-dependent"
    max_early_exits: int = 3
    thresholds_per_policy: int = 24
    time_limit_s: float = 120.0
    guarantee: Guarantee | None = None
    finalists: int = 1
    seed: int = 0
    solver: SolverOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        if self.setting not in ONE_ANSWER_SETTINGS:
            raise MessError(
                f"Setting {self.setting!r} is unknown here; accepted:"
                f" {ONE_ANSWER_SETTINGS}."
            )
        for name, least in (
            ("max_early_exits", 0),
            ("thresholds_per_policy", 1),
            ("finalists", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise MessError(f"{name} is {value}; it must be at least {least}.")
        if not self.time_limit_s > 0:
            raise MessError(
                f"time_limit_s is {self.time_limit_s}; it must be positive."
            )
        if self.finalists > 1 and self.guarantee is not None:
            raise MessError(
                "Finalists were asked for together with a guarantee, which is tested"
                " for one configuration; leave one of them out."
            )

    @property
    def early_exits(self) -> int:
        """Early exits of the space, at most: none in the setting ``budgeted``."""
        return 0 if self.setting == "budgeted" else self.max_early_exits
