"""A search result beside the final exit and the best static one, with its file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mess_tf.records import Configuration, ExitChoice, SupernetSpec, read_json
from mess_tf.report.costs import parts_ms
from mess_tf.report.records import Answer, Bar, CheckedPart, Entry, Export, HeadFigure
from mess_tf.runs import Run


def make_answer(
    run: Run,
    spec: SupernetSpec,
    result: Mapping[str, Any],
    device: str,
    precision: str,
    by_piece: Mapping[str, float],
    float_final: HeadFigure | None,
) -> Answer:
    """One result of ``chosen.json`` with everything that belongs to it.

    Args:
        result: as stored, with the requirement as text in ``wish``.
        by_piece: milliseconds by piece name; empty where not known.
        float_final: the float32 final exit on the same device.
    """
    part = "calibration" if result["chosen"]["report"] is None else "report"
    final_ms = result["reference"][part]["mean_ms"]
    chosen = _entry(result["chosen"], part, final_ms)
    static = result["best_static"]
    return Answer(
        name=result["name"],
        wish=result["wish"],
        part=part,
        proven=result["proven"],
        gap=result["gap"],
        space_size=result["space_size"],
        chosen=chosen,
        best_static=None if static is None else _entry(static, part, final_ms),
        reference=_entry(result["reference"], part, final_ms),
        on_calibration=_entry(
            result["chosen"],
            "calibration",
            result["reference"]["calibration"]["mean_ms"],
        ),
        bars=_bars(spec, by_piece, result, part),
        against_float=None
        if precision == "float32"
        else _against(chosen, part, float_final),
        export=_export(run, result, device, precision),
        export_command=shlex.join(
            ["mess", "export", str(run.folder), "--choice", result["name"]]
            + ["--device", device, "--precision", precision]
        ),
    )


def reproduces(
    spec: SupernetSpec, by_piece: Mapping[str, float], result: Mapping[str, Any]
) -> bool:
    """Whether these latencies are those that the result was found with."""
    for outcome in (result["chosen"], result["reference"]):
        configuration = Configuration.from_json(outcome["configuration"])
        table = parts_ms(spec, by_piece, configuration)
        figures = outcome["calibration"]
        if table is None or not math.isclose(
            np.dot(figures["exit_rates"], table.sum(axis=1)),
            figures["mean_ms"],
            rel_tol=1e-6,
        ):
            return False
    return True


def exit_names(exits: Sequence[ExitChoice]) -> list[str]:
    """``exit 3`` for every kept exit."""
    return [f"exit {choice.exit}" for choice in exits]


def _entry(outcome: Mapping[str, Any], part: str, final_ms: float) -> Entry:
    figures = outcome[part]
    interval = outcome["intervals"].get("drop_pp") if part == "report" else None
    return Entry(
        exits=Configuration.from_json(outcome["configuration"]).exits,
        images=figures["images"],
        mean_ms=figures["mean_ms"],
        p90_ms=figures["p90_ms"],
        miou=figures["miou"],
        drop_pp=figures["drop_pp"],
        exit_rates=tuple(figures["exit_rates"]),
        speedup=final_ms / figures["mean_ms"] if figures["mean_ms"] else math.nan,
        met=all(figures["met"].values()),
        drop_interval=(interval["low"], interval["high"]) if interval else None,
        level=interval["level"] if interval else None,
    )


def _against(
    chosen: Entry, part: str, final: HeadFigure | None
) -> tuple[float, float] | None:
    if final is None or final.latency_ms is None:
        return None
    miou = final.miou_report if part == "report" else final.miou_calibration
    if miou is None:
        return None
    return final.latency_ms / chosen.mean_ms, 100 * (miou - chosen.miou)


def _bars(
    spec: SupernetSpec,
    by_piece: Mapping[str, float],
    result: Mapping[str, Any],
    part: str,
) -> tuple[Bar, ...]:
    """A bar per path, their mean over the images, and one for the final exit."""
    if not reproduces(spec, by_piece, result):
        return ()
    configuration = Configuration.from_json(result["chosen"]["configuration"])
    table = parts_ms(spec, by_piece, configuration)
    final = parts_ms(
        spec, by_piece, Configuration.from_json(result["reference"]["configuration"])
    )
    if table is None or final is None:
        return ()
    rates = np.array(result["chosen"][part]["exit_rates"])
    names = exit_names(configuration.exits)
    rows = [
        (f"left at {name} ({rate:.0%})", row)
        for name, rate, row in zip(names, rates, table, strict=True)
    ]
    rows += [("mean over images", rates @ table), ("final exit alone", final[0])]
    return tuple(Bar(label, tuple(row.tolist())) for label, row in rows)


def _export(
    run: Run, result: Mapping[str, Any], device: str, precision: str
) -> Export | None:
    """The file of a result's name, where it is made of this very result."""
    folder = run.export(f"{result['name']}_{precision}")
    if not (folder / "card.json").is_file():
        return None
    card = read_json(folder / "card.json", "card", "mess export")
    same = card["promise"]["configuration"] == result["chosen"]["configuration"]
    if not same or card["latency"]["device"]["name"] != device:
        return None
    checked: dict[str, Any] = {"images": None, "elsewhere": None, "parts": ()}
    if (folder / "check.json").is_file():
        checked = _checked(read_json(folder / "check.json", "check", "mess check"))
    return Export(
        name=folder.name,
        model=str(folder / "model.tflite"),
        size_bytes=card["size_bytes"],
        float_operators=tuple(card["inventory"]["float_operators"]),
        check_command=shlex.join(
            ["mess", "check", str(run.folder), "--name", folder.name]
        ),
        **checked,
    )


def _checked(check: Mapping[str, Any]) -> dict[str, Any]:
    parts = tuple(
        CheckedPart(
            part=part,
            promised_ms=row["promised_ms"],
            promised_now_ms=row["promised_at_present_speed_ms"],
            measured_ms=row["measured_ms"],
            promised_rates=tuple(row["promised_exit_rates"]),
            measured_rates=tuple(row["measured_exit_rates"]),
            promised_miou=row["promised_miou"],
            measured_miou=row["measured_miou"],
        )
        for part, row in check["parts"].items()
    )
    return {
        "images": check["images"],
        "elsewhere": check["images_with_other_exit"],
        "parts": parts,
    }
