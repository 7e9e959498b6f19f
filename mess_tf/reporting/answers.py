"""A search result beside the final exit and the best static one, with its file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from mess_tf.core.configuration import Configuration
from mess_tf.core.json_files import read_json
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.reporting.costs import adds_up, make_bars
from mess_tf.reporting.records import (
    Answer,
    Bar,
    CheckedPart,
    Entry,
    Export,
    HeadFigure,
)
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
        command=_command(run, result, device, precision),
        predicted=result["predicted"],
    )


def _command(run: Run, result: Mapping[str, Any], device: str, precision: str) -> str:
    """Makes the file; what rests on predictions has to be measured before."""
    where = ["--device", device, "--precision", precision]
    if result["predicted"]:
        return shlex.join(["mess", "profile", str(run.folder), *where])
    export = ["mess", "export", str(run.folder), "--choice", result["name"]]
    return shlex.join([*export, *where])


def reproduces(
    spec: SupernetSpec, by_piece: Mapping[str, float], result: Mapping[str, Any]
) -> bool:
    """Whether these latencies are those that the result was found with."""
    return all(
        adds_up(
            spec,
            by_piece,
            Configuration.from_json(outcome["configuration"]),
            outcome["calibration"]["exit_rates"],
            outcome["calibration"]["mean_ms"],
        )
        for outcome in (result["chosen"], result["reference"])
    )


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
    if not reproduces(spec, by_piece, result):
        return ()
    chosen = result["chosen"]
    configuration = Configuration.from_json(chosen["configuration"])
    return make_bars(spec, by_piece, configuration, chosen[part]["exit_rates"])


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
