"""Search results beside the final exit, the best static exit and the exported file."""

from __future__ import annotations

import dataclasses
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mess_tf.core.json_files import read_json
from mess_tf.core.latency import PathLatency
from mess_tf.reporting.configuration_records import (
    ConfigurationFigures,
    LatencyBreakdown,
    ResultSummary,
)
from mess_tf.reporting.exports import ExportedFile, check_parts
from mess_tf.reporting.latency_breakdown import latency_breakdowns, reproduces_mean
from mess_tf.reporting.records import HeadFigures
from mess_tf.runs import Run

if TYPE_CHECKING:
    from search.evaluation import Figures
    from search.result import Outcome, SearchResult


@dataclass(frozen=True)
class Setup:
    """A run, and the device and precision that a part of the report is about.

    Attributes:
        run: the opened run folder.
        device: its name.
        precision: of the pieces.
    """

    run: Run
    device: str
    precision: str

    def command(self, command: str, *options: str) -> str:
        """Shell text of a ``mess`` command for this run, device and precision."""
        where = ["--device", self.device, "--precision", self.precision]
        return shlex.join(["mess", command, str(self.run.folder), *options, *where])


def summarise_result(
    setup: Setup,
    result: SearchResult,
    latency: PathLatency,
    float_final: HeadFigures | None,
) -> ResultSummary:
    """One result of ``chosen.json`` with everything that belongs to it.

    Args:
        setup: what the result is of.
        result: as stored.
        latency: of the pieces that are measured.
        float_final: the float32 final exit on the same device.
    """
    part = "calibration" if result.report is None else "report"
    final_ms = _part(result.reference, part).mean_ms
    chosen = _figures(result.chosen, part, final_ms)
    static = result.best_static
    on_float = setup.precision == "float32"
    return ResultSummary(
        name=result.name,
        requirement=str(result.requirement),
        part=part,
        proven=result.proven,
        gap=result.gap,
        space_size=result.space_size,
        chosen=chosen,
        best_static=None if static is None else _figures(static, part, final_ms),
        reference=_figures(result.reference, part, final_ms),
        on_calibration=_figures(
            result.chosen, "calibration", result.reference.calibration.mean_ms
        ),
        breakdowns=_breakdowns(latency, result, part),
        against_float=None if on_float else _against_float(chosen, part, float_final),
        export=_export(setup, result),
        command=setup.command("profile")  # what is predicted has to be measured first
        if result.predicted
        else setup.command("export", "--choice", result.name),
        predicted=result.predicted,
    )


def reproduces(latency: PathLatency, result: SearchResult) -> bool:
    """Whether these latencies are those that the result was found with."""
    return all(
        reproduces_mean(
            latency,
            outcome.configuration,
            outcome.calibration.exit_rates,
            outcome.calibration.mean_ms,
        )
        for outcome in (result.chosen, result.reference)
    )


def _part(outcome: Outcome, part: str) -> Figures:
    held_out = outcome.report if part == "report" else None
    return outcome.calibration if held_out is None else held_out


def _figures(outcome: Outcome, part: str, final_ms: float) -> ConfigurationFigures:
    figures = _part(outcome, part)
    interval = outcome.intervals.get("drop_pp") if part == "report" else None
    return ConfigurationFigures(
        exits=outcome.configuration.exits,
        images=figures.images,
        mean_ms=figures.mean_ms,
        p90_ms=figures.p90_ms,
        miou=figures.miou,
        drop_pp=figures.drop_pp,
        exit_rates=tuple(figures.exit_rates),
        speedup=final_ms / figures.mean_ms if figures.mean_ms else math.nan,
        met=all(figures.met.values()),
        drop_interval=(interval.low, interval.high) if interval else None,
        level=interval.level if interval else None,
    )


def _against_float(
    chosen: ConfigurationFigures, part: str, final: HeadFigures | None
) -> tuple[float, float] | None:
    if final is None or final.latency_ms is None:
        return None
    miou = final.miou_report if part == "report" else final.miou_calibration
    if miou is None:
        return None
    return final.latency_ms / chosen.mean_ms, 100 * (miou - chosen.miou)


def _breakdowns(
    latency: PathLatency, result: SearchResult, part: str
) -> tuple[LatencyBreakdown, ...]:
    if not reproduces(latency, result):
        return ()
    rates = _part(result.chosen, part).exit_rates
    return latency_breakdowns(latency, result.configuration, rates)


def _export(setup: Setup, result: SearchResult) -> ExportedFile | None:
    """The file of a result's name, where it was exported from this very result."""
    run = setup.run
    folder = run.export(f"{result.name}_{setup.precision}")
    if not (folder / "card.json").is_file():
        return None
    card = read_json(folder / "card.json", "card", "mess export")
    same = card["promise"]["configuration"] == result.configuration.to_json()
    if not same or card["latency"]["device"]["name"] != setup.device:
        return None
    file = ExportedFile(
        name=folder.name,
        model=str(folder / "model.tflite"),
        size_bytes=card["size_bytes"],
        float_operators=tuple(card["inventory"]["float_operators"]),
        images=None,
        rerouted_images=None,
        parts=(),
        check_command=shlex.join(
            ["mess", "check", str(run.folder), "--name", folder.name]
        ),
    )
    if not (folder / "check.json").is_file():
        return file
    check = read_json(folder / "check.json", "check", "mess check")
    return dataclasses.replace(
        file,
        images=check["images"],
        rerouted_images=check["images_with_other_exit"],
        parts=check_parts(check),
    )
